//! The Status object, by which the API server says why a request fails.

use super::{DecodeError, MAGIC, messages::StatusMessage, text, unwrap_object};
use bytes::Bytes;
use prost::Message;
use serde::Deserialize;

/// An error of the API server.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    /// As HTTP's: 410.
    pub(crate) code: u16,
    /// One word: "Expired".
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Status {
    /// Decodes the object of an event.
    pub(super) fn unwrap(object: Bytes) -> Result<Status, DecodeError> {
        let (kind, raw) = unwrap_object(object)?;
        if kind != "Status" {
            return Err(DecodeError::Kind {
                found: text(&kind),
                expected: "Status",
            });
        }
        let message = StatusMessage::decode(raw)?;
        Ok(Status {
            code: u16::try_from(message.code).unwrap_or_default(),
            reason: text(&message.reason),
            message: text(&message.message),
        })
    }

    /// Decodes the body of an answer: protobuf, or JSON, which the API server's filters send
    /// whatever the request accepts. None if the body is neither, as that of a proxy.
    pub(crate) fn of_body(body: Bytes) -> Option<Status> {
        if body.starts_with(MAGIC) {
            Status::unwrap(body).ok()
        } else {
            let status: Status = go_compat::json::from_slice(&body).ok()?;
            (status != Status::default()).then_some(status)
        }
    }
}
