//! Notifications: a socket in multicast groups.

use super::{
    Read, Transport,
    datagram::{Answer, messages},
};
use crate::{Error, Result};
use netlink_sys::{Socket, SocketAddr};
use nix::{
    errno::Errno,
    sys::socket::{setsockopt, sockopt},
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// The largest notification is a link's, far below this.
const BUFFER: usize = 64 * 1024;
/// One call returns at most about this many events, so that a burst of changes cannot occupy its
/// caller without end.
const EVENTS_PER_CALL: usize = 10_000;

/// A socket that receives notifications and never blocks. It implements `AsFd` so that a loop can
/// poll it.
#[derive(Debug)]
pub struct Multicast {
    socket: Socket,
    buffer: Vec<u8>,
}

/// What a datagram holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notification<'a> {
    /// A message: its type, its flags (NLM_F_*) and what follows the netlink header.
    Message {
        /// nlmsg_type
        kind: u16,
        /// nlmsg_flags
        flags: u16,
        /// What follows the header.
        payload: &'a [u8],
    },
    /// The kernel dropped notifications (ENOBUFS), or one is unreadable.
    Lost,
}

impl Multicast {
    /// In the calling thread's namespace. `groups` is a mask, bit N - 1 for group N; `backlog` is
    /// the size of the receive buffer in bytes.
    pub fn open(protocol: isize, groups: u32, backlog: usize) -> Result<Self> {
        let failed = |error| Error::io("open netlink socket for notifications", error);
        let mut socket = Socket::new(protocol).map_err(failed)?;
        // more than net.core.rmem_max takes CAP_NET_ADMIN in the first user namespace
        setsockopt(&socket, sockopt::RcvBufForce, &backlog)
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &backlog))
            .map_err(|errno| failed(errno.into()))?;
        socket.bind(&SocketAddr::new(0, groups)).map_err(failed)?;
        Ok(Self {
            socket,
            buffer: vec![0; BUFFER],
        })
    }

    /// Reads one datagram; false if none is waiting.
    pub fn receive(&mut self, mut take: impl FnMut(Notification<'_>)) -> Result<bool> {
        match self.socket.receive(&mut self.buffer) {
            Ok(length) => match self.buffer.get(..length) {
                Some(bytes) => read(bytes, &mut take),
                None => take(Notification::Lost),
            },
            Err(Errno::EAGAIN) => return Ok(false),
            Err(Errno::EINTR) => {}
            Err(Errno::ENOBUFS) => take(Notification::Lost),
            Err(errno) => return Err(Error::io("receive notifications", errno)),
        }
        Ok(true)
    }

    /// The events that are waiting, without blocking; empty if there are none. `event` reads a
    /// message by its type, its flags and what follows the header; an unreadable one counts as
    /// lost, and `overrun` stands for what is lost.
    pub(crate) fn events<E: Clone>(
        &mut self,
        overrun: &E,
        event: impl Fn(u16, u16, &[u8]) -> Read<Option<E>>,
    ) -> Result<Vec<E>> {
        let mut events = Vec::new();
        while events.len() < EVENTS_PER_CALL
            && self.receive(|notification| {
                events.extend(match notification {
                    Notification::Message {
                        kind,
                        flags,
                        payload,
                    } => event(kind, flags, payload).unwrap_or_else(|_| Some(overrun.clone())),
                    Notification::Lost => Some(overrun.clone()),
                });
            })?
        {}
        Ok(events)
    }
}

pub(crate) fn read(bytes: &[u8], take: &mut impl FnMut(Notification<'_>)) {
    for message in messages(bytes) {
        let flags = message.as_ref().map_or(0, |message| message.flags);
        match message.and_then(|message| message.answer()) {
            Ok(Answer::Object(kind, payload)) => take(Notification::Message {
                kind,
                flags,
                payload,
            }),
            Ok(Answer::Done | Answer::Nothing | Answer::Refused(..)) => {}
            Err(_) => take(Notification::Lost),
        }
    }
}

impl AsFd for Multicast {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Multicast {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut count = 0;
            read(&bytes, &mut |_| count += 1);
            prop_assert!(count <= bytes.len());
        }
    }
}
