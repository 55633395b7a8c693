//! A port of the host that leads to a port of a container.
use std::net::{IpAddr, SocketAddr};

/// Protocols with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Sctp,
    Dccp,
    UdpLite,
}

impl Protocol {
    pub(crate) const ALL: [Protocol; 5] = [
        Protocol::Tcp,
        Protocol::Udp,
        Protocol::Sctp,
        Protocol::Dccp,
        Protocol::UdpLite,
    ];

    /// In any case, as runtimes write it.
    pub(crate) fn parse(text: &str) -> Option<Protocol> {
        Protocol::ALL
            .into_iter()
            .find(|protocol| protocol.name().eq_ignore_ascii_case(text))
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

    /// IPPROTO_*
    pub(crate) fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
            Protocol::Dccp => 33,
            Protocol::UdpLite => 136,
        }
    }
}

/// One mapping of one family.
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
    pub(crate) fn same_host_side(&self, other: &Forward) -> bool {
        (self.protocol, self.host_ip, self.host_port)
            == (other.protocol, other.host_ip, other.host_port)
    }
}

impl std::fmt::Display for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let target = SocketAddr::new(self.container, self.container_port);
        match self.host_ip {
            Some(ip) => write!(
                f,
                "{} {} to {target}",
                self.protocol.name(),
                SocketAddr::new(ip, self.host_port)
            ),
            None => write!(
                f,
                "{} port {} to {target}",
                self.protocol.name(),
                self.host_port
            ),
        }
    }
}
