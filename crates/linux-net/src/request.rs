//! A request that is ready to be sent, and how requests are laid out for the kernel.

use crate::answer::HEADER;
use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE,
    NLM_F_REQUEST,
};
use std::{os::fd::OwnedFd, sync::Arc};

/// A request that is ready to be sent: built by `link::`, `address::`, `route::`, `neighbour::`, `fdb::`, `bridge_vlan::`,
/// `tc::`.
#[derive(Debug, Clone)]
pub struct Request {
    /// RTM_*
    kind: u16,
    /// NLM_F_* besides REQUEST and ACK
    flags: u16,
    /// everything after the netlink header
    body: Vec<u8>,
    /// for errors: "add route 10.1.0.0/16 via 10.1.0.1"
    what: String,
    /// a namespace whose descriptor's number stands in `body`: open as long as the request lives
    _namespace: Option<Arc<OwnedFd>>,
}

/// What to do about an object that is or is not there (NLM_F_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It must not be there.
    Create,
    /// Make it, or make it so.
    Replace,
    /// Make it, behind those that are there.
    Append,
    /// It must be there (changes, deletions), or is only looked up.
    Existing,
    /// All of them.
    Dump,
}

impl Mode {
    fn flags(self) -> u16 {
        match self {
            Mode::Create => NLM_F_CREATE | NLM_F_EXCL,
            Mode::Replace => NLM_F_CREATE | NLM_F_REPLACE,
            Mode::Append => NLM_F_CREATE | NLM_F_APPEND,
            Mode::Existing => 0,
            Mode::Dump => NLM_F_DUMP,
        }
    }
}

impl Request {
    pub(crate) fn new(kind: u16, mode: Mode, message: &impl Emitable, what: String) -> Self {
        let mut body = vec![0; message.buffer_len()];
        message.emit(&mut body);
        Self {
            kind,
            flags: mode.flags(),
            body,
            what,
            _namespace: None,
        }
    }

    /// Keeps the namespace open whose descriptor the message names.
    pub(crate) fn holding(mut self, namespace: Arc<OwnedFd>) -> Self {
        self._namespace = Some(namespace);
        self
    }

    /// What it does, for logs.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What follows the netlink header.
    #[cfg(test)]
    pub(crate) fn body(&self) -> Vec<u8> {
        self.body.clone()
    }

    /// Its size on the wire, padding included.
    pub(crate) fn len(&self) -> usize {
        (HEADER + self.body.len()).next_multiple_of(4)
    }

    /// Lays it out behind what is in `packet`; `ack` asks for an answer even if all is well.
    pub(crate) fn put(&self, packet: &mut Vec<u8>, sequence: u32, ack: bool) {
        let start = packet.len();
        let flags = NLM_F_REQUEST | self.flags | if ack { NLM_F_ACK } else { 0 };
        let length = (HEADER + self.body.len()) as u32;
        packet.extend_from_slice(&length.to_ne_bytes());
        packet.extend_from_slice(&self.kind.to_ne_bytes());
        packet.extend_from_slice(&flags.to_ne_bytes());
        packet.extend_from_slice(&sequence.to_ne_bytes());
        // the port: the kernel knows it
        packet.extend_from_slice(&0u32.to_ne_bytes());
        packet.extend_from_slice(&self.body);
        packet.resize(start + self.len(), 0);
    }
}
