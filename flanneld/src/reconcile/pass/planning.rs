//! What a pass is to do: the plan of the backends and of the rules, and what differs from it.

use super::{Reconciler, Settings};
use crate::{
    backend::{self, Plan},
    model::{
        host_state::{Blackhole, ROUTE_PROTOCOL},
        lease::{Lease, Leases},
    },
    reconcile::{
        conflict::{self, RouteConflict},
        diff::{Change, diff},
        observe::Dump,
        ownership::Ownership,
        policies,
        transition::{self, Handshake},
    },
    rules::{PacketFilter, iptables, nftables},
    underlay::UnderlayRoutes,
};
use ipnetwork::IpNetwork;
use std::{collections::BTreeSet, time::Instant};

/// What a pass is to do.
pub(super) struct Planned {
    /// When it was planned.
    pub(super) at: Instant,
    pub(super) plan: Plan,
    pub(super) conflicts: Vec<RouteConflict>,
    /// The subnets that `conflicts` are about.
    pub(super) in_conflict: BTreeSet<IpNetwork>,
    pub(super) changes: Vec<Change>,
    /// After the changes.
    pub(super) handshakes: Vec<Handshake>,
}

impl Reconciler {
    pub(super) fn ownership(&self, own: &Lease) -> Ownership {
        let Settings {
            config,
            node,
            earlier,
            ..
        } = &self.settings;
        let underlay = &self.underlay.current;
        Ownership {
            backends: self.transition.backends(),
            families: {
                let mut families = backend::families(config, own);
                families.extend(&earlier.families);
                families
            },
            earlier_devices: earlier.devices.clone(),
            direct_routes_over: node.host_routes().then(|| underlay.name.as_str().into()),
        }
    }

    /// Fails if the kernel does not tell which keys there are.
    pub(super) fn plan_changes(
        &mut self,
        own: &Lease,
        snapshot: Option<&Leases>,
        dump: &Dump,
        ownership: &Ownership,
        routes: &UnderlayRoutes,
    ) -> linux_net::Result<Planned> {
        let now = Instant::now();
        if let Some(snapshot) = snapshot {
            self.transition.update(snapshot, now);
        }
        let mut plan = self.plan(own, routes, now);
        let underlay = &self.underlay.current.name;
        self.tx_checksum
            .add_to(&mut plan.state, &self.kernel, underlay);
        let mut observed = dump.interpret(ownership);
        let mut handshakes = Vec::new();
        if snapshot.is_none() {
            plan.state.keep_peers_of(&observed);
        } else {
            let associations = match self.transition.needs_associations() {
                true => policies::associations(&mut self.kernel)?,
                false => Vec::new(),
            };
            self.transition
                .keep(&mut plan, &observed, &associations, now);
            handshakes = self.transition.await_sessions(&mut plan, &observed, now);
        }
        if !self.underlay.is_present() || self.refusal().is_some() {
            let off_link = plan.skipped.iter();
            let off_link = off_link.filter(|skipped| skipped.off_link().is_some());
            let kept = off_link.filter_map(|skipped| observed.route_to(skipped.subnet));
            plan.state.routes.extend(kept.cloned());
        }
        if !self.settings.blackhole_routes {
            // nothing proves that one without our protocol number is Go flannel's
            let ours: u8 = ROUTE_PROTOCOL.into();
            observed.blackholes.retain(|route| route.protocol == ours);
        }
        let name_of = |index| dump.name_of(index);
        let conflicts = conflict::find(&plan, &dump.host.routes, ownership, name_of);
        let in_conflict = conflict::leave(&conflicts, &mut plan.state, &mut observed);
        let changes = diff(&plan.state, &observed);
        Ok(Planned {
            at: now,
            plan,
            conflicts,
            in_conflict,
            changes,
            handshakes,
        })
    }

    fn plan(&mut self, own: &Lease, routes: &UnderlayRoutes, now: Instant) -> Plan {
        let Settings {
            config,
            rules,
            place,
            blackhole_routes,
            ..
        } = &self.settings;
        let host = transition::Host {
            config,
            underlay: &self.underlay.current,
            own,
            routes,
        };
        let mut plan = self.transition.plan(host, now);
        if *blackhole_routes {
            let families = backend::families(config, own).into_iter();
            plan.state.blackholes = families
                .map(|family| Blackhole::new(family.subnet))
                .collect();
        }
        match place.filter {
            PacketFilter::Nftables => {
                let tables = nftables::tables(&place.names.tables, config, own, *rules);
                plan.state.tables.extend(tables);
            }
            PacketFilter::Iptables => {
                plan.state.rule_sets =
                    iptables::rule_sets(&place.names.chains, config, own, *rules);
            }
        }
        plan
    }
}
