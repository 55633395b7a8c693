//! Encoded objects for the tests.

use super::{
    MAGIC,
    messages::{
        Annotation, ListMeta, NodeCondition, NodeMessage, NodeSpec, NodeStatus, NodeWithStatus,
        ObjectMeta, RawExtension, StatusMessage, Time, TypeMeta, Unknown, WatchEventMessage,
    },
};
use bytes::Bytes;
use prost::Message;

pub(super) fn annotation(key: &str, value: &[u8]) -> Annotation {
    Annotation {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value),
    }
}

pub(super) fn node_message(name: &str) -> NodeMessage {
    NodeMessage {
        metadata: Some(ObjectMeta {
            name: Bytes::copy_from_slice(name.as_bytes()),
            uid: Bytes::from_static(b"u1"),
            resource_version: Bytes::from_static(b"42"),
            creation: Some(Time { seconds: 1700 }),
            annotations: vec![
                annotation("flannel.alpha.coreos.com/public-ip", b"192.0.2.1"),
                annotation("volumes.kubernetes.io/attached", b"true"),
            ],
        }),
        spec: Some(NodeSpec {
            pod_cidr: Bytes::from_static(b"10.1.2.0/24"),
            pod_cidrs: vec![
                Bytes::from_static(b"10.1.2.0/24"),
                Bytes::from_static(b"fd00:1:2::/64"),
            ],
        }),
    }
}

/// A field that no message here has: the API has many.
pub(in crate::subnet::kube) fn unknown_field(number: u8, length: usize) -> Vec<u8> {
    let mut field = Vec::new();
    prost::encoding::encode_key(
        number.into(),
        prost::encoding::WireType::LengthDelimited,
        &mut field,
    );
    prost::encoding::encode_varint(length as u64, &mut field);
    field.resize(field.len() + length, 0xff);
    field
}

pub(in crate::subnet::kube) fn node_bytes(name: &str) -> Vec<u8> {
    let status = NodeWithStatus {
        status: Some(NodeStatus {
            conditions: vec![NodeCondition {
                kind: Bytes::from_static(b"NetworkUnavailable"),
                status: Bytes::from_static(b"False"),
                reason: Bytes::from_static(b"FlannelIsUp"),
            }],
        }),
    };
    let mut bytes = node_message(name).encode_to_vec();
    bytes.extend(status.encode_to_vec());
    bytes.extend(unknown_field(9, 300));
    bytes
}

pub(in crate::subnet::kube) fn envelope(kind: &str, raw: Vec<u8>) -> Vec<u8> {
    let unknown = Unknown {
        type_meta: Some(TypeMeta {
            kind: Bytes::copy_from_slice(kind.as_bytes()),
        }),
        raw: raw.into(),
    };
    [MAGIC, &unknown.encode_to_vec()].concat()
}

pub(in crate::subnet::kube) fn event(kind: &str, object: Vec<u8>) -> Vec<u8> {
    let event = WatchEventMessage {
        kind: Bytes::copy_from_slice(kind.as_bytes()),
        object: Some(RawExtension { raw: object.into() }),
    };
    event.encode_to_vec()
}

pub(in crate::subnet::kube) fn frame(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length, content].concat()
}

pub(in crate::subnet::kube) fn list(token: &str, nodes: &[Vec<u8>]) -> Vec<u8> {
    let metadata = ListMeta {
        resource_version: Bytes::from_static(b"100"),
        continue_token: Bytes::copy_from_slice(token.as_bytes()),
    };
    let mut raw = Vec::new();
    prost::encoding::message::encode(1, &metadata, &mut raw);
    for node in nodes {
        prost::encoding::bytes::encode(2, node, &mut raw);
    }
    envelope("NodeList", raw)
}

pub(in crate::subnet::kube) fn status_bytes(code: i32, reason: &str, message: &str) -> Vec<u8> {
    let status = StatusMessage {
        message: Bytes::copy_from_slice(message.as_bytes()),
        reason: Bytes::copy_from_slice(reason.as_bytes()),
        code,
    };
    envelope("Status", status.encode_to_vec())
}

/// A node with these annotations of our prefix.
pub(in crate::subnet::kube) fn node_with(
    name: &str,
    created: i64,
    version: &str,
    annotations: &[(&str, &str)],
    pod_cidrs: &[&str],
) -> Vec<u8> {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let entries = annotations.iter().map(|(key, value)| {
        annotation(&format!("flannel.alpha.coreos.com/{key}"), value.as_bytes())
    });
    let message = NodeMessage {
        metadata: Some(ObjectMeta {
            name: bytes(name),
            uid: bytes(&format!("uid-{created}")),
            resource_version: bytes(version),
            creation: Some(Time { seconds: created }),
            annotations: entries.collect(),
        }),
        spec: Some(NodeSpec {
            pod_cidr: Bytes::new(),
            pod_cidrs: pod_cidrs.iter().map(|cidr| bytes(cidr)).collect(),
        }),
    };
    message.encode_to_vec()
}

/// The bookmark that ends a streaming list.
pub(in crate::subnet::kube) fn initial_events_end(version: &str) -> Vec<u8> {
    let message = NodeMessage {
        metadata: Some(ObjectMeta {
            resource_version: Bytes::copy_from_slice(version.as_bytes()),
            annotations: vec![annotation("k8s.io/initial-events-end", b"true")],
            ..ObjectMeta::default()
        }),
        spec: None,
    };
    message.encode_to_vec()
}
