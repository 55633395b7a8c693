//! The parts of the Kubernetes API's protobuf encoding that a watch of all nodes needs. A node of
//! 14 KB is mostly labels, images and conditions: those are skipped by their length. Pure.
//!
//! Field numbers are those of `generated.proto` in k8s.io/api/core/v1 and
//! k8s.io/apimachinery/pkg/{apis/meta/v1,runtime}.

mod error;
#[cfg(test)]
pub(super) mod fixtures;
mod frames;
mod list;
mod messages;
mod node;
mod status;
mod watch_event;

pub(super) use error::DecodeError;
pub(super) use frames::Frames;
pub(super) use list::{ListItem, ListReader};
pub(super) use node::NodeObject;
pub(super) use status::Status;
pub(super) use watch_event::WatchEvent;

use bytes::Bytes;
use messages::Unknown;
use prost::Message;

/// The media type; a watch adds `;stream=watch`.
pub(super) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// What every encoded object starts with; an `Unknown` message follows.
const MAGIC: &[u8] = b"k8s\0";
/// The longest object or event that is read, in bytes. An object is at most 1.5 MiB in etcd.
const LONGEST_OBJECT: usize = 4 << 20;

/// The kind and the encoding of an object.
fn unwrap_object(mut object: Bytes) -> Result<(Bytes, Bytes), DecodeError> {
    if !object.starts_with(MAGIC) {
        return Err(DecodeError::Magic);
    }
    let unknown = Unknown::decode(object.split_off(MAGIC.len()))?;
    let kind = unknown.type_meta.unwrap_or_default().kind;
    Ok((kind, unknown.raw))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests;
