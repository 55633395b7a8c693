//! Tunnels that put an IP header before an IP packet: kinds "ipip" and "ip6tnl"
//! (linux/if_tunnel.h).

use super::create::{common, create, info};
use crate::{
    Request,
    netlink::{Read, attributes},
};
use netlink_packet_route::{
    IpProtocol,
    link::{InfoData, InfoIpTunnel, InfoKind, Ip6TunnelFlags, LinkAttribute},
};
use std::net::IpAddr;

const IFLA_IPTUN_LINK: u16 = 1;
const IFLA_IPTUN_LOCAL: u16 = 2;
const IFLA_IPTUN_REMOTE: u16 = 3;
const IFLA_IPTUN_TTL: u16 = 4;
const IFLA_IPTUN_TOS: u16 = 5;
const IFLA_IPTUN_PROTO: u16 = 9;
const IFLA_IPTUN_PMTUDISC: u16 = 10;
const IFLA_IPTUN_ENCAP_TYPE: u16 = 15;
const IFLA_IPTUN_COLLECT_METADATA: u16 = 19;
/// IP6_TNL_F_IGN_ENCAP_LIMIT (linux/ip6_tunnel.h): no destination option with a limit of further
/// encapsulation, which takes 8 bytes of each packet.
const IGN_ENCAP_LIMIT: Ip6TunnelFlags = Ip6TunnelFlags::IgnEncapLimit;

/// Attributes of such a tunnel (IFLA_IPTUN_*).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IpTunnel {
    /// The outer header: IPv4 (kind "ipip") or IPv6 (kind "ip6tnl").
    pub outer: Outer,
    /// IFLA_IPTUN_LINK: ifindex of the interface that packets leave by
    pub lower: Option<u32>,
    /// IFLA_IPTUN_LOCAL; None: any
    pub local: Option<IpAddr>,
    /// IFLA_IPTUN_REMOTE; None: any, routes say where packets go
    pub remote: Option<IpAddr>,
    /// IFLA_IPTUN_TTL of the outer header, 0: the packet's own
    pub ttl: u8,
    /// IFLA_IPTUN_TOS of the outer header (IPv4), 1: the packet's own
    pub tos: u8,
    /// IFLA_IPTUN_PROTO: the protocol of the packets, 0: any, 4: IPv4, 41: IPv6
    pub protocol: u8,
    /// IFLA_IPTUN_PMTUDISC (IPv4): packets are not fragmented on the way
    pub pmtudisc: bool,
    /// IFLA_IPTUN_COLLECT_METADATA: each route says with which outer addresses packets travel
    /// ([`crate::route::Ip6Encap`]). A namespace has one such "ip6tnl" device.
    pub external: bool,
    /// Read only: IFLA_IPTUN_ENCAP_TYPE is not 0, packets travel in UDP.
    pub in_udp: bool,
}

/// The family of the outer header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outer {
    /// Kind "ipip".
    V4,
    /// Kind "ip6tnl".
    V6,
}

impl Outer {
    /// IFLA_INFO_KIND.
    pub fn kind(self) -> &'static str {
        match self {
            Outer::V4 => "ipip",
            Outer::V6 => "ip6tnl",
        }
    }
}

impl IpTunnel {
    /// A tunnel to any address for any protocol, whose packets keep their TTL.
    pub fn new(outer: Outer) -> IpTunnel {
        IpTunnel {
            outer,
            lower: None,
            local: None,
            remote: None,
            ttl: 0,
            tos: 0,
            protocol: 0,
            pmtudisc: false,
            external: false,
            in_udp: false,
        }
    }
}

/// A tunnel without transmit queue (IFLA_TXQLEN 0, as upstream sends). An "ip6tnl" writes no
/// encapsulation limit.
pub fn create_ip_tunnel(name: &str, tunnel: &IpTunnel, mtu: Option<u32>) -> Request {
    let mut data = Vec::new();
    data.extend(tunnel.lower.map(InfoIpTunnel::Link));
    data.extend(tunnel.local.map(InfoIpTunnel::Local));
    data.extend(tunnel.remote.map(InfoIpTunnel::Remote));
    data.extend([
        InfoIpTunnel::Ttl(tunnel.ttl),
        InfoIpTunnel::Protocol(IpProtocol::from(tunnel.protocol)),
    ]);
    let kind = match tunnel.outer {
        Outer::V4 => {
            data.extend([
                InfoIpTunnel::Tos(tunnel.tos),
                InfoIpTunnel::PMtuDisc(tunnel.pmtudisc),
            ]);
            InfoKind::IpIp
        }
        Outer::V6 => {
            data.push(InfoIpTunnel::Ipv6Flags(IGN_ENCAP_LIMIT));
            InfoKind::Ip6Tnl
        }
    };
    data.extend(tunnel.external.then_some(InfoIpTunnel::CollectMetadata));
    let mut attributes = common(name, mtu, None);
    attributes.push(LinkAttribute::TxQueueLen(0));
    attributes.push(info(kind, Some(InfoData::IpTunnel(data))));
    create(attributes, format!("create {} {name}", tunnel.outer.kind()))
}

/// IFLA_INFO_DATA.
pub(super) fn read(outer: Outer, data: &[u8]) -> Read<IpTunnel> {
    let mut tunnel = IpTunnel::new(outer);
    let specified = |ip: IpAddr| (!ip.is_unspecified()).then_some(ip);
    for attribute in attributes(data) {
        let attribute = attribute?;
        match attribute.kind {
            IFLA_IPTUN_LINK => tunnel.lower = Some(attribute.u32()?).filter(|index| *index != 0),
            IFLA_IPTUN_LOCAL => tunnel.local = specified(attribute.ip()?),
            IFLA_IPTUN_REMOTE => tunnel.remote = specified(attribute.ip()?),
            IFLA_IPTUN_TTL => tunnel.ttl = attribute.u8()?,
            IFLA_IPTUN_TOS => tunnel.tos = attribute.u8()?,
            IFLA_IPTUN_PROTO => tunnel.protocol = attribute.u8()?,
            IFLA_IPTUN_PMTUDISC => tunnel.pmtudisc = attribute.flag()?,
            IFLA_IPTUN_ENCAP_TYPE => tunnel.in_udp = attribute.u16()? != 0,
            IFLA_IPTUN_COLLECT_METADATA => tunnel.external = true,
            _ => {}
        }
    }
    Ok(tunnel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{self, Kind};

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// What follows `struct ifinfomsg`.
    fn sent(tunnel: &IpTunnel) -> Vec<u8> {
        create_ip_tunnel("t", tunnel, Some(1480)).body()[16..].to_vec()
    }

    fn expected(kind: &str, data: &[Vec<u8>]) -> Vec<u8> {
        let data = attribute(2, &data.concat());
        let info = [attribute(1, kind.as_bytes()), data].concat();
        [
            attribute(3, b"t\0"),
            attribute(4, &1480u32.to_ne_bytes()),
            attribute(13, &0u32.to_ne_bytes()),
            attribute(18, &info),
        ]
        .concat()
    }

    #[test]
    fn ipip_is_requested_as_upstream_requests_it() {
        let tunnel = IpTunnel {
            local: Some([192, 0, 2, 1].into()),
            ..IpTunnel::new(Outer::V4)
        };
        let data = [
            attribute(IFLA_IPTUN_LOCAL, &[192, 0, 2, 1]),
            attribute(IFLA_IPTUN_TTL, &[0]),
            attribute(IFLA_IPTUN_PROTO, &[0]),
            attribute(IFLA_IPTUN_TOS, &[0]),
            attribute(IFLA_IPTUN_PMTUDISC, &[0]),
        ];
        assert_eq!(sent(&tunnel), expected("ipip\0", &data));
    }

    #[test]
    fn external_ip6tnl_is_requested_without_encapsulation_limit() {
        let tunnel = IpTunnel {
            protocol: 41,
            external: true,
            ..IpTunnel::new(Outer::V6)
        };
        let data = [
            attribute(IFLA_IPTUN_TTL, &[0]),
            attribute(IFLA_IPTUN_PROTO, &[41]),
            attribute(8, &1u32.to_ne_bytes()),
            attribute(IFLA_IPTUN_COLLECT_METADATA, &[]),
        ];
        assert_eq!(sent(&tunnel), expected("ip6tnl\0", &data));
    }

    #[test]
    fn links_answer_is_read() {
        let message = |kind: &str, data: &[Vec<u8>]| {
            let data = attribute(2, &data.concat());
            let info = [attribute(1, kind.as_bytes()), data].concat();
            let link = [
                vec![0; 16],
                attribute(3, b"t\0"),
                attribute(1, &[192, 0, 2, 1]),
                attribute(18, &info),
            ];
            link::read(&link.concat()).unwrap()
        };
        let any = [0; 16];
        let data = [
            attribute(IFLA_IPTUN_LINK, &0u32.to_ne_bytes()),
            attribute(IFLA_IPTUN_LOCAL, &[192, 0, 2, 1]),
            attribute(IFLA_IPTUN_REMOTE, &[0; 4]),
            attribute(IFLA_IPTUN_TTL, &[64]),
            attribute(IFLA_IPTUN_PMTUDISC, &[1]),
            attribute(IFLA_IPTUN_ENCAP_TYPE, &[0, 0]),
        ];
        let link = message("ipip", &data);
        assert_eq!(link.mac, None, "the address of an ipip link is not a MAC");
        let ipip = IpTunnel {
            local: Some([192, 0, 2, 1].into()),
            ttl: 64,
            pmtudisc: true,
            ..IpTunnel::new(Outer::V4)
        };
        assert_eq!(link.kind, Kind::IpTunnel(ipip));
        let data = [
            attribute(IFLA_IPTUN_LOCAL, &any),
            attribute(IFLA_IPTUN_REMOTE, &any),
            attribute(IFLA_IPTUN_PROTO, &[41]),
            attribute(IFLA_IPTUN_ENCAP_TYPE, &1u16.to_ne_bytes()),
            attribute(IFLA_IPTUN_COLLECT_METADATA, &[]),
        ];
        let external = IpTunnel {
            protocol: 41,
            external: true,
            in_udp: true,
            ..IpTunnel::new(Outer::V6)
        };
        assert_eq!(message("ip6tnl", &data).kind, Kind::IpTunnel(external));
        let short = [attribute(IFLA_IPTUN_LOCAL, &[1, 2])];
        assert!(read(Outer::V4, &short.concat()).is_err());
    }
}
