//! Makes tunnels before this node publishes that peers may send to them, and opens those that take
//! encrypted packets alone.

use super::{
    Kernel,
    apply::{self, IndexesByName},
    diff::Change,
    policies,
};
use crate::{
    backend::{self, Backend, Input, PeerLeases},
    best_effort::best_effort,
    model::{
        Subnets,
        entry::Entry,
        host_state::{Device, DeviceKind, DeviceName},
        lease::{Lease, LeaseAttrs},
        network_config::NetworkConfig,
    },
    underlay::{Underlay, UnderlayRoutes},
};
use linux_net::{
    link::Link,
    xfrm::{Direction, Policy},
};
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
        if !self.backend.negotiates_keys() {
            self.accept_clear_text(kernel);
        }
        let own = self.own();
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

    /// Where an earlier backend demands that what comes from peers is encrypted: lets it be in
    /// clear text. The first pass that knows the peers demands it again of those that still
    /// encrypt.
    fn accept_clear_text(&self, kernel: &mut Kernel) {
        const OPTIONAL: &str = "the first pass changes them";
        let families = backend::families(self.config, &self.own());
        let present = best_effort(policies::read(kernel), OPTIONAL).unwrap_or_default();
        let inward = present.into_iter().filter(|policy| {
            policy.direction != Direction::Out && policies::is_ours(policy, &families)
        });
        let changes = inward.map(|mut policy: Policy| {
            policy.accept_clear_text();
            Change::Put(Entry::Policy(policy))
        });
        let changed = policies::change(kernel, changes.collect()).into_iter();
        let done = changed.filter_map(|(_, changed)| best_effort(changed, OPTIONAL));
        match done.count() {
            0 => {}
            count => info!(
                "{count} IPsec policies let packets in clear text pass: other nodes may send them from now on"
            ),
        }
    }

    /// The lease that the node is about to have.
    fn own(&self) -> Lease {
        Lease {
            subnets: Subnets::from(self.previous),
            attrs: self.attrs.clone(),
            expiration: None,
        }
    }
}
