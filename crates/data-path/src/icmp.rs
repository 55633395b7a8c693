//! ICMP errors (RFC 792, RFC 1191, RFC 4443) for packets that go no further. They are sent by a
//! raw socket: the kernel takes no packet with an address of its own from a TUN device.

use crate::{
    checksum,
    ip::{self, Header},
};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto,
    socket,
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

/// An IPv4 error has at most this many bytes (RFC 1812, section 4.3.2.3).
const MAX_V4: usize = 576;
/// An IPv6 error has at most this many (RFC 4443, section 2.4).
const MAX_V6: usize = 1280;
/// The header of an error after that of IP, in bytes.
const ICMP_HEADER: usize = 8;
/// Errors that one worker sends within [`PERIOD`] at most: as many as the kernel
/// (`net.ipv4.icmp_msgs_per_sec`).
const MOST: u32 = 1000;
const PERIOD: Duration = Duration::from_secs(1);
/// The least MTU that an IPv6 sender accepts (RFC 8200, section 5), in bytes.
const MIN_MTU_V6: usize = 1280;

/// Why a packet goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// No node has the destination.
    Network,
    /// A host is not reached; of IPv6: an address.
    Host,
    /// The TTL or hop limit came to its end.
    TtlExceeded,
    /// It is longer than the path takes; the sender should keep to this MTU in bytes.
    TooLarge(usize),
}

/// Sends errors.
#[derive(Debug)]
pub(crate) struct IcmpSender {
    v4: Option<(OwnedFd, Ipv4Addr)>,
    v6: Option<(OwnedFd, Ipv6Addr)>,
    buffer: Vec<u8>,
    left: u32,
    since: Instant,
}

impl IcmpSender {
    /// Errors come from these addresses. Without the privilege for raw sockets none is sent.
    pub(crate) fn new(v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) -> IcmpSender {
        let open = |family| {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            socket(family, SockType::Raw, flags, SockProtocol::Raw).ok()
        };
        IcmpSender {
            v4: v4.and_then(|ip| Some((open(AddressFamily::Inet)?, ip))),
            v6: v6.and_then(|ip| Some((open(AddressFamily::Inet6)?, ip))),
            buffer: Vec::with_capacity(MAX_V6),
            left: MOST,
            since: Instant::now(),
        }
    }

    /// Tells the sender of a packet why it goes no further. False if it is not told: it must not
    /// be, or it was told often enough.
    pub(crate) fn send(&mut self, packet: &[u8], why: Unreachable) -> bool {
        let Ok(header) = Header::read(packet) else {
            return false;
        };
        if !may_be_answered(packet, &header) || !self.is_within_rate() {
            return false;
        }
        self.buffer.clear();
        match header.source {
            IpAddr::V4(to) => {
                let Some((socket, from)) = &self.v4 else {
                    return false;
                };
                error_v4(&mut self.buffer, packet, (*from, to), why);
                let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
                sendto(socket.as_raw_fd(), &self.buffer, &to, MsgFlags::empty()).is_ok()
            }
            IpAddr::V6(to) => {
                let Some((socket, from)) = &self.v6 else {
                    return false;
                };
                error_v6(&mut self.buffer, packet, (*from, to), why);
                let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0));
                sendto(socket.as_raw_fd(), &self.buffer, &to, MsgFlags::empty()).is_ok()
            }
        }
    }

    fn is_within_rate(&mut self) -> bool {
        if self.since.elapsed() >= PERIOD {
            (self.left, self.since) = (MOST, Instant::now());
        }
        let within = self.left > 0;
        self.left = self.left.saturating_sub(1);
        within
    }
}

/// No error answers an error, a later fragment, or what was sent to or from a group (RFC 1122,
/// section 3.2.2; RFC 4443, section 2.4).
fn may_be_answered(packet: &[u8], header: &Header) -> bool {
    let kind = packet.get(header.header).copied();
    let is_error = match (header.protocol, kind) {
        (ip::ICMP, Some(kind)) => !matches!(kind, 0 | 8 | 9 | 10 | 13..=18),
        (ip::ICMPV6, Some(kind)) => kind < 128,
        (ip::ICMP | ip::ICMPV6, None) => true,
        _ => false,
    };
    !is_error
        && !header.later_fragment
        && !ip::is_impossible_source(header.source)
        && !ip::is_link_scoped(header.destination)
}

fn error_v4(
    buffer: &mut Vec<u8>,
    packet: &[u8],
    (from, to): (Ipv4Addr, Ipv4Addr),
    why: Unreachable,
) {
    let quoted = &packet[..packet.len().min(MAX_V4 - ip::V4_HEADER - ICMP_HEADER)];
    let (kind, code, mtu) = match why {
        Unreachable::Network => (3, 0, 0),
        Unreachable::Host => (3, 1, 0),
        Unreachable::TooLarge(mtu) => (3, 4, mtu),
        Unreachable::TtlExceeded => (11, 0, 0),
    };
    let length = ICMP_HEADER + quoted.len();
    buffer.extend_from_slice(&ip::v4_header(from, to, ip::ICMP, length));
    let mtu = u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes();
    buffer.extend_from_slice(&[kind, code, 0, 0, 0, 0, mtu[0], mtu[1]]);
    buffer.extend_from_slice(quoted);
    let checksum = checksum::finish(checksum::sum(&buffer[ip::V4_HEADER..]));
    buffer[ip::V4_HEADER + 2..ip::V4_HEADER + 4].copy_from_slice(&checksum);
}

fn error_v6(
    buffer: &mut Vec<u8>,
    packet: &[u8],
    (from, to): (Ipv6Addr, Ipv6Addr),
    why: Unreachable,
) {
    let quoted = &packet[..packet.len().min(MAX_V6 - ip::V6_HEADER - ICMP_HEADER)];
    let (kind, code, mtu) = match why {
        Unreachable::Network => (1, 0, 0),
        Unreachable::Host => (1, 3, 0),
        Unreachable::TooLarge(mtu) => (2, 0, mtu.max(MIN_MTU_V6)),
        Unreachable::TtlExceeded => (3, 0, 0),
    };
    let length = ICMP_HEADER + quoted.len();
    buffer.extend_from_slice(&ip::v6_header(from, to, ip::ICMPV6, length));
    let mtu = u32::try_from(mtu).unwrap_or(u32::MAX).to_be_bytes();
    buffer.extend_from_slice(&[kind, code, 0, 0]);
    buffer.extend_from_slice(&mtu);
    buffer.extend_from_slice(quoted);
    let pseudo = checksum::pseudo_header(from.into(), to.into(), ip::ICMPV6, length);
    let checksum = checksum::finish(pseudo + checksum::sum(&buffer[ip::V6_HEADER..]));
    buffer[ip::V6_HEADER + 2..ip::V6_HEADER + 4].copy_from_slice(&checksum);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let (from, to) = ([10, 1, 0, 1].into(), [10, 1, 1, 1].into());
        let mut packet = ip::v4_header(from, to, protocol, payload.len()).to_vec();
        packet.extend_from_slice(payload);
        packet
    }

    #[test]
    fn error_quotes_the_packet_and_has_its_checksum() {
        let original = packet(ip::UDP, &[7; 1400]);
        let mut error = Vec::new();
        let addresses = ([10, 1, 0, 0].into(), [10, 1, 0, 1].into());
        error_v4(
            &mut error,
            &original,
            addresses,
            Unreachable::TooLarge(1372),
        );
        assert_eq!(error.len(), MAX_V4);
        assert_eq!(error[20..22], [3, 4]);
        assert_eq!(error[26..28], 1372u16.to_be_bytes());
        assert_eq!(error[28..], original[..MAX_V4 - 28]);
        assert_eq!(checksum::finish(checksum::sum(&error[20..])), [0, 0]);
        let header = Header::read(&error).unwrap();
        assert_eq!(
            (header.source, header.length),
            (IpAddr::from([10, 1, 0, 0]), MAX_V4)
        );
    }

    #[test]
    fn ipv6_error_asks_for_no_less_than_the_least_mtu() {
        let (from, to) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let mut original = ip::v6_header(to, from, ip::UDP, 1400).to_vec();
        original.extend([1; 1400]);
        let mut error = Vec::new();
        error_v6(
            &mut error,
            &original,
            (from, to),
            Unreachable::TooLarge(1000),
        );
        assert_eq!(error.len(), MAX_V6);
        assert_eq!(error[40..42], [2, 0]);
        assert_eq!(error[44..48], 1280u32.to_be_bytes());
        let pseudo = checksum::pseudo_header(from.into(), to.into(), ip::ICMPV6, MAX_V6 - 40);
        assert_eq!(
            checksum::finish(pseudo + checksum::sum(&error[40..])),
            [0, 0]
        );
    }

    #[test]
    fn errors_fragments_and_groups_are_not_answered() {
        let may = |packet: &[u8]| may_be_answered(packet, &Header::read(packet).unwrap());
        assert!(may(&packet(ip::UDP, &[0; 8])));
        assert!(may(&packet(ip::ICMP, &[8, 0])));
        assert!(!may(&packet(ip::ICMP, &[3, 1])));
        assert!(!may(&packet(ip::ICMP, &[11, 0])));
        let mut later = packet(ip::UDP, &[0; 8]);
        later[7] = 1;
        assert!(!may(&later));
        let mut group = packet(ip::UDP, &[0; 8]);
        group[16] = 224;
        assert!(!may(&group));
        let mut nobody = packet(ip::UDP, &[0; 8]);
        nobody[12..16].fill(0);
        assert!(!may(&nobody));
    }

    #[test]
    fn errors_have_a_rate() {
        let mut sender = IcmpSender::new(None, None);
        let allowed = (0..3 * MOST).filter(|_| sender.is_within_rate()).count();
        // a second can begin while they are counted
        assert!((MOST..=2 * MOST).contains(&(allowed as u32)), "{allowed}");
    }
}
