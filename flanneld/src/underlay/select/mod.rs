//! Selects the underlay from the options and a dump of the host's network.

use super::{
    addresses,
    error::{Error, Reason, Rejected},
    host_network::{HostNetwork, is_main_unicast},
    selected::Underlay,
    selector::Selector,
};
use linux_net::{link::Link, route::Route};
use regex::Regex;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An interface, with the addresses on it that the way of finding it fixed.
struct Candidate<'a> {
    link: &'a Link,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

impl<'a> Candidate<'a> {
    fn new(link: &'a Link, address: Option<IpAddr>) -> Candidate<'a> {
        let (v4, v6) = match address {
            None => (None, None),
            Some(IpAddr::V4(v4)) => (Some(v4), None),
            Some(IpAddr::V6(v6)) => (None, Some(v6)),
        };
        Candidate { link, v4, v6 }
    }
}

/// Tries each `-iface` in order, then each `-iface-regex`, then `-iface-can-reach`. Without any of
/// them it takes the interface that has the public IP, else that of the default route.
pub(crate) fn select(selector: &Selector, host: &HostNetwork) -> Result<Underlay, Error> {
    let by_name = selector
        .interfaces
        .iter()
        .map(|name| ("iface", name.clone(), by_name(host, name)));
    let by_pattern = selector.patterns.iter().map(|pattern| {
        let found = by_pattern(selector, host, pattern);
        ("iface-regex", pattern.to_string(), found)
    });
    let by_route = selector
        .can_reach
        .iter()
        .map(|ip| ("iface-can-reach", ip.to_string(), by_route(host)));
    let mut rejected = Vec::new();
    for (option, value, found) in by_name.chain(by_pattern).chain(by_route) {
        match found.and_then(|candidate| complete(selector, host, candidate)) {
            Ok(underlay) => return Ok(underlay),
            Err(reason) => rejected.push(Rejected {
                option,
                value,
                reason,
            }),
        }
    }
    if !rejected.is_empty() {
        return Err(Error::Options(rejected));
    }
    by_default(selector, host)
        .and_then(|candidate| complete(selector, host, candidate))
        .map_err(Error::Default)
}

fn by_name<'a>(host: &'a HostNetwork, name: &str) -> Result<Candidate<'a>, Reason> {
    if let Ok(ip) = name.parse() {
        return by_address(host, ip);
    }
    let link = host.link(name);
    let link = link.ok_or_else(|| Reason::NoSuchInterface(name.to_owned()))?;
    Ok(Candidate::new(link, None))
}

fn by_address(host: &HostNetwork, ip: IpAddr) -> Result<Candidate<'_>, Reason> {
    let address = host.addresses.iter().find(|address| address.net.ip() == ip);
    let link = address.and_then(|address| host.link_by_index(address.index));
    let link = link.ok_or(Reason::NoInterfaceWithIp(ip))?;
    Ok(Candidate::new(link, Some(ip)))
}

/// Matches addresses before names; addresses of a family that the network does not have do not
/// match.
fn by_pattern<'a>(
    selector: &Selector,
    host: &'a HostNetwork,
    pattern: &Regex,
) -> Result<Candidate<'a>, Reason> {
    let is_wanted = |ip: &IpAddr| match ip {
        IpAddr::V4(_) => selector.ipv4,
        IpAddr::V6(ip) => selector.ipv6 && !ip.is_unicast_link_local(),
    };
    let mut matching = host.links.iter().flat_map(|link| {
        host.addresses_of(link)
            .map(|address| address.net.ip())
            .filter(|ip| is_wanted(ip) && pattern.is_match(&ip.to_string()))
    });
    if let Some(ip) = matching.next() {
        return by_address(host, ip);
    }
    let mut links = host.links.iter();
    let link = links.find(|link| pattern.is_match(&link.name));
    let link = link.ok_or_else(|| Reason::NoMatch {
        pattern: pattern.to_string(),
        interfaces: host.links.iter().map(|link| link.name.clone()).collect(),
    })?;
    Ok(Candidate::new(link, None))
}

fn by_route(host: &HostNetwork) -> Result<Candidate<'_>, Reason> {
    let route = host.route_to_target.as_ref().ok_or(Reason::NoRoute)?;
    let link = route.oif.and_then(|index| host.link_by_index(index));
    let link = link.ok_or(Reason::RouteWithoutInterface)?;
    Ok(Candidate::new(link, route.prefsrc))
}

/// By the public IP if the host has it, else by the default routes, which must agree in dual stack.
fn by_default<'a>(selector: &Selector, host: &'a HostNetwork) -> Result<Candidate<'a>, Reason> {
    if let (true, Some(ip)) = (selector.ipv4, selector.public_ip) {
        return by_address(host, ip.into());
    }
    if let (true, Some(ip)) = (selector.ipv6, selector.public_ipv6) {
        return by_address(host, ip.into());
    }
    let v4 = selector
        .ipv4
        .then(|| default_route(host, false))
        .transpose()?;
    let v6 = selector
        .ipv6
        .then(|| default_route(host, true))
        .transpose()?;
    if let (Some(v4), Some(v6)) = (v4, v6)
        && v4.index != v6.index
    {
        return Err(Reason::DefaultRoutesDiffer {
            v4: v4.name.clone(),
            v6: v6.name.clone(),
        });
    }
    let link = v4.or(v6).ok_or(Reason::NoFamily)?;
    Ok(Candidate::new(link, None))
}

/// The interface of the family's default route.
fn default_route(host: &HostNetwork, ipv6: bool) -> Result<&Link, Reason> {
    let is_default = |route: &&Route| {
        route.dst.prefix() == 0 && route.dst.is_ipv6() == ipv6 && is_main_unicast(route)
    };
    let family = if ipv6 { "IPv6 " } else { "" };
    let mut routes = host.routes.iter();
    let route = routes.find(is_default);
    let route = route.ok_or(Reason::NoDefaultRoute { family })?;
    let link = route.oif.and_then(|index| host.link_by_index(index));
    link.ok_or(Reason::DefaultRouteWithoutInterface { family })
}

/// Adds what the way of finding the interface did not fix.
fn complete(
    selector: &Selector,
    host: &HostNetwork,
    candidate: Candidate<'_>,
) -> Result<Underlay, Reason> {
    let link = candidate.link;
    if link.mtu == 0 {
        return Err(Reason::ZeroMtu(link.name.clone()));
    }
    // a public address that the interface has comes before its best one
    let public_ip = selector
        .public_ip
        .filter(|ip| host.has_address(link, (*ip).into()));
    let public_ipv6 = selector
        .public_ipv6
        .filter(|ip| host.has_address(link, (*ip).into()));
    let address = match candidate.v4.or(public_ip) {
        _ if !selector.ipv4 => None,
        Some(v4) => Some(v4),
        None => Some(addresses::ipv4(selector, host, link)?),
    };
    let address_v6 = match candidate.v6.or(public_ipv6) {
        _ if !selector.ipv6 => None,
        Some(v6) => Some(v6),
        None => Some(addresses::ipv6(selector, host, link)?),
    };
    let underlay = Underlay {
        index: link.index,
        name: link.name.clone(),
        mtu: link.mtu,
        address,
        address_v6,
        public_ip: address.map(|address| selector.public_ip.unwrap_or(address)),
        public_ipv6: address_v6.map(|address| selector.public_ipv6.unwrap_or(address)),
    };
    let in_pod_network = |address| Some((address, selector.pod_network_of(address)?));
    let refused = underlay.addresses().find_map(in_pod_network);
    match refused {
        Some((address, network)) => Err(Reason::InPodNetwork { address, network }),
        None => Ok(underlay),
    }
}

#[cfg(test)]
mod tests;
