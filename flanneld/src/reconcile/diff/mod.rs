//! Compares the observed with the wanted state. The changes are in an order that never leaves a
//! route without the neighbour and the FDB entry that it needs.

use crate::model::{
    entry::{Entry, PeerEntry, WholeTable},
    host_state::{Blackhole, Device, DeviceName, HostRoute, HostState},
    rule_set::RuleSet,
    wireguard::{Peer, Wireguard},
};
use ipnetwork::IpNetwork;
use linux_net::xfrm::Policy;
use packet_filter::Table;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

/// One change to the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Change {
    /// Makes an entry that is missing or differs. What the kernel has under the same key is
    /// replaced.
    Put(Entry),
    /// Removes an entry that nothing wants any more.
    Delete(Entry),
}

impl Change {
    pub(crate) fn entry(&self) -> &Entry {
        match self {
            Change::Put(entry) | Change::Delete(entry) => entry,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Put(entry) => write!(f, "set {entry}"),
            Change::Delete(entry) => write!(f, "delete {entry}"),
        }
    }
}

/// The changes that lead from `observed` to `wanted`, in the order in which they are made: devices,
/// addresses, tables; neighbours and FDB entries before the routes that need them; removals last
/// and in the opposite order.
pub(crate) fn diff(wanted: &HostState, observed: &HostState) -> Vec<Change> {
    let HostState {
        devices,
        routes: _,
        policies,
        tables,
        rule_sets,
        blackholes,
    } = wanted;
    let mut changes = Vec::new();
    let kept = diff_links(devices, &observed.devices, &mut changes);
    let (mut put, mut delete) = (Vec::new(), Vec::new());
    for (name, device) in devices {
        let bare = Device::bare(device.link.clone());
        let observed = observed.devices.get(name).filter(|_| kept.contains(name));
        let observed = observed.unwrap_or(&bare);
        let Device {
            link: _,
            addresses,
            neighbours,
            fdb,
            tx_checksum,
            wireguard,
        } = device;
        if let Some(on) = tx_checksum.filter(|on| observed.tx_checksum != Some(*on)) {
            changes.push(Change::Put(Entry::TxChecksum(name.clone(), on)));
        }
        if let Some(wanted) = wireguard {
            let observed = observed.wireguard.as_ref();
            diff_wireguard(name, wanted, observed, &mut changes, &mut put, &mut delete);
        }
        diff_addresses(name, addresses, &observed.addresses, &mut changes);
        let entry = |&(ip, mac): &_| Entry::Neighbour(name.clone(), ip, mac);
        diff_by_key(
            neighbours,
            &observed.neighbours,
            |pair| pair.0,
            entry,
            &mut put,
            &mut delete,
        );
        let entry = |&(mac, remote): &_| Entry::Fdb(name.clone(), mac, remote);
        diff_by_key(
            fdb,
            &observed.fdb,
            |pair| pair.0,
            entry,
            &mut put,
            &mut delete,
        );
    }
    diff_tables(tables, &observed.tables, &mut changes);
    diff_rule_sets(rule_sets, &observed.rule_sets, &mut changes);
    diff_blackholes(blackholes, &observed.blackholes, &mut changes);
    changes.append(&mut put);
    let mut delete_policies = Vec::new();
    let present = &observed.policies;
    let entry = |policy: &Policy| Entry::Policy(policy.clone());
    diff_by_key(
        policies,
        present,
        Policy::place,
        entry,
        &mut changes,
        &mut delete_policies,
    );
    diff_routes(wanted, observed, &kept, &mut changes);
    changes.append(&mut delete);
    changes.append(&mut delete_policies);
    changes
}

/// Compares routes. `kept` are the observed devices that stay.
fn diff_routes(
    wanted: &HostState,
    observed: &HostState,
    kept: &BTreeSet<&DeviceName>,
    changes: &mut Vec<Change>,
) {
    let routes = &wanted.routes;
    // routes over a device that is deleted go with it
    let is_deleted =
        |device: &DeviceName| observed.devices.contains_key(device) && !kept.contains(device);
    let present = &observed.routes;
    let stay = present.iter().filter(|route| !is_deleted(&route.device));
    let (mut put, mut delete_routes) = (Vec::new(), Vec::new());
    let entry = |route: &HostRoute| Entry::Route(route.clone());
    diff_by_key(
        routes,
        stay,
        |route| route.dst,
        entry,
        &mut put,
        &mut delete_routes,
    );
    // a route that is replaced stays until the new one is there: no packet is without one
    let gateways: Vec<_> = routes
        .iter()
        .filter(|route| !present.contains(route) || is_deleted(&route.device))
        .filter(|route| {
            [wanted, observed]
                .iter()
                .any(|state| leads_elsewhere(state, route))
        })
        .filter_map(route_to_gateway)
        .collect();
    changes.extend(gateways.iter().map(|route| Change::Put(entry(route))));
    changes.append(&mut put);
    changes.extend(gateways.iter().map(|route| Change::Delete(entry(route))));
    changes.append(&mut delete_routes);
}

/// Compares devices. Returns those that stay, with their entries.
fn diff_links<'a>(
    wanted: &BTreeMap<DeviceName, Device>,
    observed: &'a BTreeMap<DeviceName, Device>,
    changes: &mut Vec<Change>,
) -> BTreeSet<&'a DeviceName> {
    let entry =
        |name: &DeviceName, device: &Device| Entry::Device(name.clone(), device.link.clone());
    let mut kept = BTreeSet::new();
    for (name, device) in observed {
        match wanted.get(name) {
            Some(wanted) if device.link.adoptable_as(&wanted.link) => {
                if !device.link.matches(&wanted.link) {
                    changes.push(Change::Put(entry(name, wanted)));
                }
                kept.insert(name);
            }
            Some(_) | None => changes.push(Change::Delete(entry(name, device))),
        }
    }
    let missing = wanted.iter().filter(|(name, _)| !kept.contains(name));
    changes.extend(missing.map(|(name, device)| Change::Put(entry(name, device))));
    kept
}

fn diff_addresses(
    device: &DeviceName,
    wanted: &BTreeSet<IpNetwork>,
    observed: &BTreeSet<IpNetwork>,
    changes: &mut Vec<Change>,
) {
    let entry = |net: &IpNetwork| Entry::Address(device.clone(), *net);
    let missing = wanted.difference(observed).map(entry);
    changes.extend(missing.map(Change::Put));
    let surplus = observed.difference(wanted).map(entry);
    changes.extend(surplus.map(Change::Delete));
}

/// A peer that takes over an allowed IP of another gets it before that one is removed: packets
/// always have a way.
fn diff_wireguard(
    device: &DeviceName,
    wanted: &Wireguard,
    observed: Option<&Wireguard>,
    changes: &mut Vec<Change>,
    put: &mut Vec<Change>,
    delete: &mut Vec<Change>,
) {
    let Wireguard { interface, peers } = wanted;
    if observed.is_none_or(|observed| observed.interface != *interface) {
        let entry = Entry::WireguardInterface(device.clone(), interface.clone());
        changes.push(Change::Put(entry));
    }
    let empty = BTreeMap::new();
    let present = observed.map_or(&empty, |observed| &observed.peers);
    let entry = |key, peer: &Arc<Peer>, replace| {
        let peer = peer.clone();
        Entry::WireguardPeer(device.clone(), PeerEntry { key, peer, replace })
    };
    for (key, peer) in peers {
        let found = present.get(key);
        if !found.is_some_and(|found| found.matches(peer)) {
            let replace = found.is_some_and(|found| found.has_surplus(peer));
            put.push(Change::Put(entry(*key, peer, replace)));
        }
    }
    let surplus = present.iter().filter(|(key, _)| !peers.contains_key(key));
    delete.extend(surplus.map(|(key, peer)| Change::Delete(entry(*key, peer, false))));
}

fn diff_tables(wanted: &[Table], observed: &[Table], changes: &mut Vec<Change>) {
    let entry = |table: &Table| Entry::Table(WholeTable(Arc::new(table.clone())));
    let differs = wanted.iter().filter(|table| !observed.contains(table));
    changes.extend(differs.map(|table| Change::Put(entry(table))));
    let is_wanted = |table: &&Table| {
        let mut wanted = wanted.iter();
        wanted.any(|wanted| (wanted.family, &wanted.name) == (table.family, &table.name))
    };
    let surplus = observed.iter().filter(|table| !is_wanted(table));
    changes.extend(surplus.map(|table| Change::Delete(entry(table))));
}

/// What a family without rules has cannot be read where the kernel lacks the family.
fn diff_rule_sets(wanted: &[RuleSet], observed: &[RuleSet], changes: &mut Vec<Change>) {
    let is_in_place = |wanted: &&RuleSet| {
        let mut observed = observed.iter();
        match observed.find(|observed| observed.ipv6 == wanted.ipv6) {
            Some(observed) => observed == *wanted,
            None => wanted.chains.is_empty(),
        }
    };
    let differ = wanted.iter().filter(|wanted| !is_in_place(wanted));
    changes.extend(differ.map(|wanted| Change::Put(Entry::RuleSet(Arc::new(wanted.clone())))));
}

fn diff_blackholes(
    wanted: &BTreeSet<Blackhole>,
    observed: &BTreeSet<Blackhole>,
    changes: &mut Vec<Change>,
) {
    let missing = wanted.difference(observed).copied();
    changes.extend(missing.map(Entry::Blackhole).map(Change::Put));
    let surplus = observed.difference(wanted).copied();
    changes.extend(surplus.map(Entry::Blackhole).map(Change::Delete));
}

/// True if a route to the same subnet or to a wider network leads to the route's gateway over
/// another device: the kernel then refuses an IPv6 route with the flag onlink (net/ipv6/route.c,
/// ip6_route_check_nh_onlink).
fn leads_elsewhere(state: &HostState, route: &HostRoute) -> bool {
    if !route.dst.is_ipv6() || !route.onlink {
        return false;
    }
    let around = state.route_around(route.dst).map(|around| around.dst);
    let leading = [Some(route.dst), around].into_iter().flatten();
    let mut leading = leading.flat_map(|dst| state.routes_to(dst));
    leading.any(|other| other.device != route.device)
}

/// By which the kernel finds the gateway on the route's own device meanwhile.
fn route_to_gateway(route: &HostRoute) -> Option<HostRoute> {
    let gateway = IpNetwork::from(route.gateway?);
    Some(HostRoute::on_link(gateway, route.device.clone()))
}

/// Compares entries that the kernel replaces by key (a destination, a MAC) and of which it may hold
/// several under one key. A put replaces one of them; any further ones are deleted.
fn diff_by_key<'a, E: PartialEq + 'a, K: Ord>(
    wanted: impl IntoIterator<Item = &'a E>,
    observed: impl IntoIterator<Item = &'a E>,
    key: impl Fn(&E) -> K,
    entry: impl Fn(&E) -> Entry,
    put: &mut Vec<Change>,
    delete: &mut Vec<Change>,
) {
    let wanted = group_by(wanted, &key);
    let observed = group_by(observed, &key);
    for (key, wanted) in &wanted {
        let present = observed.get(key).map(Vec::as_slice).unwrap_or_default();
        let missing = wanted.iter().filter(|wanted| !present.contains(wanted));
        put.extend(missing.map(|wanted| Change::Put(entry(wanted))));
    }
    for (key, observed) in &observed {
        let wanted = wanted.get(key).map(Vec::as_slice).unwrap_or_default();
        let replaced = wanted
            .iter()
            .filter(|wanted| !observed.contains(wanted))
            .count();
        let surplus = observed
            .iter()
            .filter(|observed| !wanted.contains(observed));
        delete.extend(
            surplus
                .skip(replaced)
                .map(|observed| Change::Delete(entry(observed))),
        );
    }
}

fn group_by<'a, E, K: Ord>(
    entries: impl IntoIterator<Item = &'a E>,
    key: impl Fn(&E) -> K,
) -> BTreeMap<K, Vec<&'a E>> {
    let mut groups = BTreeMap::<K, Vec<&E>>::new();
    for entry in entries {
        groups.entry(key(entry)).or_default().push(entry);
    }
    groups
}

#[cfg(test)]
mod tests;
