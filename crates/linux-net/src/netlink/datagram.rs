//! Datagrams of the kernel: a sequence of messages, each with a header (`struct nlmsghdr`); errors
//! and acknowledgements (`struct nlmsgerr`) with the extended ACK attributes behind them
//! (linux/netlink.h NLMSGERR_ATTR_*).

use super::attributes::{Malformed, Read, attributes, header};
use netlink_packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP_INTR, NetlinkBuffer};
use nix::errno::Errno;

const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// Length of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;

/// One message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) payload: &'a [u8],
}

/// A message as an answer to its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// The request was carried out, or the dump is complete.
    Done,
    /// The request was refused: errno and extended ACK text.
    Refused(Errno, Option<String>),
    /// An object: message type and payload.
    Object(u16, &'a [u8]),
    /// NLMSG_NOOP
    Nothing,
}

/// The messages of one datagram.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Read<Message<'_>>> {
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
    /// The position of the request that it answers, counted from sequence number `first`.
    pub(super) fn position(&self, first: u32) -> usize {
        self.sequence.wrapping_sub(first) as usize
    }

    /// What is dumped changed meanwhile (NLM_F_DUMP_INTR): entries may be missing or doubled.
    pub(super) fn interrupted(&self) -> bool {
        self.flags & NLM_F_DUMP_INTR != 0
    }

    pub(super) fn answer(&self) -> Read<Answer<'a>> {
        match self.kind {
            NLMSG_ERROR => self.acknowledgement(),
            NLMSG_DONE => self.end(),
            NLMSG_NOOP => Ok(Answer::Nothing),
            NLMSG_OVERRUN => Err(Malformed("the kernel reports an overrun".into())),
            kind => Ok(Answer::Object(kind, self.payload)),
        }
    }

    /// `struct nlmsgerr`: the code, the header of the request, its payload unless capped,
    /// attributes.
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
        // older kernels end some dumps without a code
        let Some((code, behind)) = self.payload.split_first_chunk() else {
            return Ok(Answer::Done);
        };
        match i32::from_ne_bytes(*code) {
            code if code < 0 => Ok(Answer::Refused(errno(code), self.text(behind))),
            _ => Ok(Answer::Done),
        }
    }

    /// The extended ACK's text; None if it is absent or unreadable.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The answer of a 6.18 kernel to an MTU below the minimum (EINVAL and a text), without and
    /// with the request's payload.
    const REFUSED: &[u8] = include_bytes!("../../testdata/refused-capped.bin");
    const ECHOED: &[u8] = include_bytes!("../../testdata/refused.bin");
    const ACCEPTED: [u8; 36] = [
        36, 0, 0, 0, 2, 0, 0, 1, 6, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0, 19, 0, 5, 0, 6,
        0, 0, 0, 0, 0, 0, 0,
    ];
    const END: [u8; 20] = [
        20, 0, 0, 0, 3, 0, 18, 0, 7, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0,
    ];

    fn answers(bytes: &[u8]) -> Vec<Read<Answer<'_>>> {
        messages(bytes)
            .map(|message| message.and_then(|message| message.answer()))
            .collect()
    }

    #[test]
    fn codes_and_texts_are_read() {
        let text = "mtu less than device minimum".to_owned();
        let stream = [REFUSED, &ACCEPTED, &END].concat();
        let expected = [
            Ok(Answer::Refused(Errno::EINVAL, Some(text))),
            Ok(Answer::Done),
            Ok(Answer::Done),
        ];
        assert_eq!(answers(&stream), expected);
        let sequences: Vec<_> = messages(&stream)
            .map(|message| message.unwrap().sequence)
            .collect();
        assert_eq!(sequences, [5, 6, 7]);
    }

    #[test]
    fn echoed_request_is_skipped() {
        let text = Some("mtu less than device minimum".to_owned());
        assert_eq!(answers(ECHOED), [Ok(Answer::Refused(Errno::EINVAL, text))]);
    }

    #[test]
    fn failed_and_interrupted_dumps_are_reported() {
        let interrupted = messages(&END).next().unwrap().unwrap();
        assert!(interrupted.interrupted());
        let mut failed = END;
        failed[16..].copy_from_slice(&(-12i32).to_ne_bytes());
        assert_eq!(answers(&failed), [Ok(Answer::Refused(Errno::ENOMEM, None))]);
        let bare = [16, 0, 0, 0, 3, 0, 2, 0, 7, 0, 0, 0, 99, 0, 0, 0];
        assert_eq!(answers(&bare), [Ok(Answer::Done)]);
    }

    #[test]
    fn truncated_answers_are_errors() {
        for length in 1..REFUSED.len() {
            let answers = answers(&REFUSED[..length]);
            assert!(
                answers.len() == 1 && answers[0].is_err(),
                "{length}: {answers:?}"
            );
        }
        let mut lying = ACCEPTED;
        lying[0] = 3;
        assert!(answers(&lying)[0].is_err());
        let short = [18, 0, 0, 0, 2, 0, 0, 1, 6, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0];
        assert!(answers(&short)[0].is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            prop_assert!(answers(&bytes).len() <= bytes.len());
        }

        #[test]
        fn no_damage_panics(at in 0..72usize, value: u8) {
            let mut bytes = REFUSED.to_vec();
            bytes[at] = value;
            let found = answers(&bytes);
            // a damaged refusal is a success only if its type or code is damaged
            if !(4..8).contains(&at) && !(16..20).contains(&at) {
                prop_assert!(found[0].is_err() || matches!(found[0], Ok(Answer::Refused(Errno::EINVAL, _))), "{found:?}");
            }
        }
    }
}
