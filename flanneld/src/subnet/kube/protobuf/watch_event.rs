//! Events of a watch.

use super::{DecodeError, NodeObject, Status, messages::WatchEventMessage, text};
use bytes::Bytes;
use prost::Message;

/// An event of a watch of nodes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum WatchEvent {
    /// A node is new or not as before.
    Applied(NodeObject),
    Deleted(NodeObject),
    /// A position from which a later watch can go on.
    Bookmark {
        resource_version: String,
        /// Every node that there is has been sent.
        initial_events_end: bool,
    },
    /// The watch cannot go on.
    Error(Status),
    /// An event of a type that this program does not know.
    Unknown(String),
}

impl WatchEvent {
    /// Decodes the content of a frame.
    pub(crate) fn decode(frame: Bytes) -> Result<WatchEvent, DecodeError> {
        let message = WatchEventMessage::decode(frame)?;
        let object = message.object.unwrap_or_default().raw;
        Ok(match &*message.kind {
            b"ADDED" | b"MODIFIED" => WatchEvent::Applied(NodeObject::unwrap(object)?),
            b"DELETED" => WatchEvent::Deleted(NodeObject::unwrap(object)?),
            b"BOOKMARK" => {
                let node = NodeObject::unwrap(object)?;
                WatchEvent::Bookmark {
                    resource_version: node.resource_version().into_owned(),
                    initial_events_end: node.ends_initial_events(),
                }
            }
            b"ERROR" => WatchEvent::Error(Status::unwrap(object)?),
            other => WatchEvent::Unknown(text(other)),
        })
    }
}
