//! One port mapping: a port of the host that leads to a port of a container.

use nix::libc;
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// Protocols with ports; the values are IPPROTO_* (linux/in.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Protocol {
    Tcp = libc::IPPROTO_TCP as u8,
    Udp = libc::IPPROTO_UDP as u8,
    Sctp = libc::IPPROTO_SCTP as u8,
    Dccp = libc::IPPROTO_DCCP as u8,
    UdpLite = libc::IPPROTO_UDPLITE as u8,
}

impl Protocol {
    pub(crate) const ALL: [Protocol; 5] = [
        Protocol::Tcp,
        Protocol::Udp,
        Protocol::Sctp,
        Protocol::Dccp,
        Protocol::UdpLite,
    ];

    /// Ignores case: runtimes write `TCP`.
    pub(crate) fn parse(text: &str) -> Option<Protocol> {
        Protocol::ALL
            .into_iter()
            .find(|protocol| protocol.name().eq_ignore_ascii_case(text))
    }

    pub(crate) fn from_number(number: u8) -> Option<Protocol> {
        Protocol::ALL
            .into_iter()
            .find(|protocol| *protocol as u8 == number)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
            Protocol::Dccp => "dccp",
            Protocol::UdpLite => "udplite",
        }
    }
}

/// The side of the host: (protocol, address, port). Without an address it is any address of the
/// host.
pub(crate) type HostSide = (Protocol, Option<IpAddr>, u16);

/// True if every packet to `other` is one to `side`, too.
pub(crate) fn covers(side: HostSide, other: HostSide) -> bool {
    let (protocol, ip, port) = side;
    (protocol, port) == (other.0, other.2) && ip.is_none_or(|ip| other.1 == Some(ip))
}

/// A mapping of one address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) protocol: Protocol,
    /// None: any address of the host
    pub(crate) host_ip: Option<IpAddr>,
    pub(crate) host_port: u16,
    pub(crate) container: IpAddr,
    pub(crate) container_port: u16,
}

impl Forward {
    pub(crate) fn host_side(&self) -> HostSide {
        (self.protocol, self.host_ip, self.host_port)
    }

    /// True if every packet to the other's host side is one to this one's, too.
    pub(crate) fn covers(&self, other: &Forward) -> bool {
        covers(self.host_side(), other.host_side())
    }

    pub(crate) fn target(&self) -> SocketAddr {
        SocketAddr::new(self.container, self.container_port)
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (protocol, target) = (self.protocol.name(), self.target());
        match self.host_ip {
            Some(ip) => {
                let host = SocketAddr::new(ip, self.host_port);
                write!(f, "{protocol} {host} to {target}")
            }
            None => write!(f, "{protocol} port {} to {target}", self.host_port),
        }
    }
}
