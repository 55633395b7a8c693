//! Headers of IPv4 (RFC 791) and IPv6 (RFC 8200) packets.

use crate::checksum;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The shortest IPv4 header, in bytes.
pub(crate) const V4_HEADER: usize = 20;
/// The IPv6 header, in bytes.
pub(crate) const V6_HEADER: usize = 40;
/// The flag "more fragments" of IPv4, in the word of the fragment offset.
const MORE_FRAGMENTS: u16 = 0x2000;
/// The flag "don't fragment" of IPv4.
const DONT_FRAGMENT: u16 = 0x4000;
/// The fragment offset of IPv4, in units of 8 bytes.
const OFFSET: u16 = 0x1fff;

/// Protocol numbers (IANA).
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// What the header of a packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Of the packet.
    pub source: IpAddr,
    /// Of the packet.
    pub destination: IpAddr,
    /// Length of the whole packet in bytes: at most that of the buffer it was read from.
    pub length: usize,
    /// Length of the header in bytes, IPv4 options included, IPv6 extension headers not.
    pub(crate) header: usize,
    /// Of the header that follows.
    pub(crate) protocol: u8,
    /// IPv4: it is a fragment other than the first.
    pub(crate) later_fragment: bool,
    /// IPv4: a router may not fragment it. True for IPv6.
    pub(crate) dont_fragment: bool,
}

/// The bytes are no IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an IP packet")]
pub struct Malformed;

impl Header {
    /// Reads the header of a packet. The checksum of an IPv4 header is not compared: the kernel
    /// that the packet goes to does.
    pub fn read(packet: &[u8]) -> Result<Header, Malformed> {
        match packet.first().map(|first| first >> 4) {
            Some(4) => v4(packet),
            Some(6) => v6(packet),
            _ => Err(Malformed),
        }
    }
}

fn v4(packet: &[u8]) -> Result<Header, Malformed> {
    let fixed: &[u8; V4_HEADER] = packet.first_chunk().ok_or(Malformed)?;
    let header = usize::from(fixed[0] & 0xf) * 4;
    let length = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if header < V4_HEADER || length < header || length > packet.len() {
        return Err(Malformed);
    }
    let fragment = u16::from_be_bytes([fixed[6], fixed[7]]);
    let address =
        |at: usize| IpAddr::from([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    Ok(Header {
        source: address(12),
        destination: address(16),
        length,
        header,
        protocol: fixed[9],
        later_fragment: fragment & OFFSET != 0,
        dont_fragment: fragment & DONT_FRAGMENT != 0,
    })
}

fn v6(packet: &[u8]) -> Result<Header, Malformed> {
    let fixed: &[u8; V6_HEADER] = packet.first_chunk().ok_or(Malformed)?;
    let length = V6_HEADER + usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    if length > packet.len() {
        return Err(Malformed);
    }
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&fixed[at..at + 16]);
        IpAddr::from(octets)
    };
    Ok(Header {
        source: address(8),
        destination: address(24),
        length,
        header: V6_HEADER,
        protocol: fixed[6],
        later_fragment: false,
        dont_fragment: true,
    })
}

/// Decrements the TTL or hop limit of a packet that [`Header::read`] accepts, and updates the
/// checksum of an IPv4 header (RFC 1624). False if nothing is left: the packet goes no further.
pub fn decrement_ttl(packet: &mut [u8]) -> bool {
    let v4 = packet.first().is_some_and(|first| first >> 4 == 4);
    let at = if v4 { 8 } else { 7 };
    let Some(ttl) = packet.get_mut(at) else {
        return false;
    };
    if *ttl <= 1 {
        return false;
    }
    *ttl -= 1;
    if v4 && let Some([high, low]) = packet.get_mut(10..12) {
        // the TTL is the high byte of its word: the sum decreases by 0x100, the checksum increases
        let sum = u32::from(u16::from_be_bytes([*high, *low])) + 0x100;
        let folded = (sum & 0xffff) + (sum >> 16);
        // one carry at most
        [*high, *low] = (folded as u16).to_be_bytes();
    }
    true
}

/// True if no packet may come from that address, or none that a router forwards.
pub(crate) fn is_impossible_source(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            ip.is_unspecified()
                || ip.is_loopback()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.is_link_local()
        }
        IpAddr::V6(ip) => {
            ip.is_unspecified()
                || ip.is_loopback()
                || ip.is_multicast()
                || ip.is_unicast_link_local()
        }
    }
}

/// True if a packet to that address does not leave the link.
pub(crate) fn is_link_scoped(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_multicast() || ip.is_unicast_link_local(),
    }
}

/// Writes a new IPv4 checksum into a header of `length` bytes.
pub(crate) fn write_v4_checksum(packet: &mut [u8], length: usize) {
    packet[10..12].fill(0);
    let checksum = checksum::finish(checksum::sum(&packet[..length]));
    packet[10..12].copy_from_slice(&checksum);
}

/// Splits an IPv4 packet that may be fragmented into packets of at most `mtu` bytes, as a router
/// does (RFC 791, section 3.2), and gives each to `write`. Options that are not copied into later
/// fragments are copied too, which is harmless and rare. False if the packet cannot be split: it
/// is not IPv4, it may not be fragmented, or the MTU has no place for 8 bytes.
pub fn fragment(packet: &[u8], mtu: usize, mut write: impl FnMut(&[u8])) -> bool {
    let Ok(header) = Header::read(packet) else {
        return false;
    };
    let room = mtu.saturating_sub(header.header) & !7;
    if header.dont_fragment || room == 0 {
        return false;
    }
    let flags = u16::from_be_bytes([packet[6], packet[7]]);
    let payload = &packet[header.header..header.length];
    let mut buffer = Vec::with_capacity(mtu);
    for (number, part) in payload.chunks(room).enumerate() {
        let offset = usize::from(flags & OFFSET) + number * room / 8;
        let last = (number + 1) * room >= payload.len();
        let Ok(offset) = u16::try_from(offset) else {
            return false;
        };
        let more = if last {
            flags & MORE_FRAGMENTS
        } else {
            MORE_FRAGMENTS
        };
        buffer.clear();
        buffer.extend_from_slice(&packet[..header.header]);
        buffer.extend_from_slice(part);
        // no packet has more than 65535 bytes
        let length = buffer.len() as u16;
        buffer[2..4].copy_from_slice(&length.to_be_bytes());
        buffer[6..8].copy_from_slice(&((offset & OFFSET) | more).to_be_bytes());
        write_v4_checksum(&mut buffer, header.header);
        write(&buffer);
    }
    true
}

/// Builds an IPv4 header without options.
pub(crate) fn v4_header(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    payload: usize,
) -> [u8; V4_HEADER] {
    let mut header = [0; V4_HEADER];
    header[0] = 0x45;
    // callers' packets are at most an MTU long
    header[2..4].copy_from_slice(&((V4_HEADER + payload) as u16).to_be_bytes());
    header[8] = 64;
    header[9] = protocol;
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    write_v4_checksum(&mut header, V4_HEADER);
    header
}

/// Builds an IPv6 header.
pub(crate) fn v6_header(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    protocol: u8,
    payload: usize,
) -> [u8; V6_HEADER] {
    let mut header = [0; V6_HEADER];
    header[0] = 0x60;
    // callers' packets are at most an MTU long
    header[4..6].copy_from_slice(&(payload as u16).to_be_bytes());
    header[6] = protocol;
    header[7] = 64;
    header[8..24].copy_from_slice(&source.octets());
    header[24..40].copy_from_slice(&destination.octets());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(payload: usize, dont_fragment: bool) -> Vec<u8> {
        let header = v4_header([10, 1, 0, 1].into(), [10, 1, 1, 1].into(), UDP, payload);
        let mut packet = header.to_vec();
        packet[6] = if dont_fragment { 0x40 } else { 0 };
        write_v4_checksum(&mut packet, V4_HEADER);
        packet.extend((0..payload).map(|number| number as u8));
        packet
    }

    fn checksum_is_right(packet: &[u8]) -> bool {
        checksum::finish(checksum::sum(&packet[..V4_HEADER])) == [0, 0]
    }

    #[test]
    fn ttl_is_decremented_with_its_checksum_until_nothing_is_left() {
        let mut packet = packet(8, false);
        for left in (1..64).rev() {
            assert!(decrement_ttl(&mut packet));
            assert_eq!(packet[8], left);
            assert!(checksum_is_right(&packet));
        }
        assert!(!decrement_ttl(&mut packet));
        let mut packet = v6_header(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, UDP, 0).to_vec();
        assert!(decrement_ttl(&mut packet));
        assert_eq!(packet[7], 63);
    }

    #[test]
    fn headers_that_contradict_the_packet_are_malformed() {
        let good = packet(10, false);
        assert!(Header::read(&good).is_ok());
        for (at, value) in [(0, 0x44), (0, 0x4f), (0, 0x55), (3, 31), (3, 19)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Header::read(&bad), Err(Malformed), "byte {at} is {value}");
        }
        assert_eq!(Header::read(&good[..19]), Err(Malformed));
        assert_eq!(Header::read(&[]), Err(Malformed));
        let v6 = v6_header(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, UDP, 8);
        assert_eq!(Header::read(&v6), Err(Malformed), "its payload is missing");
    }

    #[test]
    fn fragments_have_the_payload_and_fit() {
        let packet = packet(3001, false);
        let mut payload = Vec::new();
        let mut lengths = Vec::new();
        assert!(fragment(&packet, 1400, |fragment| {
            assert!(checksum_is_right(fragment));
            let header = Header::read(fragment).unwrap();
            let word = u16::from_be_bytes([fragment[6], fragment[7]]);
            assert_eq!(usize::from(word & OFFSET) * 8, payload.len());
            payload.extend_from_slice(&fragment[header.header..header.length]);
            assert_eq!(word & MORE_FRAGMENTS == 0, payload.len() == 3001);
            lengths.push(fragment.len());
        }));
        assert_eq!(payload, packet[V4_HEADER..]);
        assert_eq!(lengths, [1396, 1396, 269]);
        assert!(!fragment(&self::packet(3000, true), 1400, |_| ()));
        assert!(!fragment(&packet, 27, |_| ()));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut packet in proptest::collection::vec(any::<u8>(), 0..200), mtu in 0usize..200) {
            if let Ok(header) = Header::read(&packet) {
                prop_assert!(header.length <= packet.len());
                prop_assert!(header.header <= header.length);
            }
            decrement_ttl(&mut packet);
            fragment(&packet, mtu, |fragment| assert!(fragment.len() <= mtu));
        }
    }
}
