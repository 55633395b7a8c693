//! VLANs: the configured IDs, a pod's port in them, and the gateway interface of one VLAN.

mod gateway;
mod ids;
mod port;

pub(crate) use gateway::{ensure_gateway, gateway_name};
pub(crate) use ids::{Trunk, Vlans, access, trunk};
pub(crate) use port::{check_port, configure_port};
