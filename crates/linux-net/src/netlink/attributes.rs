//! Reading the attributes of an answer: only those that are asked for.
//!
//! Requests are written with the typed messages of netlink-packet-route and
//! netlink-packet-netfilter. Answers are read by hand: the parsers of netlink-packet-route decode
//! every attribute of a link and fail on one that a newer kernel made longer; those of
//! netlink-packet-netfilter take half a second for 500 elements of a set, since they format each
//! list for an error text.

use crate::Mac;
use netlink_packet_core::{
    NLA_HEADER_SIZE, NlaBuffer, NlasIterator, parse_i32, parse_ip, parse_u8, parse_u16, parse_u32,
};
use std::net::IpAddr;

/// Why an answer is unreadable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub String);

impl From<netlink_packet_core::DecodeError> for Malformed {
    fn from(error: netlink_packet_core::DecodeError) -> Self {
        Malformed(error.to_string())
    }
}

/// The result of reading an answer.
pub type Read<T> = Result<T, Malformed>;

/// One attribute (`struct nlattr`). Numbers are in the host's byte order unless the name ends in
/// `_be`.
#[derive(Debug, Clone, Copy)]
pub struct Attribute<'a> {
    /// the type, without the flags NLA_F_NESTED and NLA_F_NET_BYTEORDER
    pub kind: u16,
    /// the value, without header and padding
    pub value: &'a [u8],
}

/// The attributes in `bytes`, in order; the first broken one ends them with an error.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = Read<Attribute<'_>>> {
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
    /// A number of one byte.
    pub fn u8(&self) -> Read<u8> {
        self.named(parse_u8(self.value))
    }

    /// A number of one byte, true unless it is 0.
    pub fn flag(&self) -> Read<bool> {
        Ok(self.u8()? != 0)
    }

    /// A number of two bytes.
    pub fn u16(&self) -> Read<u16> {
        self.named(parse_u16(self.value))
    }

    /// A number of two bytes in network byte order.
    pub fn u16_be(&self) -> Read<u16> {
        Ok(u16::from_be(self.u16()?))
    }

    /// A number of four bytes.
    pub fn u32(&self) -> Read<u32> {
        self.named(parse_u32(self.value))
    }

    /// A signed number of four bytes.
    pub fn i32(&self) -> Read<i32> {
        self.named(parse_i32(self.value))
    }

    /// An address of 4 or 16 bytes.
    pub fn ip(&self) -> Read<IpAddr> {
        self.named(parse_ip(self.value))
    }

    /// A text up to its first NUL. Names and aliases need not be UTF-8: other bytes are replaced.
    pub fn string(&self) -> String {
        let text = self.value.split(|byte| *byte == 0).next();
        String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
    }

    /// A hardware address; None if it has another length than 6.
    pub fn mac(&self) -> Option<Mac> {
        self.value.try_into().ok().map(Mac)
    }

    fn named<T>(&self, value: Result<T, netlink_packet_core::DecodeError>) -> Read<T> {
        value.map_err(|error| Malformed(format!("attribute {}: {error}", self.kind)))
    }
}

/// The attributes of one level, looked up by type. A malformed one ends the list.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Attributes as they are in a message.
    pub fn new(bytes: &'a [u8]) -> Self {
        Attributes(bytes)
    }

    /// All of them, in order.
    pub fn iter(self) -> impl Iterator<Item = Attribute<'a>> {
        attributes(self.0).map_while(Result::ok)
    }

    /// The value of the first of a type.
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        let found = self.iter().find(|attribute| attribute.kind == kind);
        found.map(|attribute| attribute.value)
    }

    /// A number of two bytes in network byte order.
    pub fn u16_be(self, kind: u16) -> Option<u16> {
        Some(u16::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// A number of four bytes in network byte order.
    pub fn u32_be(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// A number of eight bytes in network byte order.
    pub fn u64_be(self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// An address of 4 or 16 bytes.
    pub fn ip(self, kind: u16) -> Option<IpAddr> {
        parse_ip(self.get(kind)?).ok()
    }

    /// A text up to its first NUL; None if it is not UTF-8.
    pub fn text(self, kind: u16) -> Option<&'a str> {
        let text = self.get(kind)?.split(|byte| *byte == 0).next();
        std::str::from_utf8(text.unwrap_or_default()).ok()
    }

    /// The attributes inside one; none if it is absent.
    pub fn nested(self, kind: u16) -> Attributes<'a> {
        self.get(kind).map(Attributes).unwrap_or_default()
    }
}

/// Splits a fixed header of `N` bytes off an answer.
pub fn header<const N: usize>(payload: &[u8]) -> Read<([u8; N], &[u8])> {
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
    fn attributes_are_found_by_type() {
        let bytes = [
            &[8, 0, 2, 0, 0, 0, 0, 7][..],
            &[7, 0, 1, 0x80, b'h', b'i', 0, 0],
            &[5, 0, 3, 0, 9],
        ]
        .concat();
        let attributes = Attributes::new(&bytes);
        assert_eq!(attributes.u32_be(2), Some(7));
        assert_eq!(attributes.text(1), Some("hi"));
        assert_eq!(attributes.get(3), Some(&[9][..]));
        assert_eq!(attributes.u32_be(3), None, "too short");
        assert_eq!(attributes.get(4), None);
        assert_eq!(attributes.nested(4).iter().count(), 0);
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
            let list = Attributes::new(&bytes);
            let lengths: usize = list.iter().map(|attribute| 4 + attribute.value.len()).sum();
            prop_assert!(lengths <= bytes.len());
            prop_assert!(list.text(1).is_none_or(|text| text.len() <= bytes.len()));
        }
    }
}
