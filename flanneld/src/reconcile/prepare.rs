//! Makes tunnels before this node publishes that peers may send to them.

use super::{
    Kernel,
    apply::{self, IndexesByName},
};
use crate::{
    backend::{Backend, Input, PeerLeases},
    best_effort::best_effort,
    model::{
        Subnets,
        host_state::{Device, DeviceKind, DeviceName},
        lease::{Lease, LeaseAttrs},
        network_config::NetworkConfig,
    },
    underlay::{Underlay, UnderlayRoutes},
};
use linux_net::link::Link;
use subnet_env::Previous;
use tracing::info;

/// What a node's tunnels depend on before it has a lease.
pub(crate) struct Tunnels<'a> {
    /// Those of the host.
    pub(crate) links: &'a [Link],
    pub(crate) backend: &'a dyn Backend,
    pub(crate) config: &'a NetworkConfig,
    pub(crate) underlay: &'a Underlay,
    /// What the node is about to publish.
    pub(crate) attrs: &'a LeaseAttrs,
    /// The content of subnet.env: the subnets that the node is to keep.
    pub(crate) previous: &'a Previous,
}

impl Tunnels<'_> {
    /// Makes those that the host lacks and that take packets as they are: one that needs keys or a
    /// process takes none before its peers are known. The first pass sets the rest up, and says
    /// what fails.
    pub(crate) fn make(&self, kernel: &mut Kernel) {
        let own = Lease {
            subnets: Subnets::from(self.previous),
            attrs: self.attrs.clone(),
            expiration: None,
        };
        let plan = self.backend.plan(&Input {
            config: self.config,
            underlay: self.underlay,
            own: &own,
            leases: &PeerLeases::default(),
            routes: &UnderlayRoutes::default(),
        });
        let is_missing = |(name, device): &(&DeviceName, &Device)| {
            let is_there = self.links.iter().any(|link| *link.name == ***name);
            let kind = &device.link.kind;
            !is_there && matches!(kind, DeviceKind::Vxlan(_) | DeviceKind::IpTunnel(_))
        };
        for (name, device) in plan.state.devices.iter().filter(is_missing) {
            let mut indexes = IndexesByName::new();
            let made = apply::create_device(kernel, name, &device.link, &mut indexes, None);
            if best_effort(made, "the first pass makes it").is_some() {
                info!("created device {name}");
            }
        }
    }
}
