//! Why no underlay was selected; upstream's messages where it has one.

use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// Every way of selection failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No interface option is given, and neither a public IP nor the default routes name an
    /// interface.
    #[error("Failed to find any valid interface to use: {0}")]
    Default(#[source] Reason),
    /// Interface options are given and none of them names a usable interface.
    #[error(
        "Failed to find interface to use that matches the interfaces and/or regexes provided: {}",
        join(.0)
    )]
    Options(Vec<Rejected>),
}

/// An interface option that names no usable interface.
#[derive(Debug, thiserror::Error)]
#[error("-{option}={value}: {reason}")]
pub(crate) struct Rejected {
    pub(crate) option: &'static str,
    pub(crate) value: String,
    #[source]
    pub(crate) reason: Reason,
}

/// Why one way of selection failed. `family` is "IPv4" or "IPv6".
#[derive(Debug, thiserror::Error)]
pub(crate) enum Reason {
    /// No link has the name.
    #[error("error looking up interface {0}: no such interface")]
    NoSuchInterface(String),
    /// No link has the address.
    #[error("error looking up interface {0}: no interface with given IP found")]
    NoInterfaceWithIp(IpAddr),
    /// A pattern matches neither an address nor a name.
    #[error(
        "could not match pattern {pattern} to any of the available network interfaces ({})",
        .interfaces.join(", ")
    )]
    NoMatch {
        pattern: String,
        interfaces: Vec<String>,
    },
    /// The kernel has no route to the address of `-iface-can-reach`.
    #[error("there is no route to it")]
    NoRoute,
    /// That route is multipath or its interface is gone.
    #[error("the route to it has no interface or several")]
    RouteWithoutInterface,
    /// The main table has no default route; `family` is empty for IPv4, else followed by a space.
    #[error("unable to find {family}default route; name the interface with -iface")]
    NoDefaultRoute { family: &'static str },
    /// The default route is multipath or its interface is gone; `family` as above.
    #[error(
        "found {family}default route but could not determine interface (it has several next hops); \
         name it with -iface"
    )]
    DefaultRouteWithoutInterface { family: &'static str },
    /// Dual stack needs one interface for both families.
    #[error(
        "v6 default route interface {v6:?} must be the same with v4 default route interface {v4:?}"
    )]
    DefaultRoutesDiffer { v4: String, v6: String },
    /// Nothing can be selected for a network of no family.
    #[error("the network configuration enables neither IPv4 nor IPv6")]
    NoFamily,
    /// The kernel shows an MTU of 0.
    #[error("failed to determine MTU for interface {0}: it is 0")]
    ZeroMtu(String),
    /// The address that an option names is a pod's.
    #[error("{address} is inside of the pod network {network}")]
    InPodNetwork { address: IpAddr, network: IpNetwork },
    /// The interface has no usable address of a family that the network has.
    #[error("failed to find {family} address for interface {interface}")]
    NoAddress {
        family: &'static str,
        interface: String,
    },
}

fn join(rejected: &[Rejected]) -> String {
    let texts: Vec<_> = rejected.iter().map(ToString::to_string).collect();
    texts.join("; ")
}
