//! From what was asked for and what was host to an underlay.
use super::{Error, HostNetwork, Selector, Underlay, addresses};
use linux_net::{link::Link, route::Route};
use regex::Regex;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An interface, and the addresses on it that the way of finding it fixed.
#[derive(Default)]
struct Found<'a> {
    link: Option<&'a Link>,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

/// Chooses. Each `--iface` is tried in order, then each `--iface-regex`, then `--iface-can-reach`; without any of them the
/// interface that owns the public IP, else that of the default route.
pub(crate) fn select(selector: &Selector, host: &HostNetwork) -> Result<Underlay, Error> {
    let by_name = selector
        .interfaces
        .iter()
        .map(|name| by_name(host, name).map_err(|reason| format!("-iface={name}: {reason}")));
    let by_pattern = selector.patterns.iter().map(|pattern| {
        by_pattern(selector, host, pattern)
            .map_err(|reason| format!("-iface-regex={pattern}: {reason}"))
    });
    let by_route = selector
        .can_reach
        .iter()
        .map(|ip| by_route(host).map_err(|reason| format!("-iface-can-reach={ip}: {reason}")));
    let mut reasons = Vec::new();
    for found in by_name.chain(by_pattern).chain(by_route) {
        match found.and_then(|found| complete(selector, host, found)) {
            Ok(underlay) => return Ok(underlay),
            Err(reason) => reasons.push(reason),
        }
    }
    if !reasons.is_empty() {
        return Err(Error::Given(reasons));
    }
    by_default(selector, host)
        .and_then(|found| complete(selector, host, found))
        .map_err(Error::Default)
}

fn by_name<'a>(host: &'a HostNetwork, name: &str) -> Result<Found<'a>, String> {
    let Ok(ip) = name.parse::<IpAddr>() else {
        let link = host.links.iter().find(|link| link.name == name);
        let link =
            link.ok_or_else(|| format!("error looking up interface {name}: no such interface"))?;
        return Ok(Found {
            link: Some(link),
            ..Found::default()
        });
    };
    at(host, ip)
}

/// The interface that has `ip`, with that address fixed.
fn at(host: &HostNetwork, ip: IpAddr) -> Result<Found<'_>, String> {
    let address = host.addresses.iter().find(|address| address.net.ip() == ip);
    let link = address.and_then(|address| by_index(host, address.index));
    let link = link.ok_or_else(|| {
        format!("error looking up interface {ip}: no interface with given IP found")
    })?;
    Ok(match ip {
        IpAddr::V4(v4) => Found {
            link: Some(link),
            v4: Some(v4),
            v6: None,
        },
        IpAddr::V6(v6) => Found {
            link: Some(link),
            v4: None,
            v6: Some(v6),
        },
    })
}

/// Addresses are matched before names; an address of a family that the network has not is not looked at.
fn by_pattern<'a>(
    selector: &Selector,
    host: &'a HostNetwork,
    pattern: &Regex,
) -> Result<Found<'a>, String> {
    for link in &host.links {
        let of_link = host
            .addresses
            .iter()
            .filter(|address| address.index == link.index);
        let wanted = of_link
            .map(|address| address.net.ip())
            .filter(|ip| match ip {
                IpAddr::V4(_) => selector.ipv4,
                IpAddr::V6(ip) => selector.ipv6 && !ip.is_unicast_link_local(),
            });
        let mut matching = wanted.filter(|ip| pattern.is_match(&ip.to_string()));
        if let Some(ip) = matching.next() {
            return at(host, ip);
        }
    }
    if let Some(link) = host.links.iter().find(|link| pattern.is_match(&link.name)) {
        return Ok(Found {
            link: Some(link),
            ..Found::default()
        });
    }
    let names: Vec<_> = host.links.iter().map(|link| link.name.as_str()).collect();
    Err(format!(
        "could not match pattern {pattern} to any of the available network interfaces ({})",
        names.join(", ")
    ))
}

fn by_route(host: &HostNetwork) -> Result<Found<'_>, String> {
    let route = host
        .route_to_target
        .as_ref()
        .ok_or("there is no route to it")?;
    let link = route.oif.and_then(|index| by_index(host, index));
    let link = link.ok_or("the route to it has no single interface")?;
    Ok(match route.prefsrc {
        Some(IpAddr::V4(v4)) => Found {
            link: Some(link),
            v4: Some(v4),
            v6: None,
        },
        Some(IpAddr::V6(v6)) => Found {
            link: Some(link),
            v4: None,
            v6: Some(v6),
        },
        None => Found {
            link: Some(link),
            ..Found::default()
        },
    })
}

/// A public IP names its interface; else the default routes do, and both families' must agree.
fn by_default<'a>(selector: &Selector, host: &'a HostNetwork) -> Result<Found<'a>, String> {
    if let (true, Some(ip)) = (selector.ipv4, selector.public_ip) {
        return at(host, ip.into());
    }
    if let (true, Some(ip)) = (selector.ipv6, selector.public_ipv6) {
        return at(host, ip.into());
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
        return Err(format!(
            "v6 default route interface {:?} must be the same with v4 default route interface {:?}",
            v6.name, v4.name
        ));
    }
    Ok(Found {
        link: v4.or(v6),
        ..Found::default()
    })
}

fn default_route(host: &HostNetwork, six: bool) -> Result<&Link, String> {
    let is_default = |route: &&Route| {
        route.dst.prefix() == 0
            && route.dst.is_ipv6() == six
            && route.kind == 1
            && route.table == 254
    };
    let family = if six { "IPv6 " } else { "" };
    let route = host.routes.iter().find(is_default);
    let route = route.ok_or_else(|| {
        format!("unable to find {family}default route; name the interface with -iface")
    })?;
    route.oif.and_then(|index| by_index(host, index)).ok_or_else(|| {
        format!(
            "found {family}default route but could not determine interface (it has several next hops); name it with -iface"
        )
    })
}

fn by_index(host: &HostNetwork, index: u32) -> Option<&Link> {
    host.links.iter().find(|link| link.index == index)
}

/// Fills in what the interface was not found by.
fn complete(selector: &Selector, host: &HostNetwork, found: Found<'_>) -> Result<Underlay, String> {
    let link = found
        .link
        .ok_or("the network configuration enables neither IPv4 nor IPv6")?;
    if link.mtu == 0 {
        return Err(format!(
            "failed to determine MTU for interface {}: it is 0",
            link.name
        ));
    }
    let address = match found.v4 {
        _ if !selector.ipv4 => None,
        Some(v4) => Some(v4),
        None => Some(addresses::ipv4(host, link)?),
    };
    let address_v6 = match (found.v6, selector.public_ipv6) {
        _ if !selector.ipv6 => None,
        (Some(v6), _) => Some(v6),
        // an IPv6 address of this interface that was asked for is taken rather than the first of it
        (None, Some(public)) if owns(host, link, public) => Some(public),
        (None, _) => Some(addresses::ipv6(host, link)?),
    };
    Ok(Underlay {
        index: link.index,
        name: link.name.clone(),
        mtu: link.mtu,
        address,
        address_v6,
        public_ip: address.map(|address| selector.public_ip.unwrap_or(address)),
        public_ipv6: address_v6.map(|address| selector.public_ipv6.unwrap_or(address)),
    })
}

fn owns(host: &HostNetwork, link: &Link, ip: Ipv6Addr) -> bool {
    let mut of_link = host
        .addresses
        .iter()
        .filter(|address| address.index == link.index);
    of_link.any(|address| address.net.ip() == IpAddr::V6(ip))
}

#[cfg(test)]
pub(super) mod tests;
