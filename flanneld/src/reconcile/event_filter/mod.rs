//! Decides which kernel notifications need a pass: those that contradict the wanted state. The
//! daemon's own changes come back as notifications too, and pods come and go all the time: neither
//! is a reason to read the host again.

use super::{
    observe::device_link,
    ownership::{self, DeviceIndexes, Ownership},
    policies,
};
use crate::{
    model::host_state::{Device, DeviceName, HostState},
    underlay::{LinkState, RouteDependencies, Underlay},
};
use ipnetwork::IpNetwork;
use linux_net::{
    address::{Address, AddressScope},
    fdb::FdbEntry,
    link::Link,
    monitor::{Event, RouteChange},
    neighbour::Neighbour,
    route::{MAIN_TABLE, Route},
    xfrm,
};
use packet_filter::{Changed, Family};
use std::{collections::BTreeSet, sync::Arc};

/// The wanted state, and what recognises it in a notification.
#[derive(Debug, Clone)]
pub(crate) struct EventFilter {
    pub(crate) wanted: Arc<HostState>,
    pub(crate) ownership: Ownership,
    pub(crate) indexes: DeviceIndexes,
    /// The peers' subnets to which routes of other programs lead.
    pub(crate) conflicts: Arc<BTreeSet<IpNetwork>>,
    /// None while it is missing: any link or address may then bring it back.
    pub(crate) underlay: Option<Underlay>,
    /// Of the underlay's interface.
    pub(crate) link_state: LinkState,
    /// A new address anywhere may give a better underlay.
    pub(crate) awaits_better_underlay: bool,
    /// Those of the host. One of the underlay's interface that goes is read.
    pub(crate) addresses: Arc<[Address]>,
    /// The routes that are not ours and that the plan or the readiness depends on.
    pub(crate) routes: Arc<RouteDependencies>,
    /// The way to a peer depends on whether there are keys.
    pub(crate) awaits_keys: bool,
}

/// What an event means for the state that the last pass left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// None.
    Nothing,
    /// An entry that the state has is as it should be.
    AsWanted,
    /// An entry contradicts it. The event says everything about the entry.
    Contradiction,
    /// A route of another program outside of the pod network. The event says everything about it.
    OtherRoute {
        /// How this host reaches its peers may have changed.
        concerns_peers: bool,
    },
    /// The addresses have to be read.
    ReadAddresses,
    /// The host has to be read.
    ReadHost,
}

impl Effect {
    pub(crate) fn needs_pass(self) -> bool {
        match self {
            Effect::Nothing | Effect::AsWanted => false,
            Effect::OtherRoute { concerns_peers } => concerns_peers,
            Effect::Contradiction | Effect::ReadAddresses | Effect::ReadHost => true,
        }
    }
}

impl EventFilter {
    /// What a pass has to do about the event.
    pub(crate) fn effect(&self, event: &Event) -> Effect {
        match event {
            Event::Route(route, change) if self.is_other_route(route) => {
                let concerns_peers = self.routes.concern(route, change.is_addition());
                return Effect::OtherRoute { concerns_peers };
            }
            // the kernel removes IPv4 routes with the address that goes, and notifies nobody
            Event::Address(address, true)
                if self.underlay.is_some() && !self.indexes.contains_key(&address.index) =>
            {
                return match self.needs_pass(event) {
                    true => Effect::ReadAddresses,
                    false => Effect::Nothing,
                };
            }
            _ => {}
        }
        match (self.needs_pass(event), self.is_entry(event)) {
            (true, true) => Effect::Contradiction,
            (true, false) => Effect::ReadHost,
            (false, true) => Effect::AsWanted,
            (false, false) => Effect::Nothing,
        }
    }

    /// True if the event is about one entry of those that the state keeps, and nothing else follows
    /// from it.
    fn is_entry(&self, event: &Event) -> bool {
        match event {
            Event::Route(route, change) => {
                let is_next_hop = *change == RouteChange::Appended && route.dst.is_ipv6();
                self.underlay.is_some()
                    && !is_next_hop
                    && self.is_kept_route(route, change.is_addition())
            }
            Event::Neighbour(entry, _) => self.device(entry.index).is_some(),
            Event::Fdb(entry, _) => self.device(entry.index).is_some(),
            _ => false,
        }
    }

    /// Another program's route to a destination outside of the network. How this host reaches its
    /// peers may depend on it.
    fn is_other_route(&self, route: &Route) -> bool {
        let mut families = self.ownership.families.iter();
        let name_of = |index| self.name_of(index);
        route.table == MAIN_TABLE
            && self.underlay.is_some()
            && !families.any(|family| family.contains(route.dst))
            && self.ownership.route(route, name_of).is_none()
    }

    /// Ours, and other programs' inside of the network. How this host reaches its peers does not
    /// depend on it.
    fn is_kept_route(&self, route: &Route, added: bool) -> bool {
        let mut families = self.ownership.families.iter();
        let is_ours = || {
            let name_of = |index| self.name_of(index);
            self.ownership.route(route, name_of).is_some()
        };
        let inside = families.any(|family| family.contains(route.dst));
        route.table == MAIN_TABLE && (is_ours() || inside && !self.routes.concern(route, added))
    }

    /// True if the host may differ from the wanted state after this event.
    pub(crate) fn needs_pass(&self, event: &Event) -> bool {
        match event {
            Event::Overrun => true,
            Event::Link(link) => self.link_differs(link),
            Event::LinkGone { index, name } => self.link_matters(*index, name),
            Event::Address(address, added) => self.address_differs(address, *added),
            Event::Route(route, change) => self.route_differs(route, change.is_addition()),
            Event::Neighbour(entry, added) => self.neighbour_differs(entry, *added),
            Event::Fdb(entry, added) => self.fdb_differs(entry, *added),
        }
    }

    /// True if the rules may differ from the wanted ones after these changes of nf_tables. None:
    /// the notifications do not say which.
    pub(crate) fn concerns_rules(&self, changed: Option<&BTreeSet<Changed>>) -> bool {
        changed.is_none_or(|changed| {
            changed
                .iter()
                .any(|changed| self.is_wanted_table(changed) || self.is_wanted_chain(changed))
        })
    }

    /// True if the event contradicts the wanted policies of IPsec, or tells of keys that they wait
    /// for.
    pub(crate) fn concerns_policies(&self, event: &xfrm::Event) -> bool {
        let are_keys = matches!(event, xfrm::Event::Association(_, true));
        (are_keys && self.awaits_keys)
            || policies::contradicts(event, &self.wanted.policies, &self.ownership)
    }

    fn is_wanted_table(&self, changed: &Changed) -> bool {
        let mut wanted = self.wanted.tables.iter();
        wanted.any(|table| table.family == changed.family && table.name == changed.table)
    }

    /// True for a chain of ours in a table of iptables, for the one that leads to it, and for the
    /// whole table. Other programs change their own chains all the time.
    fn is_wanted_chain(&self, changed: &Changed) -> bool {
        let family = |ipv6: bool| if ipv6 { Family::Ip6 } else { Family::Ip };
        let sets = self.wanted.rule_sets.iter();
        let sets = sets.filter(|set| family(set.ipv6) == changed.family);
        sets.flat_map(|set| &set.chains).any(|chain| {
            let is_one = |name: &String| [&*chain.name, chain.from].contains(&name.as_str());
            chain.table == changed.table && changed.chain.as_ref().is_none_or(is_one)
        })
    }

    fn link_differs(&self, link: &Link) -> bool {
        match self.ownership.device(&link.name) {
            // of the offloads, the event says no more than that one changed
            Some(name) => !self.wanted.devices.get(name).is_some_and(|wanted| {
                wanted.tx_checksum.is_none()
                    && self.indexes.contains_key(&link.index)
                    && device_link(link).matches(&wanted.link)
            }),
            // a device of ours has another name
            None if self.indexes.contains_key(&link.index) => true,
            None => self.underlay.as_ref().is_none_or(|underlay| {
                let unchanged = (link.index, &link.name, link.mtu, LinkState::of(link))
                    == (
                        underlay.index,
                        &underlay.name,
                        underlay.mtu,
                        self.link_state,
                    );
                (link.index == underlay.index || link.name == underlay.name) && !unchanged
            }),
        }
    }

    fn link_matters(&self, index: u32, name: &str) -> bool {
        let own = self.ownership.device(name);
        self.indexes.contains_key(&index)
            || own.is_some_and(|name| self.wanted.devices.contains_key(name))
            || self.is_underlay(index)
    }

    fn address_differs(&self, address: &Address, added: bool) -> bool {
        match self.indexes.get(&address.index) {
            Some(name) => self.ownership.address(address).is_some_and(|net| {
                let device = self.wanted.devices.get(name);
                added != device.is_some_and(|device| device.addresses.contains(&net))
            }),
            // its lifetimes are renewed
            None if added
                && self.is_underlay(address.index)
                && self.addresses.contains(address) =>
            {
                false
            }
            None => {
                let is_new = added && self.awaits_better_underlay && !is_link_local(address);
                is_new || self.underlay.is_none() || self.is_underlay(address.index)
            }
        }
    }

    fn route_differs(&self, route: &Route, added: bool) -> bool {
        let in_main = route.table == MAIN_TABLE;
        // while the underlay is missing, a default route may lead to one
        let leads_to_underlay = self.underlay.is_none() && in_main && route.dst.prefix() == 0;
        if in_main && self.blackhole_differs(route, added) {
            return true;
        }
        let differs = match self.ownership.route(route, |index| self.name_of(index)) {
            Some(own) => added != self.wanted.routes.contains(&own),
            // a route that replaces ours is notified; the end of ours is not
            None => {
                let replaces_ours = added && in_main && self.wants_route_to(route.dst);
                replaces_ours || self.routes.concern(route, added)
            }
        };
        let in_conflict = in_main && self.conflicts.contains(&route.dst);
        // a peer may come to have this subnet
        let mut families = self.ownership.families.iter();
        let in_the_way = !self.ownership.is_marked(route)
            && in_main
            && families.any(|family| family.may_be_peer_subnet(route.dst));
        leads_to_underlay || differs || in_conflict || in_the_way
    }

    /// True if one of ours is missing, replaced by another route, or too many.
    fn blackhole_differs(&self, route: &Route, added: bool) -> bool {
        let wanted = &self.wanted.blackholes;
        match self.ownership.blackhole(route) {
            Some(ours) => added != wanted.contains(&ours),
            None => {
                let mut wanted = wanted.iter();
                let key = (route.dst, route.priority);
                added && wanted.any(|ours| (ours.dst, ours.metric) == key)
            }
        }
    }

    fn neighbour_differs(&self, entry: &Neighbour, added: bool) -> bool {
        self.device(entry.index)
            .is_some_and(|device| match ownership::neighbour(entry) {
                Some(pair) => added != device.neighbours.contains(&pair),
                // one of ours is no longer permanent, or has no MAC
                None => device.neighbours.iter().any(|(ip, _)| *ip == entry.ip),
            })
    }

    fn fdb_differs(&self, entry: &FdbEntry, added: bool) -> bool {
        self.device(entry.index)
            .is_some_and(|device| match ownership::fdb(entry) {
                Some(pair) => added != device.fdb.contains(&pair),
                None => device.fdb.iter().any(|(mac, _)| *mac == entry.mac),
            })
    }

    fn wants_route_to(&self, dst: IpNetwork) -> bool {
        self.wanted.route_to(dst).is_some()
    }

    fn device(&self, index: u32) -> Option<&Device> {
        self.wanted.devices.get(self.indexes.get(&index)?)
    }

    fn is_underlay(&self, index: u32) -> bool {
        let underlay = self.underlay.as_ref();
        underlay.is_some_and(|underlay| underlay.index == index)
    }

    fn name_of(&self, index: u32) -> Option<DeviceName> {
        let own = self.indexes.get(&index).cloned();
        let underlay = self
            .underlay
            .as_ref()
            .filter(|underlay| underlay.index == index);
        own.or_else(|| underlay.map(|underlay| underlay.name.as_str().into()))
    }
}

fn is_link_local(address: &Address) -> bool {
    address.net.is_ipv6() && address.scope != AddressScope::Universe
}

#[cfg(test)]
mod tests;
