use super::*;
use crate::model::{
    host_state::{DeviceKind, DeviceLink},
    rule_set::RuleChain,
    wireguard::{Interface, Session},
};
use linux_net::{
    Mac,
    link::Vxlan,
    wireguard::PublicKey,
    xfrm::{Direction, Template},
};
use packet_filter::Family;
use proptest::{collection::btree_set, prelude::*};
use std::net::IpAddr;

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
        9 => DeviceKind::Foreign("bridge".to_owned()),
        _ => DeviceKind::Vxlan(Vxlan {
            vni,
            lower: Some(2),
            ..Vxlan::default()
        }),
    };
    DeviceLink {
        kind,
        mtu,
        mac: Some(mac(1)),
        up,
        master: None,
    }
}

/// IPv6 from destination 2 on; destination 3 is a wider network, without gateway.
fn route(dst: u8, gateway: u8, device: u8) -> HostRoute {
    let v6 = |number: u8| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)]);
    let (dst, gateway) = match dst {
        0 | 1 => (IpNetwork::new(ip(dst * 16), 28), ip(gateway)),
        2 => (IpNetwork::new(v6(32), 124), v6(32 + gateway)),
        _ => return HostRoute::on_link(IpNetwork::new(v6(0), 120).unwrap(), name(device)),
    };
    HostRoute {
        onlink: true,
        ..HostRoute::new(dst.unwrap(), gateway, name(device))
    }
}

/// No two peers have one allowed IP: the kernel moves it.
fn wireguard(port: u16, owners: &BTreeMap<u8, u8>, endpoint: u8) -> Wireguard {
    let mut nets = BTreeMap::<u8, Vec<IpNetwork>>::new();
    for (net, key) in owners {
        nets.entry(*key).or_default().push(ip(*net).into());
    }
    let peer = |allowed_ips| Peer {
        preshared_key: None,
        endpoint: Some((ip(endpoint), port).into()),
        keepalive: 0,
        allowed_ips,
        session: Session::None,
    };
    let peers = nets.into_iter();
    Wireguard {
        interface: Interface {
            private_key: None,
            listen_port: port,
        },
        peers: peers
            .map(|(key, nets)| (PublicKey([key; 32]), Arc::new(peer(nets))))
            .collect(),
    }
}

prop_compose! {
    fn any_device(observed: bool)(
        vni in if observed { prop_oneof![Just(1u32), Just(2), Just(9)].boxed() } else { (1u32..3).boxed() },
        mtu in 1400u32..1402,
        up in if observed { any::<bool>().boxed() } else { Just(true).boxed() },
        addresses in btree_set((0u8..3).prop_map(|n| IpNetwork::from(ip(n))), 0..3),
        neighbours in btree_set((0u8..4, 0u8..4), 0..5),
        fdb in btree_set((0u8..4, 0u8..4), 0..5),
        port in 1u16..3,
        owners in proptest::collection::btree_map(0u8..5, 0u8..4, 0..5),
        endpoint in 0u8..3,
        tx_checksum in any::<Option<bool>>(),
    ) -> Device {
        // the kernel holds one neighbour an address; of forwarding entries it may hold several a
        // MAC, a plan only one
        let neighbours: BTreeMap<_, _> = neighbours.into_iter().collect();
        let fdb: Vec<(u8, u8)> = match observed {
            true => fdb.into_iter().collect(),
            false => fdb.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect(),
        };
        Device {
            link: link(vni, mtu, up),
            addresses,
            neighbours: neighbours.into_iter().map(|(to, by)| (ip(to), mac(by))).collect(),
            fdb: fdb.into_iter().map(|(of, to)| (mac(of), ip(to))).collect(),
            tx_checksum: tx_checksum.or((!observed).then_some(false)),
            wireguard: Some(wireguard(port, &owners, endpoint)),
        }
    }
}

fn policy(dst: u8, direction: u8, end: u8) -> Policy {
    let direction = [Direction::In, Direction::Out][usize::from(direction)];
    let template = Template {
        src: ip(100),
        dst: ip(end),
        reqid: 11,
        optional: false,
    };
    Policy::new(ip(50).into(), ip(dst).into(), direction, template)
}

prop_compose! {
    fn any_state(observed: bool)(
        devices in proptest::collection::btree_map((0u8..3).prop_map(name), any_device(observed), 0..3),
        routes in btree_set((0u8..4, 0u8..3, 0u8..4), 0..8),
        policies in proptest::collection::btree_map((0u8..3, 0u8..2), 0u8..2, 0..5),
        tables in btree_set(0u8..3, 0..3),
        rules in proptest::collection::btree_map(any::<bool>(), "[ab]{0,2}", 0..3),
        blackholes in btree_set((0u8..3, 0u32..2), 0..4),
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
            routes: if observed { all } else { by_dst.into_values().collect() },
            policies: policies.into_iter().map(|((dst, direction), end)| policy(dst, direction, end)).collect(),
            tables: tables.into_iter().map(|n| Table {
                family: Family::Ip,
                name: format!("t{n}"),
                dormant: false,
                comment: comment.clone(),
                chains: Vec::new(),
            }).collect(),
            blackholes: blackholes.into_iter().map(|(dst, metric)| Blackhole {
                metric,
                ..Blackhole::new(IpNetwork::from(ip(dst)))
            }).collect(),
            rule_sets: rules.into_iter().map(|(ipv6, text)| rule_set(ipv6, &text)).collect(),
        }
    }
}

/// A chain for each letter.
fn rule_set(ipv6: bool, text: &str) -> RuleSet {
    let chain = |letter: char| RuleChain {
        table: "nat",
        from: "POSTROUTING",
        name: letter.to_string(),
        rules: Vec::new(),
        jumps: Vec::new(),
    };
    RuleSet {
        ipv6,
        chains: text.chars().map(chain).collect(),
    }
}

/// What the kernel does with a change. Fails where the kernel would refuse.
fn make(state: &mut HostState, change: &Change) -> Result<(), String> {
    let refused = || format!("{change:?}: no device");
    let put = matches!(change, Change::Put(_));
    match change.entry() {
        Entry::Device(name, link) if put => match state.devices.get_mut(name) {
            Some(device) if device.link.adoptable_as(link) => device.link = link.clone(),
            Some(_) => return Err(format!("{change:?}: there is another one")),
            None => {
                let device = Device::bare(link.clone());
                state.devices.insert(name.clone(), device);
            }
        },
        Entry::Device(name, _) => {
            state.devices.remove(name).ok_or_else(refused)?;
            state.routes.retain(|route| route.device != *name);
        }
        Entry::Address(name, net) => {
            let device = state.devices.get_mut(name).ok_or_else(refused)?;
            if put {
                device.addresses.insert(*net);
            } else {
                device.addresses.remove(net);
            }
        }
        Entry::Neighbour(name, ip, mac) => {
            let device = state.devices.get_mut(name).ok_or_else(refused)?;
            device.neighbours.retain(|(other, _)| other != ip);
            if put {
                device.neighbours.insert((*ip, *mac));
            }
        }
        Entry::Fdb(name, mac, remote) => {
            let fdb = &mut state.devices.get_mut(name).ok_or_else(refused)?.fdb;
            if put {
                replace_first(fdb, |(other, _)| other == mac);
                fdb.insert((*mac, *remote));
            } else {
                fdb.remove(&(*mac, *remote));
            }
        }
        Entry::TxChecksum(name, on) => {
            let device = state.devices.get_mut(name).ok_or_else(refused)?;
            device.tx_checksum = Some(*on);
        }
        Entry::WireguardInterface(name, interface) => {
            let device = state.devices.get_mut(name).ok_or_else(refused)?;
            let wireguard = device.wireguard.get_or_insert_default();
            wireguard.interface = interface.clone();
        }
        Entry::WireguardPeer(name, entry) => {
            let device = state.devices.get_mut(name).ok_or_else(refused)?;
            let wireguard = device.wireguard.as_mut().ok_or_else(refused)?;
            make_peer(&mut wireguard.peers, entry, put);
        }
        Entry::Route(route) if put => {
            if *route.device != *name(3) && !state.devices.contains_key(&route.device) {
                return Err(refused());
            }
            let leads_there = |other: &&HostRoute| {
                let gateway = route.gateway.filter(|gateway| gateway.is_ipv6());
                gateway.is_some_and(|gateway| other.dst.contains(gateway))
            };
            let over = state.routes.iter().filter(leads_there);
            let longest = over.clone().map(|other| other.dst.prefix()).max();
            let mut narrowest = over.filter(|other| Some(other.dst.prefix()) == longest);
            if narrowest.any(|other| other.device != route.device) {
                return Err(format!(
                    "{change:?}: Nexthop has invalid gateway or device mismatch"
                ));
            }
            replace_first(&mut state.routes, |other| other.dst == route.dst);
            state.routes.insert(route.clone());
        }
        Entry::Route(route) => {
            state.routes.remove(route);
        }
        // one for each selector and direction
        Entry::Policy(policy) => {
            let key = |policy: &Policy| (policy.src, policy.dst, policy.direction);
            state.policies.retain(|other| key(other) != key(policy));
            if put {
                state.policies.insert(policy.clone());
            }
        }
        Entry::Table(table) => {
            state.tables.retain(|other| other.name != table.0.name);
            if put {
                state.tables.push(Table::clone(&table.0));
            }
        }
        Entry::Blackhole(route) if put => drop(state.blackholes.insert(*route)),
        Entry::Blackhole(route) => drop(state.blackholes.remove(route)),
        Entry::RuleSet(rules) => {
            state.rule_sets.retain(|other| other.ipv6 != rules.ipv6);
            state.rule_sets.push(RuleSet::clone(rules));
        }
    }
    Ok(())
}

/// An allowed IP moves from the peer that has it.
fn make_peer(peers: &mut BTreeMap<PublicKey, Arc<Peer>>, entry: &PeerEntry, put: bool) {
    let before = peers.remove(&entry.key);
    if !put {
        return;
    }
    let wanted = &*entry.peer;
    for other in peers.values_mut() {
        let nets = &mut Arc::make_mut(other).allowed_ips;
        nets.retain(|net| !wanted.allowed_ips.contains(net));
    }
    let kept = before.filter(|_| !entry.replace);
    let mut peer = Peer::clone(wanted);
    peer.allowed_ips
        .extend(kept.iter().flat_map(|before| &before.allowed_ips));
    peer.allowed_ips.sort();
    peer.allowed_ips.dedup();
    peers.insert(entry.key, Arc::new(peer));
}

/// The kernel replaces one of the entries with the same key.
fn replace_first<E: Ord + Clone>(entries: &mut BTreeSet<E>, same_key: impl Fn(&E) -> bool) {
    if let Some(first) = entries.iter().find(|entry| same_key(entry)).cloned() {
        entries.remove(&first);
    }
}

fn sorted(mut state: HostState) -> HostState {
    state.tables.sort_by(|a, b| a.name.cmp(&b.name));
    state.rule_sets.sort_by_key(|rules| rules.ipv6);
    state
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn applying_the_difference_gives_the_wanted_state(
        wanted in any_state(false),
        mut observed in any_state(true),
    ) {
        for change in diff(&wanted, &observed) {
            make(&mut observed, &change).map_err(TestCaseError::fail)?;
        }
        // the kernel chooses which of several entries with one key it replaces: the next pass mends
        // the rest
        for change in diff(&wanted, &observed) {
            make(&mut observed, &change).map_err(TestCaseError::fail)?;
        }
        prop_assert_eq!(diff(&wanted, &observed), vec![]);
        // rules of the other packet filter, or of a family that cannot be read, are not compared
        observed.rule_sets.retain(|rules| wanted.rule_sets.contains(rules));
        let mut compared = wanted.clone();
        compared.rule_sets.retain(|rules| !rules.chains.is_empty() || observed.rule_sets.contains(rules));
        prop_assert_eq!(sorted(observed), sorted(compared));
    }

    #[test]
    fn no_subnet_is_without_a_route_meanwhile(
        wanted in any_state(false),
        mut observed in any_state(true),
    ) {
        let stays = |device: &DeviceName| {
            let pair = observed.devices.get(device).zip(wanted.devices.get(device));
            pair.map_or(*device == name(3), |(now, then)| now.link.adoptable_as(&then.link))
        };
        let routed = observed.routes.iter().filter(|route| stays(&route.device));
        let routed = routed.map(|route| route.dst).filter(|dst| wanted.route_to(*dst).is_some());
        let routed: BTreeSet<_> = routed.collect();
        for change in diff(&wanted, &observed) {
            make(&mut observed, &change).map_err(TestCaseError::fail)?;
            for dst in &routed {
                prop_assert!(observed.route_to(*dst).is_some(), "{} after {}", dst, change);
            }
        }
    }

    #[test]
    fn equal_states_need_no_change(wanted in any_state(false)) {
        prop_assert_eq!(diff(&wanted, &wanted), vec![]);
    }

    #[test]
    fn peers_are_kept_while_the_leases_are_unknown(wanted in any_state(false), observed in any_state(true)) {
        let mut node_setup = HostState { routes: BTreeSet::new(), policies: BTreeSet::new(), ..wanted };
        for device in node_setup.devices.values_mut() {
            device.neighbours.clear();
            device.fdb.clear();
            if let Some(wireguard) = &mut device.wireguard {
                wireguard.peers.clear();
            }
        }
        node_setup.keep_peers_of(&observed);
        let removes_a_peer = |change: &Change| match change {
            // those to gateways are none of a peer
            Change::Delete(Entry::Route(route)) => observed.routes.contains(route),
            Change::Delete(entry) => matches!(
                entry,
                Entry::Neighbour(..) | Entry::Fdb(..) | Entry::WireguardPeer(..) | Entry::Policy(_)
            ),
            Change::Put(_) => false,
        };
        prop_assert!(!diff(&node_setup, &observed).iter().any(removes_a_peer));
    }
}

#[test]
fn route_is_put_after_and_deleted_before_what_it_needs() {
    let mut peer = Device::bare(link(1, 1400, true));
    peer.neighbours.insert((ip(16), mac(7)));
    peer.fdb.insert((mac(7), ip(200)));
    let with = HostState {
        devices: BTreeMap::from([(name(1), peer)]),
        routes: BTreeSet::from([route(1, 16, 1)]),
        ..HostState::default()
    };
    let without = HostState {
        devices: BTreeMap::from([(name(1), Device::bare(link(1, 1400, true)))]),
        ..HostState::default()
    };
    let position =
        |changes: &[Change], is_it: fn(&Change) -> bool| changes.iter().position(is_it).unwrap();
    let join = diff(&with, &without);
    assert_eq!(
        position(&join, |change| matches!(
            change,
            Change::Put(Entry::Route(_))
        )),
        join.len() - 1
    );
    let leave = diff(&without, &with);
    assert_eq!(
        position(&leave, |change| matches!(
            change,
            Change::Delete(Entry::Route(_))
        )),
        0
    );
}

#[test]
fn peer_with_a_new_key_has_its_allowed_ip_before_the_old_one_goes() {
    let state = |key: u8| {
        let device = Device {
            wireguard: Some(wireguard(51820, &BTreeMap::from([(16, key)]), 7)),
            ..Device::bare(link(1, 1400, true))
        };
        HostState {
            devices: BTreeMap::from([(name(1), device)]),
            ..HostState::default()
        }
    };
    let changes = diff(&state(2), &state(1));
    let keys = |change: &Change| match change {
        Change::Put(Entry::WireguardPeer(_, entry)) => (true, entry.key.0[0], entry.replace),
        Change::Delete(Entry::WireguardPeer(_, entry)) => (false, entry.key.0[0], entry.replace),
        other => panic!("{other:?}"),
    };
    let changes: Vec<_> = changes.iter().map(keys).collect();
    assert_eq!(changes, [(true, 2, false), (false, 1, false)]);
}
