//! Reading RTM_NEWROUTE and RTM_DELROUTE.

use super::{Ip6Encap, Route};
use crate::{
    family,
    netlink::{Attribute, Malformed, Read, attributes, header},
};
use ipnetwork::IpNetwork;
use netlink_packet_route::route::RouteFlags;
use nix::libc::{
    RTA_CACHEINFO, RTA_DST, RTA_ENCAP, RTA_ENCAP_TYPE, RTA_FLOW, RTA_GATEWAY, RTA_METRICS,
    RTA_MULTIPATH, RTA_OIF, RTA_PREF, RTA_PREFSRC, RTA_PRIORITY, RTA_SRC, RTA_TABLE,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

// not in libc for every C library (linux/rtnetlink.h)
const RTA_VIA: u16 = 18;
const RTA_NH_ID: u16 = 30;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;

/// `struct rtmsg` and RTA_*; None for families other than IPv4 and IPv6.
pub(crate) fn read(payload: &[u8]) -> Read<Option<Route>> {
    let (rtmsg, rest) = header::<12>(payload)?;
    let [
        family,
        prefix,
        _,
        tos,
        table,
        protocol,
        scope,
        kind,
        flags @ ..,
    ] = rtmsg;
    if !family::is_ip(family) {
        return Ok(None);
    }
    let any: IpAddr = match family::is_ipv6(family) {
        false => Ipv4Addr::UNSPECIFIED.into(),
        true => Ipv6Addr::UNSPECIFIED.into(),
    };
    let mut route = Route {
        onlink: route_flags(flags).contains(RouteFlags::Onlink),
        table: table.into(),
        protocol: protocol.into(),
        scope: scope.into(),
        kind: kind.into(),
        tos,
        ..Route::new(network(any, prefix)?)
    };
    let mut several = false;
    let (mut encap_type, mut encap) = (None, &[][..]);
    for attribute in attributes(rest) {
        let attribute = attribute?;
        match attribute.kind {
            RTA_DST => route.dst = network(attribute.ip()?, prefix)?,
            RTA_OIF => route.oif = Some(attribute.u32()?),
            RTA_GATEWAY => route.gateway = Some(attribute.ip()?),
            RTA_VIA => route.gateway = via(&attribute)?,
            RTA_PRIORITY => route.priority = attribute.u32()?,
            RTA_PREFSRC => route.prefsrc = Some(attribute.ip()?),
            RTA_TABLE => route.table = attribute.u32()?,
            RTA_METRICS => metrics(&attribute, &mut route)?,
            RTA_MULTIPATH => several = true,
            RTA_CACHEINFO => route.other_attributes |= expires(&attribute),
            RTA_PREF => route.other_attributes |= attribute.u8()? != 0,
            RTA_ENCAP_TYPE => encap_type = Some(attribute.u16()?),
            RTA_ENCAP => encap = attribute.value,
            RTA_SRC | RTA_FLOW | RTA_NH_ID => route.other_attributes = true,
            _ => {}
        }
    }
    if let Some(encap_type) = encap_type {
        route.encap = Ip6Encap::read(encap_type, encap)?;
        route.other_attributes |= route.encap.is_none();
    }
    if several {
        (route.oif, route.gateway) = (None, None);
        route.other_attributes = true;
    }
    Ok(Some(route))
}

/// RTM_F_CLONED: an answer to a look-up or an entry of a cache, which is in no table.
pub(crate) fn is_cached(payload: &[u8]) -> bool {
    let flags = header::<12>(payload).map(|([.., f0, f1, f2, f3], _)| [f0, f1, f2, f3]);
    flags.is_ok_and(|flags| route_flags(flags).contains(RouteFlags::Cloned))
}

fn route_flags(bytes: [u8; 4]) -> RouteFlags {
    RouteFlags::from_bits_retain(u32::from_ne_bytes(bytes))
}

fn network(ip: IpAddr, prefix: u8) -> Read<IpNetwork> {
    IpNetwork::new(ip, prefix).map_err(|error| Malformed(error.to_string()))
}

/// `struct rtvia`: a next hop of another family than the route's.
fn via(attribute: &Attribute<'_>) -> Read<Option<IpAddr>> {
    let (_, value) = header::<2>(attribute.value)?;
    let kind = attribute.kind;
    Ok(Attribute { kind, value }.ip().ok())
}

fn metrics(attribute: &Attribute<'_>, route: &mut Route) -> Read<()> {
    for metric in attributes(attribute.value) {
        let metric = metric?;
        match metric.kind {
            RTAX_MTU => route.mtu = metric.u32()?,
            RTAX_ADVMSS => route.advmss = metric.u32()?,
            _ => route.other_attributes = true,
        }
    }
    Ok(())
}

/// `struct rta_cacheinfo` of an IPv6 route: its third field is the rest of the route's life.
fn expires(attribute: &Attribute<'_>) -> bool {
    let rest = header::<12>(attribute.value).map(|([.., e0, e1, e2, e3], _)| [e0, e1, e2, e3]);
    rest.is_ok_and(|rest| rest != [0; 4])
}
