//! One synchronous NETLINK_NETFILTER socket: batches, questions, dumps that are repeated when the kernel says they were
//! interrupted, and refusals with the kernel's own words (extended ACK).
//!
//! The kernel works a request off while it is being sent, so what it has to say is there when `sendto` returns. Nothing
//! here waits: a batch that was not refused by then is done, and any other answer that is missing is an error.
use crate::{Error, error::errno_of, reply::Object};
use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::{errno::Errno, libc::MSG_DONTWAIT, sys::socket::sockopt};

/// Larger than the parts that the kernel makes of a dump (NLMSG_GOODSIZE), and than any single message of a table.
const BUFFER: usize = 128 * 1024;
/// What the kernel takes in one packet without being asked to (net.core.wmem_default), with room for its own overhead.
const USUAL_PACKET: usize = 96 * 1024;
/// How often a dump is repeated that others' changes interrupt.
const DUMPS: u32 = 20;
/// NLMSGERR_ATTR_MSG
const ATTR_MSG: u16 = 1;
const HEADER_LEN: usize = 16;

#[derive(Debug)]
pub(crate) struct NetfilterSocket {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One refused message of a packet.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// its place in the packet
    pub(crate) position: usize,
    pub(crate) errno: Errno,
    pub(crate) message: Option<String>,
}

impl Refusal {
    pub(crate) fn into_error(self, what: &str) -> Error {
        Error::Kernel {
            what: what.to_owned(),
            errno: self.errno,
            message: self.message,
        }
    }
}

/// What a dump or question gives: `None` at its end.
enum Reply {
    Object(Object),
    Refused(Refusal),
    Done { interrupted: bool },
}

impl NetfilterSocket {
    /// In the calling thread's network namespace.
    pub(crate) fn open() -> Result<Self, Error> {
        let open = || {
            let socket = Socket::new(NETLINK_NETFILTER)?;
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            Ok(socket)
        };
        Ok(Self {
            socket: open().map_err(|source| Error::io("open netfilter socket", source))?,
            sequence: 0,
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    /// Sends messages (with flags besides NLM_F_REQUEST) as one packet; what the kernel refused of it.
    pub(crate) fn exchange(
        &mut self,
        messages: impl IntoIterator<Item = (NetfilterMessage, u16)>,
        what: &str,
    ) -> Result<Vec<Refusal>, Error> {
        let first = self.sequence.wrapping_add(1);
        self.send(messages, what)?;
        let mut refusals = Vec::new();
        while let Some(replies) = self.receive(first, what)? {
            for reply in replies {
                if let Reply::Refused(refusal) = reply {
                    refusals.push(refusal);
                }
            }
        }
        Ok(refusals)
    }

    /// Asks for one object; None if there is no such.
    pub(crate) fn get(
        &mut self,
        question: NetfilterMessage,
        what: &str,
    ) -> Result<Option<Object>, Error> {
        let first = self.sequence.wrapping_add(1);
        self.send([(question, 0)], what)?;
        let mut found = None;
        while let Some(replies) = self.receive(first, what)? {
            for reply in replies {
                match reply {
                    Reply::Object(object) => found = Some(object),
                    Reply::Refused(refusal) if refusal.errno == Errno::ENOENT => {}
                    Reply::Refused(refusal) => return Err(refusal.into_error(what)),
                    Reply::Done { .. } => {}
                }
            }
        }
        Ok(found)
    }

    /// Asks for all objects; `read` gives None for those that are not wanted. No such table: none.
    pub(crate) fn dump<T>(
        &mut self,
        question: &NetfilterMessage,
        what: &str,
        mut read: impl FnMut(Object) -> Result<Option<T>, Error>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..DUMPS {
            let mut found = Vec::new();
            if self.dump_once(question, what, |object| {
                found.extend(read(object)?);
                Ok(())
            })? {
                return Ok(found);
            }
        }
        Err(Error::Kernel {
            what: what.to_owned(),
            errno: Errno::EINTR,
            message: Some("others change it faster than it can be read".into()),
        })
    }

    /// False if it was interrupted.
    fn dump_once(
        &mut self,
        question: &NetfilterMessage,
        what: &str,
        mut each: impl FnMut(Object) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let first = self.sequence.wrapping_add(1);
        self.send([(question.clone(), NLM_F_DUMP)], what)?;
        let (mut ended, mut whole, mut failed) = (false, true, None);
        while !ended {
            let Some(replies) = self.receive(first, what)? else {
                return Err(Error::decode(what, "the answer has no end"));
            };
            for reply in replies {
                match reply {
                    Reply::Object(object) if failed.is_none() => failed = each(object).err(),
                    Reply::Object(_) => {}
                    Reply::Refused(refusal) => {
                        ended = true;
                        if refusal.errno == Errno::EINTR {
                            whole = false;
                        } else if refusal.errno != Errno::ENOENT {
                            failed = Some(refusal.into_error(what));
                        }
                    }
                    Reply::Done { interrupted } => {
                        ended |= !interrupted;
                        whole &= !interrupted;
                    }
                }
            }
        }
        match failed {
            Some(error) if whole => Err(error),
            _ => Ok(whole),
        }
    }

    fn send(
        &mut self,
        messages: impl IntoIterator<Item = (NetfilterMessage, u16)>,
        what: &str,
    ) -> Result<(), Error> {
        let mut packet = Vec::new();
        for (message, flags) in messages {
            self.sequence = self.sequence.wrapping_add(1);
            let mut header = NetlinkHeader::default();
            header.flags = NLM_F_REQUEST | flags;
            header.sequence_number = self.sequence;
            let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
            message.finalize();
            let start = packet.len();
            packet.resize(start + message.buffer_len(), 0);
            message.serialize(&mut packet[start..]);
        }
        if packet.len() > USUAL_PACKET {
            self.make_room(packet.len());
        }
        self.socket
            .send_to(&packet, &SocketAddr::new(0, 0), 0)
            .map_err(|source| Error::io(what, source))?;
        Ok(())
    }

    /// For large packets. Whatever the limits allow; if that is too little, sending says so (EMSGSIZE).
    fn make_room(&self, len: usize) {
        use nix::sys::socket::setsockopt;
        let room = len * 2;
        if setsockopt(&self.socket, sockopt::SndBufForce, &room).is_err()
            && let Err(errno) = setsockopt(&self.socket, sockopt::SndBuf, &room)
        {
            debug_assert_ne!(errno, Errno::EBADF, "an open socket");
        }
    }

    /// One packet of replies to the messages from `first` on; None if nothing is waiting.
    fn receive(&mut self, first: u32, what: &str) -> Result<Option<Vec<Reply>>, Error> {
        self.buffer.clear();
        let length = match self.socket.recv(&mut self.buffer, MSG_DONTWAIT) {
            Ok(length) => length,
            Err(source) if errno_of(&source) == Errno::EAGAIN => return Ok(None),
            Err(source) => return Err(Error::io(what, source)),
        };
        let mut rest = self
            .buffer
            .get(..length)
            .ok_or_else(|| Error::decode(what, "it is longer than any message of netfilter"))?;
        let mut replies = Vec::new();
        while !rest.is_empty() {
            let message = NetlinkMessage::<Object>::deserialize(rest)
                .map_err(|error| Error::decode(what, &error.to_string()))?;
            let len = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(len.max(HEADER_LEN)..).unwrap_or_default();
            replies.extend(reply(message, first));
        }
        Ok(Some(replies))
    }
}

/// None for what answers something earlier that was given up.
fn reply(message: NetlinkMessage<Object>, first: u32) -> Option<Reply> {
    let (header, payload) = message.into_parts();
    let position = header.sequence_number.wrapping_sub(first) as usize;
    if position > u16::MAX.into() {
        return None;
    }
    // said of any part of a dump, it means all of it
    let interrupted = header.flags & NLM_F_DUMP_INTR != 0;
    match payload {
        NetlinkPayload::InnerMessage(_) if interrupted => Some(Reply::Done { interrupted }),
        NetlinkPayload::InnerMessage(object) => Some(Reply::Object(object)),
        NetlinkPayload::Done(done) if done.code != 0 => Some(Reply::Refused(Refusal {
            position,
            errno: Errno::from_raw(-done.code),
            message: None,
        })),
        NetlinkPayload::Done(_) if interrupted => Some(Reply::Refused(Refusal {
            position,
            errno: Errno::EINTR,
            message: None,
        })),
        NetlinkPayload::Done(_) => Some(Reply::Done { interrupted: false }),
        NetlinkPayload::Error(error) => error.code.map(|code| {
            Reply::Refused(Refusal {
                position,
                errno: Errno::from_raw(-code.get()),
                message: extended(header.flags, &error),
            })
        }),
        _ => None,
    }
}

/// NLMSGERR_ATTR_MSG, behind the refused message or its header alone.
fn extended(flags: u16, error: &ErrorMessage) -> Option<String> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let refused = &error.header;
    let len = if flags & NLM_F_CAPPED != 0 {
        HEADER_LEN
    } else {
        let len = refused.get(..4)?.try_into().ok()?;
        (u32::from_ne_bytes(len) as usize).next_multiple_of(4)
    };
    let attributes = refused.get(len..)?;
    let text = NlasIterator::new(attributes)
        .filter_map(Result::ok)
        .find(|attribute| attribute.kind() == ATTR_MSG)?;
    let text = String::from_utf8_lossy(text.value()).into_owned();
    Some(text.trim_end_matches('\0').to_owned())
}
