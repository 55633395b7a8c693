//! What the device reads of an IP packet inside of the tunnel: addresses, length, ECN.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;

/// The bits of ECN in the field of traffic class. Source: RFC 3168, section 5.
pub(crate) const ECN: u8 = 0b11;
/// The path has congestion.
const CONGESTION: u8 = 0b11;

/// The header fields that matter here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inner {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// What the header says, at least that of the header itself.
    pub(crate) length: usize,
    pub(crate) ecn: u8,
}

fn array<const N: usize>(packet: &[u8], at: usize) -> Option<[u8; N]> {
    packet.get(at..at + N)?.try_into().ok()
}

impl Inner {
    /// Absent for what is neither IPv4 nor IPv6, and for what is shorter than it says.
    pub(crate) fn parse(packet: &[u8]) -> Option<Self> {
        let first = *packet.first()?;
        let inner = match first >> 4 {
            4 => Self {
                source: Ipv4Addr::from(array::<4>(packet, 12)?).into(),
                destination: Ipv4Addr::from(array::<4>(packet, 16)?).into(),
                length: Some(u16::from_be_bytes(array(packet, 2)?).into())
                    .filter(|length| *length >= V4_HEADER)?,
                ecn: packet.get(1)? & ECN,
            },
            6 => Self {
                source: Ipv6Addr::from(array::<16>(packet, 8)?).into(),
                destination: Ipv6Addr::from(array::<16>(packet, 24)?).into(),
                length: V6_HEADER + usize::from(u16::from_be_bytes(array(packet, 4)?)),
                ecn: (packet.get(1)? >> 4) & ECN,
            },
            _ => return None,
        };
        (packet.len() >= inner.length).then_some(inner)
    }
}

/// Carries congestion of the path outside to the packet inside, where its ends understand it.
/// Source: `INET_ECN_decapsulate` of include/net/inet_ecn.h; as the kernel's WireGuard does, a
/// packet whose ends do not understand it passes unchanged. `inner` is the packet's own.
pub(crate) fn congestion(packet: &mut [u8], inner: Inner, outer: u8) {
    if outer & ECN != CONGESTION || inner.ecn == CONGESTION || inner.ecn == 0 {
        return;
    }
    match inner.source {
        IpAddr::V4(_) => set_v4(packet),
        IpAddr::V6(_) => {
            if let Some(byte) = packet.get_mut(1) {
                *byte |= CONGESTION << 4;
            }
        }
    }
}

/// Sets the field and mends the header's checksum. Source: RFC 1624, equation 3.
fn set_v4(packet: &mut [u8]) {
    let (Some(before), Some(sum)) = (array::<2>(packet, 0), array::<2>(packet, 10)) else {
        return;
    };
    let [version, class] = before;
    let after = u16::from_be_bytes([version, class | CONGESTION]);
    let mut folded = u32::from(!u16::from_be_bytes(sum))
        + u32::from(!u16::from_be_bytes(before))
        + u32::from(after);
    folded = (folded & 0xffff) + (folded >> 16);
    folded = (folded & 0xffff) + (folded >> 16);
    let sum = !(u16::try_from(folded).unwrap_or_default());
    if let Some(header) = packet.get_mut(..V4_HEADER) {
        header[1] |= CONGESTION;
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::packets;

    #[test]
    fn short_and_unknown_packets_have_no_header() {
        let whole = packets::ipv4([10, 0, 0, 1], [10, 0, 0, 2], b"data");
        assert!(Inner::parse(&whole).is_some());
        for length in 0..whole.len() {
            assert!(Inner::parse(&whole[..length]).is_none(), "{length}");
        }
        let mut tiny = whole.clone();
        tiny[2..4].copy_from_slice(&3u16.to_be_bytes());
        assert!(Inner::parse(&tiny).is_none(), "a length without a header");
        assert!(Inner::parse(&[0x50; 60]).is_none(), "neither IPv4 nor IPv6");
    }

    #[test]
    fn congestion_reaches_the_packet_inside() {
        let mut packet = packets::ipv4([10, 0, 0, 1], [10, 0, 0, 2], b"data");
        let inner = Inner::parse(&packet).unwrap();
        congestion(&mut packet, inner, CONGESTION);
        assert_eq!(packet[1] & ECN, 0, "its ends do not know ECN");
        packet[1] |= 0b10;
        packets::mend_checksum(&mut packet);
        let inner = Inner::parse(&packet).unwrap();
        congestion(&mut packet, inner, CONGESTION);
        assert_eq!(packet[1] & ECN, CONGESTION);
        let expected = packet.clone();
        packets::mend_checksum(&mut packet);
        assert_eq!(packet, expected, "the checksum fits");
        let mut packet = packets::ipv6(1, 2, b"data");
        packet[1] |= 0b01 << 4;
        let inner = Inner::parse(&packet).unwrap();
        congestion(&mut packet, inner, CONGESTION);
        assert_eq!(Inner::parse(&packet).unwrap().ecn, CONGESTION);
    }
}
