//! The kernel's answers as they come out of the socket: a run of messages, each with a header (`struct nlmsghdr`); errors
//! and acknowledgements (`struct nlmsgerr`) with the extended ACK attributes behind them (linux/netlink.h NLMSGERR_ATTR_*).

use netlink_packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP_INTR, NetlinkBuffer};
use nix::errno::Errno;

use crate::attributes::{Malformed, Read, attributes, header};

const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// Length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// One message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// What a message is to its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer<'a> {
    /// Accepted (or the end of a dump).
    Done,
    /// Refused.
    Refused(Errno, Option<String>),
    /// An object: message type and what follows the netlink header.
    Object(u16, &'a [u8]),
    /// Nothing to read.
    Nothing,
}

/// The messages of one datagram.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Read<Message<'_>>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let message = match NetlinkBuffer::new_checked(bytes) {
            Ok(message) => message,
            Err(error) => {
                bytes = &[];
                return Some(Err(error.into()));
            }
        };
        let length = message.length() as usize;
        let found = Message {
            kind: message.message_type(),
            flags: message.flags(),
            sequence: message.sequence_number(),
            payload: bytes.get(HEADER..length).unwrap_or_default(),
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(found))
    })
}

impl<'a> Message<'a> {
    /// True if the kernel says that what it dumped changed meanwhile, so that entries may be missing or doubled.
    pub(crate) fn interrupted(&self) -> bool {
        self.flags & NLM_F_DUMP_INTR != 0
    }

    pub(crate) fn answer(&self) -> Read<Answer<'a>> {
        match self.kind {
            NLMSG_ERROR => self.acknowledgement(),
            NLMSG_DONE => self.end(),
            NLMSG_NOOP => Ok(Answer::Nothing),
            NLMSG_OVERRUN => Err(Malformed("the kernel reports an overrun".into())),
            kind => Ok(Answer::Object(kind, self.payload)),
        }
    }

    /// `struct nlmsgerr`: the code, the header of the request, its payload unless capped, attributes.
    fn acknowledgement(&self) -> Read<Answer<'a>> {
        let (code, rest) = header::<4>(self.payload)?;
        let code = i32::from_ne_bytes(code);
        if code == 0 {
            return Ok(Answer::Done);
        }
        let (request, behind) = header::<HEADER>(rest)?;
        let capped = self.flags & NLM_F_CAPPED != 0;
        let echoed = match capped {
            true => 0,
            false => request
                .first_chunk()
                .map_or(0, |length| u32::from_ne_bytes(*length) as usize)
                .saturating_sub(HEADER)
                .next_multiple_of(4),
        };
        Ok(Answer::Refused(
            errno(code),
            self.text(behind.get(echoed..).unwrap_or_default()),
        ))
    }

    /// NLMSG_DONE: a code (0, or negative if the dump failed half-way), attributes.
    fn end(&self) -> Read<Answer<'a>> {
        // old kernels end some dumps without a code
        let Some((code, behind)) = self.payload.split_first_chunk() else {
            return Ok(Answer::Done);
        };
        match i32::from_ne_bytes(*code) {
            code if code < 0 => Ok(Answer::Refused(errno(code), self.text(behind))),
            _ => Ok(Answer::Done),
        }
    }

    /// The extended ACK's text. An unreadable one is left out: the errno matters more.
    fn text(&self, bytes: &[u8]) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        attributes(bytes)
            .flatten()
            .find(|attribute| attribute.kind == NLMSGERR_ATTR_MSG)
            .map(|attribute| attribute.string())
    }
}

fn errno(code: i32) -> Errno {
    Errno::from_raw(code.saturating_neg())
}
