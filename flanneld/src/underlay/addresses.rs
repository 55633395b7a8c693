//! The best address of an interface.

use super::{error::Reason, host_network::HostNetwork, selector::Selector};
use linux_net::{
    address::{Address, AddressFlags},
    link::Link,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The interface's best IPv4 address.
pub(super) fn ipv4(
    selector: &Selector,
    host: &HostNetwork,
    link: &Link,
) -> Result<Ipv4Addr, Reason> {
    match best(selector, host, link, IpAddr::is_ipv4) {
        Some(IpAddr::V4(ip)) => Ok(ip),
        _ => Err(missing("IPv4", link)),
    }
}

/// The interface's best IPv6 address.
pub(super) fn ipv6(
    selector: &Selector,
    host: &HostNetwork,
    link: &Link,
) -> Result<Ipv6Addr, Reason> {
    match best(selector, host, link, IpAddr::is_ipv6) {
        Some(IpAddr::V6(ip)) => Ok(ip),
        _ => Err(missing("IPv6", link)),
    }
}

fn missing(family: &'static str, link: &Link) -> Reason {
    Reason::NoAddress {
        family,
        interface: link.name.clone(),
    }
}

/// Deprecated and host-local addresses are left out, as are those of the pods' networks. Global
/// addresses come before link-local ones, permanent before dynamic, stable before temporary; the
/// kernel's order decides among equals.
fn best(
    selector: &Selector,
    host: &HostNetwork,
    link: &Link,
    is_of_family: fn(&IpAddr) -> bool,
) -> Option<IpAddr> {
    let has = |address: &Address, flag| address.flags.contains(flag);
    let rank = |address: &&Address| {
        (
            is_link_local(&address.net.ip()),
            !has(address, AddressFlags::Permanent),
            // IFA_F_TEMPORARY of IPv6; the same bit of IPv4 is "secondary", which does not matter
            address.net.is_ipv6() && has(address, AddressFlags::Secondary),
        )
    };
    host.addresses_of(link)
        .filter(|address| is_of_family(&address.net.ip()) && is_usable(&address.net.ip()))
        .filter(|address| selector.pod_network_of(address.net.ip()).is_none())
        .filter(|address| !has(address, AddressFlags::Deprecated) && !address.dad_failed())
        .min_by_key(rank)
        .map(|address| address.net.ip())
}

fn is_usable(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || broadcast)
}

/// 169.254.0.0/16 or fe80::/10.
pub(super) fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
