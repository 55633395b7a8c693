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
        lease::Lease,
        network_config::NetworkConfig,
    },
    underlay::{Underlay, UnderlayRoutes},
};
use linux_net::link::Link;
use subnet_env::Previous;
use tracing::info;

/// Makes those devices of a node with the subnets in subnet.env that `links` lack and that take
/// packets as they are: one that needs keys or a process takes none before its peers are known. The
/// first pass sets the rest up, and says what fails.
pub(crate) fn make_tunnels(
    kernel: &mut Kernel,
    links: &[Link],
    backend: &dyn Backend,
    (config, underlay, previous): (&NetworkConfig, &Underlay, &Previous),
) {
    let own = Lease {
        subnets: Subnets::from(previous),
        attrs: backend.lease_attrs(underlay),
        expiration: None,
    };
    let plan = backend.plan(&Input {
        config,
        underlay,
        own: &own,
        leases: &PeerLeases::default(),
        routes: &UnderlayRoutes::default(),
    });
    let is_missing = |(name, device): &(&DeviceName, &Device)| {
        let is_there = links.iter().any(|link| *link.name == ***name);
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
