//! The underlay: the interface and addresses by which other nodes reach this one (upstream: pkg/ipmatch). `select` decides
//! over what was seen; nothing here talks to the kernel, so the daemon can decide again whenever the host's network changed.
mod addresses;
pub mod direct_routes;
mod select;
mod tracker;

pub use select::select;
pub use tracker::{Follow, Sight};

use linux_net::{address::Address, link::Link, route::Route};
use regex::Regex;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The chosen interface and the addresses of ours on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    /// ifindex
    pub index: u32,
    /// its name
    pub name: String,
    /// bytes
    pub mtu: u32,
    /// IPv4 address on the interface, if IPv4 is wanted
    pub address: Option<Ipv4Addr>,
    /// IPv6 address on the interface, if IPv6 is wanted
    pub address_v6: Option<Ipv6Addr>,
    /// the IPv4 address told to peers: `--public-ip`, else `address`
    pub public_ip: Option<Ipv4Addr>,
    /// the IPv6 address told to peers: `--public-ipv6`, else `address_v6`
    pub public_ipv6: Option<Ipv6Addr>,
}

/// What the operator and the network configuration ask for.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// `--iface`: names or addresses; the first that matches wins
    pub interfaces: Vec<String>,
    /// `--iface-regex`: tried after `interfaces`
    pub patterns: Vec<Regex>,
    /// `--iface-can-reach`: tried last
    pub can_reach: Option<IpAddr>,
    /// `--public-ip`
    pub public_ip: Option<Ipv4Addr>,
    /// `--public-ipv6`
    pub public_ipv6: Option<Ipv6Addr>,
    /// the network has IPv4
    pub ipv4: bool,
    /// the network has IPv6
    pub ipv6: bool,
}

/// What the kernel shows.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// every link
    pub links: Vec<Link>,
    /// every address, in the kernel's order
    pub addresses: Vec<Address>,
    /// the main table, in the kernel's order
    pub routes: Vec<Route>,
    /// the kernel's route to `Wish::can_reach`
    pub reach: Option<Route>,
}

/// Why no underlay was found.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// No interface option was given and the default way failed.
    #[error("Failed to find any valid interface to use: {0}")]
    Default(String),
    /// Every given interface option failed; the reasons in order.
    #[error(
        "Failed to find interface to use that matches the interfaces and/or regexes provided: {}",
        .0.join("; ")
    )]
    Given(Vec<String>),
}

impl fmt::Display for Underlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (MTU {})", self.name, self.mtu)?;
        if let (Some(address), Some(public)) = (self.address, self.public_ip) {
            write!(f, ", {address}")?;
            if public != address {
                write!(f, " known to peers as {public}")?;
            }
        }
        if let (Some(address), Some(public)) = (self.address_v6, self.public_ipv6) {
            write!(f, ", {address}")?;
            if public != address {
                write!(f, " known to peers as {public}")?;
            }
        }
        Ok(())
    }
}
