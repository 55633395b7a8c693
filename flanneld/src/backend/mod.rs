//! Backends: how packets get to the other nodes. A backend is a pure function from configuration, underlay and leases to
//! the state that this host should have; the reconciler does the rest.
pub mod peers;
pub mod vxlan;

use crate::{
    backend::peers::{Ours, Skipped},
    model::host_state::{DeviceName, HostState},
    model::lease::{Lease, LeaseAttrs},
    model::network_config::NetworkConfig,
    underlay::DirectRoutes,
    underlay::Underlay,
};
use linux_net::Mac;
use std::sync::Arc;

/// All that a plan depends on.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// the network
    pub config: &'a NetworkConfig,
    /// how we are reached
    pub underlay: &'a Underlay,
    /// our lease
    pub own: &'a Lease,
    /// all leases, our own too
    pub leases: &'a [Arc<Lease>],
    /// which addresses the underlay reaches without a gateway
    pub direct_routes: &'a DirectRoutes,
}

/// What a backend makes of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// devices and routes; tables are not a backend's affair
    pub state: HostState,
    /// leases that cannot be used
    pub skipped: Vec<Skipped>,
    /// how many leases are in use, each family counted
    pub peers: usize,
}

/// A backend.
pub trait Backend: Send + Sync {
    /// `Backend.Type`, as peers see it.
    fn kind(&self) -> &'static str;
    /// Names of devices that are ours whatever the configuration says: one of them that is not planned is removed.
    fn device_names(&self) -> &[DeviceName];
    /// True if it makes routes that are not over a device of its own.
    fn makes_host_routes(&self) -> bool;
    /// What this node tells the others.
    fn lease_attrs(&self, underlay: &Underlay) -> LeaseAttrs;
    /// FLANNEL_MTU: what a pod's interface may use.
    fn pod_mtu(&self, underlay: &Underlay) -> u32;
    /// The state this host should have.
    fn plan(&self, input: &Input<'_>) -> Plan;
}

/// The families of this node: those for which there is a network, a subnet and an address to be reached at.
pub fn families(config: &NetworkConfig, underlay: &Underlay, own: &Lease) -> Vec<Ours> {
    let v4 = || {
        Some(Ours {
            network: config.network.filter(|_| config.enable_ipv4)?.into(),
            subnet: own.subnets.v4?.into(),
            public_ip: underlay.public_ip?.into(),
        })
    };
    let v6 = || {
        Some(Ours {
            network: config.ipv6_network.filter(|_| config.enable_ipv6)?.into(),
            subnet: own.subnets.v6?.into(),
            public_ip: underlay.public_ipv6?.into(),
        })
    };
    v4().into_iter().chain(v6()).collect()
}

/// The backend that the configuration names. `macs` gives a device, by its name, the MAC that it has or will have: it is
/// told to peers before the device is made.
pub fn from_config(
    config: &NetworkConfig,
    macs: impl FnMut(&str) -> std::io::Result<Mac>,
) -> Result<Arc<dyn Backend>, String> {
    match config.backend_type.as_str() {
        "vxlan" => Ok(Arc::new(vxlan::Vxlan::from_config(config, macs)?)),
        other => Err(format!(
            "unknown backend type: {other} (this build has: vxlan; set Backend.Type in the network configuration)"
        )),
    }
}
