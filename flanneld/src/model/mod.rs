//! Plain data: leases, subnets, the network configuration, the state of a host.

pub(crate) mod entry;
mod family;
pub(crate) mod host_state;
pub(crate) mod lease;
pub(crate) mod network_config;
pub(crate) mod node_record;
pub(crate) mod rfc3339;
pub(crate) mod rule_set;
mod subnets;
pub(crate) mod tx_checksum;
pub(crate) mod wireguard;

pub(crate) use family::Family;
pub(crate) use subnets::{InvalidSubnets, Subnets};
