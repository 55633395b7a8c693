//! Which of an interface's addresses is the one to use.
use super::HostNetwork;
use linux_net::{address::Address, link::Link};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// linux/if_addr.h
const IFA_F_TEMPORARY: u32 = 0x01;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_PERMANENT: u32 = 0x80;

/// The interface's first IPv4 address by rank.
pub fn ipv4(host: &HostNetwork, link: &Link) -> Result<Ipv4Addr, String> {
    let first = best(host, link, IpAddr::is_ipv4);
    match first {
        Some(IpAddr::V4(ip)) => Ok(ip),
        _ => Err(format!(
            "failed to find IPv4 address for interface {}",
            link.name
        )),
    }
}

/// The interface's first IPv6 address by rank.
pub fn ipv6(host: &HostNetwork, link: &Link) -> Result<Ipv6Addr, String> {
    match best(host, link, IpAddr::is_ipv6) {
        Some(IpAddr::V6(ip)) => Ok(ip),
        _ => Err(format!(
            "failed to find IPv6 address for interface {}",
            link.name
        )),
    }
}

/// Deprecated and local-only addresses are no use; global ones come before link-local ones, permanent before dynamic,
/// lasting before temporary; among equals the kernel's order counts.
fn best(host: &HostNetwork, link: &Link, of_family: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
    let rank = |address: &&Address| {
        (
            link_local(&address.net.ip()),
            address.flags & IFA_F_PERMANENT == 0,
            // the same bit means "secondary" for IPv4, which takes nothing from an address
            address.net.is_ipv6() && address.flags & IFA_F_TEMPORARY != 0,
        )
    };
    host.addresses
        .iter()
        .filter(|address| address.index == link.index && of_family(&address.net.ip()))
        .filter(|address| address.flags & IFA_F_DEPRECATED == 0 && !address.dad_failed())
        .filter(|address| usable(&address.net.ip()))
        .min_by_key(rank)
        .map(|address| address.net.ip())
}

fn usable(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || broadcast)
}

fn link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
