//! The underlay: the interface and addresses by which other nodes reach this one (upstream:
//! pkg/ipmatch). Nothing here talks to the kernel: `select` decides on a dump, so the daemon can
//! select again whenever the host's network changes.
mod addresses;
mod direct_routes;
mod error;
#[cfg(test)]
pub(crate) mod fixtures;
mod select;
mod tracker;

pub(crate) use direct_routes::DirectRoutes;
pub(crate) use error::Error;
pub(crate) use select::select;
pub(crate) use tracker::{Observation, Tracker};

use linux_net::{
    address::Address,
    link::Link,
    route::{MAIN_TABLE, Route, RouteType},
};
use regex::Regex;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The chosen interface and this node's addresses on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Underlay {
    /// ifindex
    pub(crate) index: u32,
    pub(crate) name: String,
    /// bytes
    pub(crate) mtu: u32,
    /// IPv4 address on the interface, if the network has IPv4
    pub(crate) address: Option<Ipv4Addr>,
    /// IPv6 address on the interface, if the network has IPv6
    pub(crate) address_v6: Option<Ipv6Addr>,
    /// IPv4 address that peers use: `-public-ip`, else `address`
    pub(crate) public_ip: Option<Ipv4Addr>,
    /// IPv6 address that peers use: `-public-ipv6`, else `address_v6`
    pub(crate) public_ipv6: Option<Ipv6Addr>,
}

/// What the options and the network configuration ask for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selector {
    /// `-iface`: names or addresses; the first that matches wins
    pub(crate) interfaces: Vec<String>,
    /// `-iface-regex`: tried after `interfaces`
    pub(crate) patterns: Vec<Regex>,
    /// `-iface-can-reach`: tried last
    pub(crate) can_reach: Option<IpAddr>,
    /// `-public-ip`
    pub(crate) public_ip: Option<Ipv4Addr>,
    /// `-public-ipv6`
    pub(crate) public_ipv6: Option<Ipv6Addr>,
    /// the network has IPv4
    pub(crate) ipv4: bool,
    /// the network has IPv6
    pub(crate) ipv6: bool,
}

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

    fn link_by_index(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    pub(crate) fn addresses_of(&self, link: &Link) -> impl Iterator<Item = &Address> {
        let index = link.index;
        self.addresses
            .iter()
            .filter(move |address| address.index == index)
    }

    fn has_address(&self, link: &Link, ip: IpAddr) -> bool {
        self.addresses_of(link)
            .any(|address| address.net.ip() == ip)
    }
}

/// True for a unicast route of the main table.
fn is_main_unicast(route: &Route) -> bool {
    route.table == MAIN_TABLE && route.kind == RouteType::Unicast
}

impl fmt::Display for Underlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (MTU {})", self.name, self.mtu)?;
        let v4 = self.address.zip(self.public_ip);
        let v6 = self.address_v6.zip(self.public_ipv6);
        let v4 = v4.map(|(address, public)| (address.into(), public.into()));
        let v6 = v6.map(|(address, public)| (address.into(), public.into()));
        for (address, public) in v4.into_iter().chain(v6) {
            let (address, public): (IpAddr, IpAddr) = (address, public);
            write!(f, ", {address}")?;
            if public != address {
                write!(f, " known to peers as {public}")?;
            }
        }
        Ok(())
    }
}
