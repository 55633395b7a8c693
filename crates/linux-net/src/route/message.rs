//! Reading RTM_NEWROUTE and RTM_DELROUTE: `struct rtmsg` and the RTA_* attributes that a [`Route`] has.

use super::Route;
use crate::netlink::{Attribute, Malformed, Read, attributes, header};
use ipnetwork::IpNetwork;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;

const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;

const RTNH_F_ONLINK: u32 = 4;
const RTM_F_CLONED: u32 = 0x200;

/// IPv4 or IPv6.
pub(crate) fn is_ip(family: u8) -> bool {
    [AF_INET, AF_INET6].contains(&family)
}

/// A route out of what follows the netlink header; None for other families.
pub(crate) fn read(payload: &[u8]) -> Read<Option<Route>> {
    let (rtmsg, rest) = header::<12>(payload)?;
    let [
        family,
        prefix,
        _,
        _,
        table,
        protocol,
        scope,
        kind,
        f0,
        f1,
        f2,
        f3,
    ] = rtmsg;
    if !is_ip(family) {
        return Ok(None);
    }
    let any: IpAddr = match family {
        AF_INET => Ipv4Addr::UNSPECIFIED.into(),
        _ => Ipv6Addr::UNSPECIFIED.into(),
    };
    let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
    let mut route = Route {
        onlink: flags & RTNH_F_ONLINK != 0,
        table: table.into(),
        protocol,
        scope,
        kind,
        ..Route::new(network(any, prefix)?)
    };
    let mut several = false;
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
            RTA_METRICS => (route.mtu, route.advmss) = metrics(&attribute)?,
            RTA_MULTIPATH => several = true,
            _ => {}
        }
    }
    if several {
        (route.oif, route.gateway) = (None, None);
    }
    Ok(Some(route))
}

/// True for what is not in a table: the kernel's answer to a look-up, an entry of a cache.
pub(crate) fn is_cached(payload: &[u8]) -> bool {
    payload.get(8..12).is_some_and(|flags| {
        flags
            .try_into()
            .is_ok_and(|flags| u32::from_ne_bytes(flags) & RTM_F_CLONED != 0)
    })
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

fn metrics(attribute: &Attribute<'_>) -> Read<(u32, u32)> {
    let (mut mtu, mut advmss) = (0, 0);
    for metric in attributes(attribute.value) {
        let metric = metric?;
        match metric.kind {
            RTAX_MTU => mtu = metric.u32()?,
            RTAX_ADVMSS => advmss = metric.u32()?,
            _ => {}
        }
    }
    Ok((mtu, advmss))
}
