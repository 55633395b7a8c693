//! What the daemon and the process say to each other: JSON, each message after its length.

use super::{build::Build, engine::Config};
use data_path::Descriptors;
use linux_net::tun::Offload;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
};

/// The longest message in bytes: 5,000 peers take less than one MiB.
const MAX: usize = 32 << 20;

/// Increases with each change of the messages, and of what they carry: daemon and process of one
/// number understand each other, whatever their builds are.
pub(super) const PROTOCOL: u32 = 1;

/// To the process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Request {
    /// Answered by [`Reply::Status`].
    Status,
    /// Go by this from now on. Answered by [`Reply::Done`].
    Configure(Box<Config>),
    /// Answered by [`Reply::Done`] at once, whatever else the process does.
    Ping,
    /// Copies of the descriptors: answered by [`Reply::HandedOver`], after which they follow.
    Share,
    /// Go on with what an earlier process had: its descriptors follow. Answered by
    /// [`Reply::Done`].
    GoOn {
        config: Box<Config>,
        descriptors: Arranged,
    },
    /// Another process goes on with the descriptors: answered by [`Reply::HandedOver`], after which
    /// they follow.
    HandOver,
    /// It does. The process ends.
    TakenOver,
    /// The process ends.
    Stop,
}

/// From the process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Reply {
    Done,
    /// Why the request is not done.
    Failed(String),
    Status(Status),
    HandedOver {
        config: Option<Box<Config>>,
        descriptors: Option<Arranged>,
    },
}

/// The state of the process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    pub(super) pid: u32,
    pub(super) build: Build,
    /// 0: of a build that did not say.
    #[serde(default)]
    pub(super) protocol: u32,
    /// It is in a container of its own, and stays when the daemon is of another build.
    #[serde(default)]
    pub(super) kept: bool,
    /// The device, once the process is configured.
    pub(super) device: Option<String>,
    pub(super) engine: Option<String>,
    pub(super) workers: usize,
    pub(super) peers: usize,
    /// What happened to packets since the process started.
    pub(super) packets: BTreeMap<String, u64>,
}

/// [`Descriptors`] as they are sent.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Arranged {
    queues: usize,
    v4: usize,
    v6: usize,
    tcp_offload: bool,
    udp_offload: bool,
}

impl From<Descriptors> for Arranged {
    fn from(descriptors: Descriptors) -> Arranged {
        let Descriptors {
            queues,
            v4,
            v6,
            offload,
        } = descriptors;
        Arranged {
            queues,
            v4,
            v6,
            tcp_offload: offload.tcp,
            udp_offload: offload.udp,
        }
    }
}

impl From<Arranged> for Descriptors {
    fn from(arranged: Arranged) -> Descriptors {
        Descriptors {
            queues: arranged.queues,
            v4: arranged.v4,
            v6: arranged.v6,
            offload: Offload {
                tcp: arranged.tcp_offload,
                udp: arranged.udp_offload,
            },
        }
    }
}

/// Sends a message.
pub(super) fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - 4;
    let Some(header) = u32::try_from(length).ok().filter(|_| length <= MAX) else {
        return Err(too_long(length));
    };
    bytes[..4].copy_from_slice(&header.to_be_bytes());
    to.write_all(&bytes)
}

/// Receives a message; None at the end of the connection.
pub(super) fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX {
        return Err(too_long(length));
    }
    let mut bytes = Vec::new();
    from.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // an error of serde_json quotes no value that could be a secret, but its kind and place
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a message of another version ({place})"),
        )
    })
}

fn too_long(length: usize) -> io::Error {
    let text = format!("a message of {length} bytes: at most {MAX} are possible");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_in_order_until_the_end() {
        let mut bytes = Vec::new();
        send(&mut bytes, &Request::Status).unwrap();
        send(&mut bytes, &Request::Stop).unwrap();
        let mut rest = bytes.as_slice();
        assert!(matches!(receive(&mut rest).unwrap(), Some(Request::Status)));
        assert!(matches!(receive(&mut rest).unwrap(), Some(Request::Stop)));
        assert!(receive::<Request>(&mut rest).unwrap().is_none());
    }

    #[test]
    fn lengths_and_contents_are_checked() {
        for bad in [
            &[0xff; 8][..],
            &[0, 0, 0, 9, b'"', b's'],
            &[0, 0, 0, 3, b'"', b'x', b'"'],
        ] {
            assert!(receive::<Request>(&mut &*bad).is_err(), "{bad:?}");
        }
    }
}
