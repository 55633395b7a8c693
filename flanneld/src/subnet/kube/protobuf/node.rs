//! A Node object as it arrives.

use super::{
    DecodeError,
    messages::{Annotation, NodeMessage, NodeWithStatus, ObjectMeta},
    text, unwrap_object,
};
use crate::subnet::kube::{Condition, Keys, Node};
use bytes::Bytes;
use prost::Message;
use std::{
    borrow::Cow,
    hash::{BuildHasher, Hash, Hasher},
};

/// The annotation of the bookmark that ends a streaming list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
const NETWORK_UNAVAILABLE: &str = "NetworkUnavailable";

/// A Node object. It shares the memory of its message, and goes soon: what is kept is a [`Node`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodeObject {
    metadata: ObjectMeta,
    pod_cidrs: Vec<Bytes>,
    /// the whole object, for the status
    raw: Bytes,
}

impl NodeObject {
    /// Decodes an item of a list.
    pub(in crate::subnet::kube) fn decode(raw: Bytes) -> Result<NodeObject, DecodeError> {
        let message = NodeMessage::decode(raw.clone())?;
        let spec = message.spec.unwrap_or_default();
        let mut pod_cidrs = spec.pod_cidrs;
        if pod_cidrs.is_empty() && !spec.pod_cidr.is_empty() {
            pod_cidrs.push(spec.pod_cidr);
        }
        Ok(NodeObject {
            metadata: message.metadata.unwrap_or_default(),
            pod_cidrs,
            raw,
        })
    }

    /// Decodes the object of an event.
    pub(super) fn unwrap(object: Bytes) -> Result<NodeObject, DecodeError> {
        match unwrap_object(object)? {
            (kind, raw) if kind == "Node" => NodeObject::decode(raw),
            (kind, _) => Err(DecodeError::Kind {
                found: text(&kind),
                expected: "Node",
            }),
        }
    }

    pub(crate) fn name(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.metadata.name)
    }

    pub(crate) fn resource_version(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.metadata.resource_version)
    }

    /// When the object was made, in seconds since 1970.
    pub(crate) fn created(&self) -> i64 {
        self.metadata.creation.unwrap_or_default().seconds
    }

    /// True for the bookmark that ends a streaming list.
    pub(super) fn ends_initial_events(&self) -> bool {
        let mut annotations = self.metadata.annotations.iter();
        annotations.any(|entry| entry.key == INITIAL_EVENTS_END && entry.value == "true")
    }

    /// A number that is the same as long as nothing changes that a lease is made of.
    pub(crate) fn fingerprint(&self, hash: &impl BuildHasher, keys: &Keys) -> u64 {
        let mut hasher = hash.build_hasher();
        self.metadata.uid.hash(&mut hasher);
        self.pod_cidrs.hash(&mut hasher);
        for entry in self.annotations(keys) {
            entry.key.hash(&mut hasher);
            entry.value.hash(&mut hasher);
        }
        hasher.finish()
    }

    /// What is kept of the object.
    pub(crate) fn node(&self, keys: &Keys) -> Node {
        let entries = self.annotations(keys);
        Node {
            name: self.name().into_owned(),
            uid: text(&self.metadata.uid),
            resource_version: self.resource_version().into_owned(),
            annotations: entries
                .map(|entry| (text(&entry.key), text(&entry.value)))
                .collect(),
            pod_cidrs: self.pod_cidrs.iter().map(|cidr| text(cidr)).collect(),
            network_unavailable: None,
        }
    }

    /// The same with the condition NetworkUnavailable.
    pub(crate) fn node_with_condition(&self, keys: &Keys) -> Result<Node, DecodeError> {
        let status = NodeWithStatus::decode(self.raw.clone())?.status;
        let mut conditions = status.unwrap_or_default().conditions.into_iter();
        let condition = conditions.find(|condition| condition.kind == NETWORK_UNAVAILABLE);
        Ok(Node {
            network_unavailable: condition.map(|condition| Condition {
                status: text(&condition.status),
                reason: text(&condition.reason),
            }),
            ..self.node(keys)
        })
    }

    /// The annotations of our prefix.
    fn annotations(&self, keys: &Keys) -> impl Iterator<Item = &Annotation> {
        let entries = self.metadata.annotations.iter();
        entries.filter(|entry| str::from_utf8(&entry.key).is_ok_and(|key| keys.has_prefix(key)))
    }
}
