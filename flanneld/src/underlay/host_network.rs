//! The host's network, from which an underlay is selected.

use linux_net::{
    address::Address,
    link::Link,
    route::{MAIN_TABLE, Route, RouteType},
};
use std::net::IpAddr;

/// The host's network as dumped from the kernel.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostNetwork {
    pub(crate) links: Vec<Link>,
    /// in the kernel's order
    pub(crate) addresses: Vec<Address>,
    /// the main table, in the kernel's order
    pub(crate) routes: Vec<Route>,
    /// the route that the kernel takes to `Selector::can_reach`
    pub(crate) route_to_target: Option<Route>,
}

impl HostNetwork {
    pub(crate) fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    pub(super) fn link_by_index(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    pub(crate) fn addresses_of(&self, link: &Link) -> impl Iterator<Item = &Address> {
        let index = link.index;
        self.addresses
            .iter()
            .filter(move |address| address.index == index)
    }

    pub(super) fn has_address(&self, link: &Link, ip: IpAddr) -> bool {
        self.addresses_of(link)
            .any(|address| address.net.ip() == ip)
    }
}

/// True for a unicast route of the main table.
pub(super) fn is_main_unicast(route: &Route) -> bool {
    route.table == MAIN_TABLE && route.kind == RouteType::Unicast
}
