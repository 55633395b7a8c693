//! Plain data: leases, subnets, the network configuration, the state of a host.
pub mod host_state;
pub mod lease;
pub mod network_config;
pub(crate) mod rfc3339;
mod subnets;

pub use subnets::{InvalidSubnets, Subnets};
