//! The kernel's network, synchronously: one netlink socket per namespace, typed requests, batches, dumps, notifications;
//! namespaces; sysctls. Knows nothing of CNI.

pub mod address;
mod answer;
mod attributes;
pub mod bridge_vlan;
#[cfg(test)]
mod captured;
pub mod error;
mod exchange;
pub mod fdb;
pub mod link;
pub mod mac;
pub mod monitor;
pub mod namespace;
pub mod neighbour;
mod request;
pub mod route;
pub mod socket;
pub mod sysctl;
pub mod tc;

pub use error::Error;
pub use mac::Mac;
pub use namespace::NetNs;
pub use request::Request;
pub use socket::Netlink;

/// Short form.
pub type Result<T> = std::result::Result<T, Error>;
