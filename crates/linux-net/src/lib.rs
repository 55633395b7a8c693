//! The kernel's network: one synchronous netlink engine for every message family; links, addresses,
//! routes, neighbours, forwarding entries, VLANs, traffic control, WireGuard, IPsec; namespaces;
//! sysctls. This crate does not depend on CNI. The feature `tunnels` has what only a daemon needs.

pub mod address;
pub mod bridge_vlan;
#[cfg(test)]
mod captured;
pub mod descriptors;
pub mod error;
#[cfg(feature = "tunnels")]
pub mod ethtool;
mod family;
pub mod fdb;
pub mod fuzz;
#[cfg(feature = "tunnels")]
mod generic;
pub mod in_use;
pub mod link;
mod mac;
pub mod monitor;
mod namespace;
pub mod neighbour;
pub mod netlink;
mod nsid;
pub mod route;
mod rtnetlink;
pub mod sysctl;
pub mod tc;
pub mod tun;
pub mod unix_sockets;
#[cfg(feature = "tunnels")]
pub mod wireguard;
#[cfg(feature = "tunnels")]
pub mod xfrm;

pub use error::Error;
pub use mac::{InvalidMac, Mac};
pub use namespace::NetNs;
pub use netlink::Request;
pub use rtnetlink::Netlink;

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;
