//! The best address of an interface.
use super::{HostNetwork, error::Reason};
use linux_net::{address::Address, link::Link};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// linux/if_addr.h
const IFA_F_TEMPORARY: u32 = 0x01;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_PERMANENT: u32 = 0x80;

/// The interface's best IPv4 address.
pub(super) fn ipv4(host: &HostNetwork, link: &Link) -> Result<Ipv4Addr, Reason> {
    match best(host, link, IpAddr::is_ipv4) {
        Some(IpAddr::V4(ip)) => Ok(ip),
        _ => Err(missing("IPv4", link)),
    }
}

/// The interface's best IPv6 address.
pub(super) fn ipv6(host: &HostNetwork, link: &Link) -> Result<Ipv6Addr, Reason> {
    match best(host, link, IpAddr::is_ipv6) {
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

/// Deprecated and host-local addresses are left out. Global addresses come before link-local ones,
/// permanent before dynamic, stable before temporary; the kernel's order decides among equals.
fn best(host: &HostNetwork, link: &Link, is_of_family: fn(&IpAddr) -> bool) -> Option<IpAddr> {
    let rank = |address: &&Address| {
        (
            is_link_local(&address.net.ip()),
            address.flags & IFA_F_PERMANENT == 0,
            // for IPv4 the same bit means "secondary", which does not matter here
            address.net.is_ipv6() && address.flags & IFA_F_TEMPORARY != 0,
        )
    };
    host.addresses_of(link)
        .filter(|address| is_of_family(&address.net.ip()) && is_usable(&address.net.ip()))
        .filter(|address| address.flags & IFA_F_DEPRECATED == 0 && !address.dad_failed())
        .min_by_key(rank)
        .map(|address| address.net.ip())
}

fn is_usable(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || broadcast)
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
