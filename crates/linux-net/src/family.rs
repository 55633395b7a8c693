//! Address families of rtnetlink messages.

use netlink_packet_route::AddressFamily;
use std::net::IpAddr;

pub(crate) fn of(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

pub(crate) fn is_ip(family: u8) -> bool {
    [AddressFamily::Inet, AddressFamily::Inet6].contains(&family.into())
}

pub(crate) fn is_ipv6(family: u8) -> bool {
    AddressFamily::from(family) == AddressFamily::Inet6
}

pub(crate) fn is_bridge(family: u8) -> bool {
    AddressFamily::from(family) == AddressFamily::Bridge
}
