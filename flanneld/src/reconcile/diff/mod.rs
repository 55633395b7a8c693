//! From what was seen to what is wanted: the changes, in an order that never leaves a route without the neighbour and
//! forwarding entry that it needs.
use crate::model::host_state::{DeviceName, HostRoute, HostState};
use ipnetwork::IpNetwork;
use linux_net::Mac;
use packet_filter::Family;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// One change to the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// A device that nobody wants any more, or whose successor cannot share its name.
    DeleteLink(DeviceName),
    /// A device that is not there.
    CreateLink(DeviceName),
    /// MTU, MAC or state of a device differ.
    AlterLink(DeviceName),
    /// An address that is missing.
    AddAddress(DeviceName, IpNetwork),
    /// An address of an earlier lease.
    DeleteAddress(DeviceName, IpNetwork),
    /// A neighbour that is missing or has another MAC.
    PutNeighbour(DeviceName, IpAddr, Mac),
    /// A neighbour of nobody.
    DeleteNeighbour(DeviceName, IpAddr),
    /// A forwarding entry that is missing or leads elsewhere.
    PutFdb(DeviceName, Mac, IpAddr),
    /// A forwarding entry of nobody.
    DeleteFdb(DeviceName, Mac, IpAddr),
    /// A route that is missing or leads elsewhere.
    PutRoute(HostRoute),
    /// A route to nobody.
    DeleteRoute(HostRoute),
    /// A table that differs.
    SetTable(Family, String),
    /// A table that is not wanted.
    DeleteTable(Family, String),
}

/// The changes that make `seen` what `wanted` says, in the order in which they are to be made: devices, addresses, tables;
/// what leads to a peer (neighbour, FDB) before the route to it; removals in the opposite order.
pub fn diff(wanted: &HostState, seen: &HostState) -> Vec<Change> {
    let mut changes = Vec::new();
    let kept = links(wanted, seen, &mut changes);
    addresses(wanted, seen, &kept, &mut changes);
    tables(wanted, seen, &mut changes);
    let mut removals = Vec::new();
    for (name, device) in &wanted.devices {
        let nothing = Default::default();
        let on_seen = seen.devices.get(name).filter(|_| kept.contains(name));
        let pairs = |set: &BTreeSet<(IpAddr, Mac)>| set.iter().copied().collect::<Vec<_>>();
        by_key(
            &pairs(&device.neighbours),
            &pairs(on_seen.map_or(&nothing, |device| &device.neighbours)),
            |&(ip, mac)| changes.push(Change::PutNeighbour(name.clone(), ip, mac)),
            |&(ip, _)| removals.push(Change::DeleteNeighbour(name.clone(), ip)),
        );
        let nothing = Default::default();
        let pairs = |set: &BTreeSet<(Mac, IpAddr)>| set.iter().copied().collect::<Vec<_>>();
        by_key(
            &pairs(&device.fdb),
            &pairs(on_seen.map_or(&nothing, |device| &device.fdb)),
            |&(mac, dst)| changes.push(Change::PutFdb(name.clone(), mac, dst)),
            |&(mac, dst)| removals.push(Change::DeleteFdb(name.clone(), mac, dst)),
        );
    }
    routes(wanted, seen, &kept, &mut changes);
    changes.append(&mut removals);
    changes
}

/// Devices. The result names those that stay, with what lies on them.
fn links<'a>(
    wanted: &HostState,
    seen: &'a HostState,
    changes: &mut Vec<Change>,
) -> BTreeSet<&'a DeviceName> {
    let mut kept = BTreeSet::new();
    for (name, device) in &seen.devices {
        match wanted.devices.get(name) {
            Some(wanted) if device.link.settled_as(&wanted.link) => {
                kept.insert(name);
            }
            Some(wanted) if device.link.adoptable_as(&wanted.link) => {
                changes.push(Change::AlterLink(name.clone()));
                kept.insert(name);
            }
            Some(_) => changes.push(Change::DeleteLink(name.clone())),
            None => changes.push(Change::DeleteLink(name.clone())),
        }
    }
    let missing = wanted.devices.keys().filter(|name| !kept.contains(name));
    changes.extend(missing.map(|name| Change::CreateLink(name.clone())));
    kept
}

fn addresses(
    wanted: &HostState,
    seen: &HostState,
    kept: &BTreeSet<&DeviceName>,
    changes: &mut Vec<Change>,
) {
    for (name, device) in &wanted.devices {
        let nothing = BTreeSet::new();
        let on_seen = match seen.devices.get(name) {
            Some(device) if kept.contains(name) => &device.addresses,
            _ => &nothing,
        };
        let missing = device.addresses.difference(on_seen);
        changes.extend(missing.map(|net| Change::AddAddress(name.clone(), *net)));
        let surplus = on_seen.difference(&device.addresses);
        changes.extend(surplus.map(|net| Change::DeleteAddress(name.clone(), *net)));
    }
}

fn tables(wanted: &HostState, seen: &HostState, changes: &mut Vec<Change>) {
    let differs = wanted
        .tables
        .iter()
        .filter(|table| !seen.tables.contains(table));
    changes.extend(differs.map(|table| Change::SetTable(table.family, table.name.clone())));
    let key = |table: &packet_filter::Table| (table.family, table.name.clone());
    let surplus = seen.tables.iter().map(key).filter(|(family, name)| {
        let is_it = |table: &packet_filter::Table| table.family == *family && table.name == *name;
        !wanted.tables.iter().any(is_it)
    });
    changes.extend(surplus.map(|(family, name)| Change::DeleteTable(family, name)));
}

/// Routes. Those over a device that goes away go with it.
fn routes(
    wanted: &HostState,
    seen: &HostState,
    kept: &BTreeSet<&DeviceName>,
    changes: &mut Vec<Change>,
) {
    let gone = |route: &&HostRoute| {
        seen.devices.contains_key(&route.device) && !kept.contains(&route.device)
    };
    let pair = |route: &HostRoute| (route.dst, route.clone());
    let wanted: Vec<_> = wanted.routes.iter().map(pair).collect();
    let seen: Vec<_> = seen
        .routes
        .iter()
        .filter(|route| !gone(route))
        .map(pair)
        .collect();
    let mut removals = Vec::new();
    by_key(
        &wanted,
        &seen,
        |(_, route)| changes.push(Change::PutRoute(route.clone())),
        |(_, route)| removals.push(Change::DeleteRoute(route.clone())),
    );
    changes.append(&mut removals);
}

/// Compares entries of which the kernel replaces by key (a destination, a MAC) and may hold several for one key.
/// Putting an entry takes the place of one other of its key; any further ones are deleted.
fn by_key<K: Ord, V: PartialEq>(
    wanted: &[(K, V)],
    seen: &[(K, V)],
    mut put: impl FnMut(&(K, V)),
    mut delete: impl FnMut(&(K, V)),
) {
    let by_key = |entries| {
        let mut map = BTreeMap::<&K, Vec<&(K, V)>>::new();
        for entry in entries as &[(K, V)] {
            map.entry(&entry.0).or_default().push(entry);
        }
        map
    };
    let (wanted, seen) = (by_key(wanted), by_key(seen));
    for (key, wanted) in &wanted {
        let present = seen.get(key).map(Vec::as_slice).unwrap_or_default();
        for entry in wanted.iter().filter(|entry| !present.contains(entry)) {
            put(entry);
        }
    }
    for (key, seen) in &seen {
        let wanted = wanted.get(key).map(Vec::as_slice).unwrap_or_default();
        let replaced = wanted.iter().filter(|entry| !seen.contains(entry)).count();
        let surplus = seen.iter().filter(|entry| !wanted.contains(entry));
        surplus.skip(replaced).for_each(|entry| delete(entry));
    }
}

#[cfg(test)]
mod tests;
