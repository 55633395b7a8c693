//! Routes whose packets get an outer header (lightweight tunnels, linux/lwtunnel.h).

use crate::netlink::{Malformed, Read, attributes};
use netlink_packet_route::route::{
    RouteAttribute, RouteIp6Tunnel, RouteLwEnCapType, RouteLwTunnelEncap,
};
use std::net::{IpAddr, Ipv6Addr};

const LWTUNNEL_ENCAP_IP6: u16 = 4;
const LWTUNNEL_IP6_ID: u16 = 1;
const LWTUNNEL_IP6_DST: u16 = 2;
const LWTUNNEL_IP6_SRC: u16 = 3;
const LWTUNNEL_IP6_PAD: u16 = 7;

/// The outer IPv6 header that a device in external mode gives the packets of a route
/// (LWTUNNEL_ENCAP_IP6), without tunnel ID; its hop limit and traffic class are the device's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ip6Encap {
    /// LWTUNNEL_IP6_DST
    pub dst: Ipv6Addr,
    /// LWTUNNEL_IP6_SRC; unspecified: the kernel chooses
    pub src: Ipv6Addr,
}

impl Ip6Encap {
    pub(super) fn attributes(&self) -> [RouteAttribute; 2] {
        let tunnel = [
            RouteIp6Tunnel::Id(0),
            RouteIp6Tunnel::Destination(self.dst),
            RouteIp6Tunnel::Source(self.src),
        ];
        [
            RouteAttribute::EncapType(RouteLwEnCapType::Ip6),
            RouteAttribute::Encap(tunnel.map(RouteLwTunnelEncap::Ip6).into()),
        ]
    }

    /// RTA_ENCAP of this RTA_ENCAP_TYPE; None for an encapsulation of another type or with more
    /// than addresses.
    pub(super) fn read(encap_type: u16, data: &[u8]) -> Read<Option<Ip6Encap>> {
        if encap_type != LWTUNNEL_ENCAP_IP6 {
            return Ok(None);
        }
        let mut encap = Ip6Encap {
            dst: Ipv6Addr::UNSPECIFIED,
            src: Ipv6Addr::UNSPECIFIED,
        };
        for attribute in attributes(data) {
            let attribute = attribute?;
            let ip = || match attribute.ip()? {
                IpAddr::V6(ip) => Ok(ip),
                IpAddr::V4(ip) => Err(Malformed(format!("an IPv6 header with the address {ip}"))),
            };
            match attribute.kind {
                LWTUNNEL_IP6_DST => encap.dst = ip()?,
                LWTUNNEL_IP6_SRC => encap.src = ip()?,
                LWTUNNEL_IP6_PAD => {}
                // the ID, the hop limit, the traffic class and the flags are 0 unless they are set
                LWTUNNEL_IP6_ID.. if attribute.value.iter().all(|byte| *byte == 0) => {}
                _ => return Ok(None),
            }
        }
        Ok(Some(encap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{self, Route};

    fn encapsulated() -> Route {
        Route {
            oif: Some(4),
            encap: Some(Ip6Encap {
                dst: "fd31::2".parse().unwrap(),
                src: "fd31::1".parse().unwrap(),
            }),
            ..Route::new("fd00:2::/64".parse().unwrap())
        }
    }

    #[test]
    fn request_is_read_back() {
        let request = route::replace(&encapsulated());
        assert_eq!(
            request.what(),
            "replace route fd00:2::/64 encapsulated to fd31::2 on link 4"
        );
        assert_eq!(route::read(request.body()), Ok(Some(encapsulated())));
    }

    /// As `ip -6 route add fd00:2::/64 encap ip6 id 0 dst fd31::2 src fd31::1 dev X` sends it.
    #[test]
    fn request_has_iproute2s_bytes() {
        let body = route::add(&encapsulated()).body().to_vec();
        let dst: Ipv6Addr = "fd31::2".parse().unwrap();
        let src: Ipv6Addr = "fd31::1".parse().unwrap();
        let nested = [
            &[12, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 2, 0][..],
            &dst.octets(),
            &[20, 0, 3, 0],
            &src.octets(),
        ]
        .concat();
        let type_is_ip6 = [6, 0, 21, 0, 4, 0, 0, 0];
        let has = |part: &[u8]| body.windows(part.len()).any(|window| window == part);
        assert!(has(&nested) && has(&type_is_ip6), "{body:?}");
    }

    #[test]
    fn further_settings_and_other_types_are_other_attributes() {
        let body = route::add(&encapsulated()).body().to_vec();
        let at = |part: &[u8]| {
            let mut windows = body.windows(part.len());
            windows.position(|window| window == part).unwrap()
        };
        for (part, offset) in [(&[12, 0, 1, 0][..], 11), (&[6, 0, 21, 0][..], 4)] {
            let mut changed = body.clone();
            changed[at(part) + offset] += 1;
            let route = route::read(&changed).unwrap().unwrap();
            assert!(route.encap.is_none() && route.other_attributes, "{route:?}");
        }
        let mut short = body.clone();
        short[at(&[20, 0, 2, 0])] = 8;
        assert!(route::read(&short).is_err(), "four bytes are no address");
    }
}
