//! The messages, with the fields that are read. Texts are bytes: Go's encoder does not check that
//! they are UTF-8, and one bad text must not make its message unreadable. [`Bytes`] share the
//! memory of what they are decoded from.

use bytes::Bytes;
use prost::Message;

/// runtime.Unknown: the envelope of an object.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Unknown {
    #[prost(message, optional, tag = "1")]
    pub(super) type_meta: Option<TypeMeta>,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) raw: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TypeMeta {
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) kind: Bytes,
}

/// meta/v1.WatchEvent
#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchEventMessage {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) kind: Bytes,
    #[prost(message, optional, tag = "2")]
    pub(super) object: Option<RawExtension>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RawExtension {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) raw: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ListMeta {
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) resource_version: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) continue_token: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeMessage {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    pub(super) spec: Option<NodeSpec>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ObjectMeta {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) name: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) uid: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    pub(super) resource_version: Bytes,
    #[prost(message, optional, tag = "8")]
    pub(super) creation: Option<Time>,
    #[prost(message, repeated, tag = "12")]
    pub(super) annotations: Vec<Annotation>,
}

/// An entry of the map of annotations.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Annotation {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Time {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeSpec {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) pod_cidr: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub(super) pod_cidrs: Vec<Bytes>,
}

/// A node's status, which is decoded for the own node only.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeWithStatus {
    #[prost(message, optional, tag = "3")]
    pub(super) status: Option<NodeStatus>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeStatus {
    #[prost(message, repeated, tag = "4")]
    pub(super) conditions: Vec<NodeCondition>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeCondition {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) kind: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) status: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub(super) reason: Bytes,
}

/// meta/v1.Status: an error.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StatusMessage {
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) message: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) reason: Bytes,
    #[prost(int32, tag = "6")]
    pub(super) code: i32,
}
