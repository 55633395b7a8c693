//! Links, addresses and selectors for unit tests.

use super::{host_network::HostNetwork, selector::Selector};
use linux_net::{
    address::{Address, AddressFlags, AddressScope},
    link::{Kind, Link},
    route::Route,
};

pub(crate) const PERMANENT: AddressFlags = AddressFlags::Permanent;
pub(crate) const DYNAMIC: AddressFlags = AddressFlags::empty();
pub(crate) const TEMPORARY: AddressFlags = AddressFlags::Secondary;
pub(crate) const DEPRECATED: AddressFlags = AddressFlags::Deprecated;

/// An Ethernet link that is up, with an MTU of 1500.
pub(crate) fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        mtu: 1500,
        mac: None,
        up: true,
        carrier: true,
        oper_up: true,
        loopback: index == 1,
        promisc: false,
        allmulti: false,
        master: None,
        lower: None,
        peer_netnsid: None,
        txqlen: 0,
        alias: None,
        kind: Kind::None,
        port: None,
    }
}

pub(crate) fn address(index: u32, net: &str, flags: AddressFlags) -> Address {
    Address {
        index,
        net: net.parse().unwrap(),
        scope: AddressScope::Universe,
        flags,
        label: None,
    }
}

pub(crate) fn default_route(ipv6: bool, oif: Option<u32>) -> Route {
    let mut route = Route::new(if ipv6 { "::/0" } else { "0.0.0.0/0" }.parse().unwrap());
    route.oif = oif;
    route
}

/// lo, eth0 (default route) and eth1.
pub(crate) fn host() -> HostNetwork {
    HostNetwork {
        links: vec![link(1, "lo"), link(2, "eth0"), link(3, "eth1")],
        addresses: vec![
            address(1, "127.0.0.1/8", PERMANENT),
            address(2, "169.254.7.7/16", PERMANENT),
            address(2, "172.31.0.1/24", PERMANENT),
            address(2, "172.31.0.101/24", PERMANENT | TEMPORARY),
            address(3, "192.168.5.1/24", PERMANENT),
            address(2, "fe80::1/64", PERMANENT),
            address(2, "fd31::abcd/64", TEMPORARY),
            address(2, "fd31::1/64", PERMANENT),
            address(3, "fd55::1/64", PERMANENT),
        ],
        routes: vec![default_route(false, Some(2)), default_route(true, Some(2))],
        route_to_target: None,
    }
}

pub(crate) fn v4_only() -> Selector {
    Selector {
        ipv4: true,
        ..Selector::default()
    }
}

pub(crate) fn iface(selector: Selector, names: &[&str]) -> Selector {
    Selector {
        interfaces: names.iter().map(|name| name.to_string()).collect(),
        ..selector
    }
}
