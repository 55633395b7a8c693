//! A request as it is laid out for the kernel.

use super::datagram::HEADER;
use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE,
    NLM_F_REQUEST,
};
use std::{fmt, os::fd::OwnedFd, sync::Arc};

/// A request of any message family, ready to be sent.
#[derive(Clone)]
pub struct Request {
    kind: u16,
    mode: Mode,
    /// everything after the netlink header
    body: Vec<u8>,
    what: String,
    /// the namespace whose descriptor number is in `body`: open as long as the request lives
    _namespace: Option<Arc<OwnedFd>>,
}

/// What the kernel does if the object is or is not there (`NLM_F_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// CREATE and EXCL: EEXIST if it is there.
    Create,
    /// CREATE alone: what is there stays.
    Ensure,
    /// CREATE and REPLACE: what is there is replaced.
    Replace,
    /// CREATE and APPEND: the new one comes behind those that are there.
    Append,
    /// No flag: changes, deletions and look-ups.
    Existing,
    /// DUMP: all objects are listed.
    Dump,
}

impl Mode {
    fn flags(self) -> u16 {
        match self {
            Mode::Create => NLM_F_CREATE | NLM_F_EXCL,
            Mode::Ensure => NLM_F_CREATE,
            Mode::Replace => NLM_F_CREATE | NLM_F_REPLACE,
            Mode::Append => NLM_F_CREATE | NLM_F_APPEND,
            Mode::Existing => 0,
            Mode::Dump => NLM_F_DUMP,
        }
    }
}

impl Request {
    /// `kind` is the message type, `message` what follows the netlink header, `what` begins the
    /// texts of errors: "add route 10.1.0.0/16 via 10.1.0.1".
    pub fn new(kind: u16, mode: Mode, message: &impl Emitable, what: impl Into<String>) -> Self {
        let mut body = vec![0; message.buffer_len()];
        message.emit(&mut body);
        Self {
            kind,
            mode,
            body,
            what: what.into(),
            _namespace: None,
        }
    }

    /// Keeps the namespace open whose descriptor the message names.
    pub(crate) fn holding(mut self, namespace: Arc<OwnedFd>) -> Self {
        self._namespace = Some(namespace);
        self
    }

    /// The text that begins its errors.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Everything after the netlink header.
    #[cfg(any(test, feature = "tunnels"))]
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Bytes on the wire, padding included.
    pub(super) fn len(&self) -> usize {
        (HEADER + self.body.len()).next_multiple_of(4)
    }

    /// Appends the message to `packet`; `ack` asks for an answer on success too.
    pub(super) fn put(&self, packet: &mut Vec<u8>, sequence: u32, ack: bool) {
        let start = packet.len();
        let flags = NLM_F_REQUEST | self.mode.flags() | if ack { NLM_F_ACK } else { 0 };
        let length = (HEADER + self.body.len()) as u32;
        packet.extend_from_slice(&length.to_ne_bytes());
        packet.extend_from_slice(&self.kind.to_ne_bytes());
        packet.extend_from_slice(&flags.to_ne_bytes());
        packet.extend_from_slice(&sequence.to_ne_bytes());
        // the port: the kernel fills it in
        packet.extend_from_slice(&0u32.to_ne_bytes());
        packet.extend_from_slice(&self.body);
        packet.resize(start + self.len(), 0);
    }
}

/// Without the body: it may have keys.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("kind", &self.kind)
            .field("mode", &self.mode)
            .field("length", &self.body.len())
            .field("what", &self.what)
            .finish_non_exhaustive()
    }
}
