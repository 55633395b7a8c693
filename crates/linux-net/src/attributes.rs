//! Reading netlink attributes out of an answer: only those that somebody asks for.
//!
//! Requests are written with the typed messages of `netlink-packet-route`. Answers are not read with them: those parsers
//! decode every attribute of a link, and one that a newer kernel made longer would turn the whole answer into an error.

use crate::Mac;
use netlink_packet_core::{
    NLA_HEADER_SIZE, NlaBuffer, NlasIterator, parse_i32, parse_ip, parse_u8, parse_u16, parse_u32,
};
use std::net::IpAddr;

/// Why an answer could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) String);

impl From<netlink_packet_core::DecodeError> for Malformed {
    fn from(error: netlink_packet_core::DecodeError) -> Self {
        Malformed(error.to_string())
    }
}

/// What reading an answer gives.
pub(crate) type Read<T> = Result<T, Malformed>;

/// One attribute.
pub(crate) struct Attribute<'a> {
    pub(crate) kind: u16,
    pub(crate) value: &'a [u8],
}

/// The attributes in `bytes`, in order; the first broken one ends them with an error.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Read<Attribute<'_>>> {
    NlasIterator::new(bytes).map(|nla| {
        let nla: NlaBuffer<&[u8]> = nla?;
        Ok(Attribute {
            kind: nla.kind(),
            value: value(nla),
        })
    })
}

/// The value, borrowed from the answer and not from the wrapper.
fn value(nla: NlaBuffer<&[u8]>) -> &[u8] {
    let end = usize::from(nla.length());
    nla.into_inner()
        .get(NLA_HEADER_SIZE..end)
        .unwrap_or_default()
}

impl Attribute<'_> {
    pub(crate) fn u8(&self) -> Read<u8> {
        self.named(parse_u8(self.value))
    }

    pub(crate) fn flag(&self) -> Read<bool> {
        Ok(self.u8()? != 0)
    }

    pub(crate) fn u16(&self) -> Read<u16> {
        self.named(parse_u16(self.value))
    }

    /// A number in network byte order.
    pub(crate) fn u16_be(&self) -> Read<u16> {
        Ok(u16::from_be(self.u16()?))
    }

    pub(crate) fn u32(&self) -> Read<u32> {
        self.named(parse_u32(self.value))
    }

    pub(crate) fn i32(&self) -> Read<i32> {
        self.named(parse_i32(self.value))
    }

    /// 4 or 16 bytes.
    pub(crate) fn ip(&self) -> Read<IpAddr> {
        self.named(parse_ip(self.value))
    }

    /// Up to the first NUL. Names and aliases need not be UTF-8; one that is not must not hide its link.
    pub(crate) fn string(&self) -> String {
        let text = self.value.split(|byte| *byte == 0).next();
        String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
    }

    /// None for hardware addresses of another length.
    pub(crate) fn mac(&self) -> Option<Mac> {
        self.value.try_into().ok().map(Mac)
    }

    fn named<T>(&self, value: Result<T, netlink_packet_core::DecodeError>) -> Read<T> {
        value.map_err(|error| Malformed(format!("attribute {}: {error}", self.kind)))
    }
}

/// Splits a fixed header of `N` bytes off an answer.
pub(crate) fn header<const N: usize>(payload: &[u8]) -> Read<([u8; N], &[u8])> {
    match payload.split_first_chunk::<N>() {
        Some((header, rest)) => Ok((*header, rest)),
        None => Err(Malformed(format!(
            "{} bytes where a header of {N} was expected",
            payload.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_values_and_skips_padding() {
        // kind 3 "lo\0" (padded), kind 4 u32 65536, kind 0x8001 (nested flag) 7
        let bytes = [
            7, 0, 3, 0, b'l', b'o', 0, 0, 8, 0, 4, 0, 0, 0, 1, 0, 5, 0, 1, 0x80, 7, 0, 0, 0,
        ];
        let all: Vec<_> = attributes(&bytes).map(Result::unwrap).collect();
        assert_eq!(all[0].string(), "lo");
        assert_eq!(all[1].u32().unwrap(), 65536);
        assert_eq!((all[2].kind, all[2].u8().unwrap()), (1, 7));
        let error = all[0].u32().unwrap_err();
        assert!(error.0.starts_with("attribute 3:"), "{error:?}");
        assert_eq!(all[1].mac(), None);
    }

    #[test]
    fn broken_length_is_an_error_and_the_end() {
        let bytes = [8, 0, 1, 0, 1, 2, 3, 4, 200, 0, 1, 0];
        let all: Vec<_> = attributes(&bytes).collect();
        assert_eq!(all.len(), 2);
        assert!(all[0].is_ok() && all[1].is_err());
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for attribute in attributes(&bytes).flatten() {
                let read = (attribute.u8().is_ok(), attribute.u16_be().is_ok(), attribute.ip().is_ok(),
                    attribute.string().len() <= attribute.value.len() * 3, attribute.i32().is_ok(), attribute.mac().is_some());
                prop_assert!(!(read.0 && read.1));
            }
        }
    }
}
