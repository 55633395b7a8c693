use super::*;
use crate::model::host_state::{Device, DeviceKind, DeviceLink};
use linux_net::link::Vxlan;
use packet_filter::Table;
use proptest::{collection::btree_set, prelude::*};

fn name(number: u8) -> DeviceName {
    format!("flannel.{number}").into()
}

fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, number])
}

fn ip(number: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, number])
}

fn link(vni: u32, mtu: u32, up: bool) -> DeviceLink {
    let kind = match vni {
        9 => DeviceKind::Other("bridge".to_owned()),
        _ => DeviceKind::Vxlan(Vxlan {
            vni,
            lower: Some(2),
            ..Vxlan::default()
        }),
    };
    DeviceLink {
        kind,
        mtu,
        mac: mac(1),
        up,
    }
}

fn route(dst: u8, gateway: u8, device: u8) -> HostRoute {
    let dst = IpNetwork::new(ip(dst * 16), 28).unwrap();
    HostRoute {
        dst,
        gateway: ip(gateway),
        device: name(device),
        onlink: true,
    }
}

prop_compose! {
    fn any_device(seen: bool)(
        vni in if seen { prop_oneof![Just(1u32), Just(2), Just(9)].boxed() } else { (1u32..3).boxed() },
        mtu in 1400u32..1402,
        up in if seen { any::<bool>().boxed() } else { Just(true).boxed() },
        addresses in btree_set((0u8..3).prop_map(|n| IpNetwork::from(ip(n))), 0..3),
        neighbours in btree_set((0u8..4, 0u8..4), 0..5),
        fdb in btree_set((0u8..4, 0u8..4), 0..5),
    ) -> Device {
        // the kernel holds one neighbour an address; of forwarding entries it may hold several a MAC, a plan only one
        let neighbours: BTreeMap<_, _> = neighbours.into_iter().collect();
        let fdb: Vec<(u8, u8)> = match seen {
            true => fdb.into_iter().collect(),
            false => fdb.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect(),
        };
        Device {
            link: link(vni, mtu, up),
            addresses,
            neighbours: neighbours.into_iter().map(|(to, by)| (ip(to), mac(by))).collect(),
            fdb: fdb.into_iter().map(|(of, to)| (mac(of), ip(to))).collect(),
        }
    }
}

prop_compose! {
    fn any_state(seen: bool)(
        devices in proptest::collection::btree_map((0u8..3).prop_map(name), any_device(seen), 0..3),
        routes in btree_set((0u8..4, 0u8..3, 0u8..4), 0..8),
        tables in btree_set(0u8..3, 0..3),
        comment in proptest::option::of("[ab]"),
    ) -> HostState {
        let mut by_dst = BTreeMap::new();
        let mut all = BTreeSet::new();
        for (dst, gateway, device) in routes {
            // device 3 stands for the underlay's
            if device == 3 || devices.contains_key(&name(device)) {
                by_dst.insert(dst, route(dst, gateway, device));
                all.insert(route(dst, gateway, device));
            }
        }
        HostState {
            devices,
            routes: if seen { all } else { by_dst.into_values().collect() },
            tables: tables.into_iter().map(|n| Table {
                family: Family::Ip,
                name: format!("t{n}"),
                comment: comment.clone(),
                chains: Vec::new(),
            }).collect(),
        }
    }
}

/// What the kernel does with a change. Fails where the kernel would refuse.
fn make(state: &mut HostState, wanted: &HostState, change: &Change) -> Result<(), String> {
    let device = |state: &mut HostState, name: &DeviceName| -> Result<(), String> {
        state
            .devices
            .get(name)
            .map(|_| ())
            .ok_or(format!("{change:?}: no device"))
    };
    match change {
        Change::DeleteLink(name) => {
            device(state, name)?;
            state.devices.remove(name);
            state.routes.retain(|route| route.device != *name);
        }
        Change::CreateLink(name) => {
            if state.devices.contains_key(name) {
                return Err(format!("{change:?}: there is one"));
            }
            state.devices.insert(
                name.clone(),
                Device::bare(wanted.devices[name].link.clone()),
            );
        }
        Change::AlterLink(name) => {
            let link = wanted.devices[name].link.clone();
            state.devices.get_mut(name).ok_or("no device")?.link = link;
        }
        Change::AddAddress(name, net) => {
            state
                .devices
                .get_mut(name)
                .ok_or("no device")?
                .addresses
                .insert(*net);
        }
        Change::DeleteAddress(name, net) => {
            state
                .devices
                .get_mut(name)
                .ok_or("no device")?
                .addresses
                .remove(net);
        }
        Change::PutNeighbour(name, ip, mac) => {
            let neighbours = &mut state.devices.get_mut(name).ok_or("no device")?.neighbours;
            neighbours.retain(|(other, _)| other != ip);
            neighbours.insert((*ip, *mac));
        }
        Change::DeleteNeighbour(name, ip) => {
            let device = state.devices.get_mut(name).ok_or("no device")?;
            device.neighbours.retain(|(other, _)| other != ip);
        }
        Change::PutFdb(name, mac, dst) => {
            let fdb = &mut state.devices.get_mut(name).ok_or("no device")?.fdb;
            if let Some(first) = fdb.iter().find(|(other, _)| other == mac).copied() {
                fdb.remove(&first);
            }
            fdb.insert((*mac, *dst));
        }
        Change::DeleteFdb(name, mac, dst) => {
            state
                .devices
                .get_mut(name)
                .ok_or("no device")?
                .fdb
                .remove(&(*mac, *dst));
        }
        Change::PutRoute(route) => {
            if *route.device != *name(3) {
                device(state, &route.device)?;
            }
            if let Some(first) = state
                .routes
                .iter()
                .find(|other| other.dst == route.dst)
                .cloned()
            {
                state.routes.remove(&first);
            }
            state.routes.insert(route.clone());
        }
        Change::DeleteRoute(route) => {
            state.routes.remove(route);
        }
        Change::SetTable(family, name) => {
            state.tables.retain(|table| table.name != *name);
            let is_it = |table: &&Table| table.family == *family && table.name == *name;
            state
                .tables
                .push(wanted.tables.iter().find(is_it).ok_or("no table")?.clone());
        }
        Change::DeleteTable(_, name) => state.tables.retain(|table| table.name != *name),
    }
    Ok(())
}

fn sorted(mut state: HostState) -> HostState {
    state.tables.sort_by(|a, b| a.name.cmp(&b.name));
    state
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn applying_the_difference_gives_what_is_wanted(
        wanted in any_state(false),
        mut seen in any_state(true),
    ) {
        for change in diff(&wanted, &seen) {
            make(&mut seen, &wanted, &change).map_err(TestCaseError::fail)?;
        }
        // of several entries with one key the kernel chooses which one is replaced: one more look settles it
        for change in diff(&wanted, &seen) {
            make(&mut seen, &wanted, &change).map_err(TestCaseError::fail)?;
        }
        prop_assert_eq!(diff(&wanted, &seen), vec![]);
        prop_assert_eq!(sorted(seen), sorted(wanted));
    }

    #[test]
    fn what_is_right_is_not_touched(wanted in any_state(false)) {
        prop_assert_eq!(diff(&wanted, &wanted), vec![]);
    }

    #[test]
    fn unknown_peers_are_kept(wanted in any_state(false), seen in any_state(true)) {
        let mut foundation = HostState { routes: BTreeSet::new(), ..wanted };
        for device in foundation.devices.values_mut() {
            device.neighbours.clear();
            device.fdb.clear();
        }
        foundation.keep_peers_of(&seen);
        let removes_a_peer = |change: &Change| matches!(
            change,
            Change::DeleteNeighbour(..) | Change::DeleteFdb(..) | Change::DeleteRoute(_)
        );
        prop_assert!(!diff(&foundation, &seen).iter().any(removes_a_peer));
    }
}

#[test]
fn a_route_comes_after_what_it_needs_and_goes_before_it() {
    let mut peer = Device::bare(link(1, 1400, true));
    peer.neighbours.insert((ip(16), mac(7)));
    peer.fdb.insert((mac(7), ip(200)));
    let with = HostState {
        devices: BTreeMap::from([(name(1), peer)]),
        routes: BTreeSet::from([route(1, 16, 1)]),
        tables: Vec::new(),
    };
    let without = HostState {
        devices: BTreeMap::from([(name(1), Device::bare(link(1, 1400, true)))]),
        ..HostState::default()
    };
    let position =
        |changes: &[Change], is_it: fn(&Change) -> bool| changes.iter().position(is_it).unwrap();
    let join = diff(&with, &without);
    assert_eq!(
        position(&join, |change| matches!(change, Change::PutRoute(_))),
        join.len() - 1
    );
    let leave = diff(&without, &with);
    assert_eq!(
        position(&leave, |change| matches!(change, Change::DeleteRoute(_))),
        0
    );
}
