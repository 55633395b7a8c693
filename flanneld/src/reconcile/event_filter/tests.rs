use super::*;
use crate::{
    backend::fixtures,
    model::{
        self,
        host_state::{Blackhole, DeviceKind, DeviceLink, HostRoute, ROUTE_PROTOCOL},
        rule_set::{RuleChain, RuleSet},
    },
    underlay::fixtures::{self as host, PERMANENT},
};
use linux_net::{
    Mac,
    link::{Kind, Vxlan},
    neighbour::NeighbourState,
    route::RouteType,
    xfrm::SecurityAssociation,
};
use packet_filter::Table;
use std::{collections::BTreeMap, net::IpAddr};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PEER: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link(index: u32, name: &str, kind: Kind) -> Link {
    Link {
        mac: Some(MAC),
        kind,
        ..host::link(index, name)
    }
}

fn vxlan() -> Vxlan {
    Vxlan {
        vni: 1,
        lower: Some(2),
        ..Vxlan::default()
    }
}

fn filter() -> EventFilter {
    let mut device = Device::bare(DeviceLink {
        kind: DeviceKind::Vxlan(vxlan()),
        mtu: 1500,
        mac: Some(MAC),
        up: true,
        master: None,
    });
    device.addresses.insert("10.244.1.0/32".parse().unwrap());
    device.neighbours.insert((ip("10.244.2.0"), PEER));
    device.fdb.insert((PEER, ip("172.31.0.2")));
    let wanted = HostState {
        devices: BTreeMap::from([("flannel.1".into(), device)]),
        routes: [HostRoute {
            onlink: true,
            ..HostRoute::new(
                "10.244.2.0/24".parse().unwrap(),
                ip("10.244.2.0"),
                "flannel.1".into(),
            )
        }]
        .into(),
        policies: Default::default(),
        tables: vec![Table {
            family: Family::Ip,
            name: "flannel-ipv4".to_owned(),
            dormant: false,
            comment: None,
            chains: Vec::new(),
        }],
        blackholes: [Blackhole::new("10.244.1.0/24".parse().unwrap())].into(),
        ..HostState::default()
    };
    EventFilter {
        wanted: Arc::new(wanted),
        ownership: Ownership {
            backends: vec![fixtures::vxlan()],
            families: vec![model::Family {
                network: "10.244.0.0/16".parse().unwrap(),
                subnet: "10.244.1.0/24".parse().unwrap(),
            }],
            earlier_devices: Vec::new(),
            direct_routes_over: None,
        },
        indexes: DeviceIndexes::from([(3, "flannel.1".into())]),
        conflicts: Arc::new(["10.244.3.0/24".parse().unwrap()].into()),
        underlay: Some(Underlay {
            index: 2,
            name: "eth0".to_owned(),
            mtu: 1500,
            address: None,
            address_v6: None,
            public_ip: None,
            public_ipv6: None,
        }),
        link_state: LinkState::Up,
        awaits_better_underlay: false,
        addresses: Arc::new([address(2, "172.31.0.1/24")]),
        routes: Arc::new(RouteDependencies {
            peers: [ip("172.31.0.2")].into(),
            without_route: [].into(),
            on_link: true,
        }),
        awaits_keys: false,
    }
}

fn our_route() -> Route {
    let mut route = Route::new("10.244.2.0/24".parse().unwrap());
    route.gateway = Some(ip("10.244.2.0"));
    route.oif = Some(3);
    route.onlink = true;
    route.protocol = ROUTE_PROTOCOL;
    route
}

fn address(index: u32, net: &str) -> Address {
    host::address(index, net, PERMANENT)
}

#[test]
fn our_own_changes_need_no_pass() {
    let filter = filter();
    for event in [
        Event::Link(link(3, "flannel.1", Kind::Vxlan(vxlan()))),
        Event::Address(address(3, "10.244.1.0/32"), true),
        Event::Route(our_route(), RouteChange::Added),
        Event::Neighbour(Neighbour::permanent(3, ip("10.244.2.0"), PEER), true),
        Event::Fdb(FdbEntry::permanent(3, PEER, ip("172.31.0.2")), true),
        Event::Route(
            Route {
                gateway: Some(ip("10.244.9.9")),
                ..our_route()
            },
            RouteChange::Deleted,
        ),
    ] {
        assert!(!filter.needs_pass(&event), "{event:?}");
    }
}

#[test]
fn pods_that_come_and_go_need_no_pass() {
    let filter = filter();
    let mut pod_route = our_route();
    pod_route.oif = Some(9);
    pod_route.dst = "10.244.1.0/24".parse().unwrap();
    for event in [
        Event::Link(link(9, "veth1234", Kind::Veth)),
        Event::LinkGone {
            index: 9,
            name: "veth1234".to_owned(),
        },
        Event::Address(address(9, "10.244.1.1/24"), true),
        Event::Neighbour(Neighbour::permanent(9, ip("10.244.1.7"), PEER), true),
        Event::Route(pod_route, RouteChange::Added),
    ] {
        assert!(!filter.needs_pass(&event), "{event:?}");
    }
}

#[test]
fn contradicting_events_need_a_pass() {
    let filter = filter();
    let down = Link {
        up: false,
        ..link(3, "flannel.1", Kind::Vxlan(vxlan()))
    };
    let unresolved = Neighbour {
        mac: None,
        state: NeighbourState::Failed,
        ..Neighbour::permanent(3, ip("10.244.2.0"), PEER)
    };
    for event in [
        Event::Overrun,
        Event::Link(down),
        Event::Link(link(7, "flannel.1", Kind::Vxlan(vxlan()))),
        Event::Link(link(8, "flannel-v6.1", Kind::Vxlan(vxlan()))),
        Event::Link(link(3, "renamed", Kind::Vxlan(vxlan()))),
        Event::Link(Link {
            master: Some(9),
            ..link(3, "flannel.1", Kind::Vxlan(vxlan()))
        }),
        Event::LinkGone {
            index: 3,
            name: "flannel.1".to_owned(),
        },
        Event::LinkGone {
            index: 2,
            name: "eth0".to_owned(),
        },
        Event::Link(Link {
            mtu: 1400,
            ..link(2, "eth0", Kind::Veth)
        }),
        Event::Address(address(3, "10.244.1.0/32"), false),
        Event::Address(address(3, "10.244.9.9/32"), true),
        Event::Address(address(2, "172.31.0.9/24"), true),
        Event::Route(our_route(), RouteChange::Deleted),
        Event::Route(
            Route {
                mtu: 500,
                ..our_route()
            },
            RouteChange::Added,
        ),
        Event::Route(
            Route {
                kind: RouteType::BlackHole,
                ..Route::new("10.244.3.0/24".parse().unwrap())
            },
            RouteChange::Deleted,
        ),
        Event::Route(
            Route {
                gateway: Some(ip("10.244.9.9")),
                ..our_route()
            },
            RouteChange::Added,
        ),
        Event::Route(
            Route {
                oif: Some(2),
                onlink: false,
                ..our_route()
            },
            RouteChange::Added,
        ),
        Event::Neighbour(Neighbour::permanent(3, ip("10.244.2.0"), PEER), false),
        Event::Neighbour(Neighbour::permanent(3, ip("10.244.2.0"), MAC), true),
        Event::Neighbour(unresolved, true),
        Event::Fdb(FdbEntry::permanent(3, PEER, ip("172.31.0.2")), false),
        Event::Fdb(FdbEntry::permanent(3, PEER, ip("172.31.0.9")), true),
        Event::Fdb(
            FdbEntry {
                altered: true,
                ..FdbEntry::permanent(3, PEER, ip("172.31.0.2"))
            },
            true,
        ),
    ] {
        assert!(filter.needs_pass(&event), "{event:?}");
    }
}

#[test]
fn blackhole_that_goes_or_is_replaced_needs_no_look_at_the_host() {
    let filter = filter();
    let ours = Route {
        kind: RouteType::BlackHole,
        priority: u32::MAX,
        protocol: ROUTE_PROTOCOL,
        ..Route::new("10.244.1.0/24".parse().unwrap())
    };
    let unreachable = Route {
        kind: RouteType::Unreachable,
        ..ours.clone()
    };
    for (route, change, effect) in [
        (&ours, RouteChange::Added, Effect::AsWanted),
        (&ours, RouteChange::Deleted, Effect::Contradiction),
        (&unreachable, RouteChange::Replaced, Effect::Contradiction),
        (&unreachable, RouteChange::Deleted, Effect::AsWanted),
    ] {
        let event = Event::Route(route.clone(), change);
        assert_eq!(filter.effect(&event), effect, "{event:?}");
    }
    let of_go = Route {
        priority: 0,
        protocol: linux_net::route::RouteProtocol::Boot,
        ..ours
    };
    assert!(filter.needs_pass(&Event::Route(of_go, RouteChange::Added)));
}

#[test]
fn contradicting_entries_do_not_need_a_look_at_the_host() {
    let filter = filter();
    let blackhole = Route {
        kind: RouteType::BlackHole,
        ..Route::new("10.244.2.0/24".parse().unwrap())
    };
    let peer = Neighbour::permanent(3, ip("10.244.2.0"), PEER);
    for event in [
        Event::Route(our_route(), RouteChange::Deleted),
        Event::Route(blackhole.clone(), RouteChange::Replaced),
        Event::Neighbour(peer.clone(), false),
        Event::Fdb(FdbEntry::permanent(3, PEER, ip("172.31.0.9")), true),
    ] {
        assert_eq!(filter.effect(&event), Effect::Contradiction, "{event:?}");
    }
    for event in [
        Event::Route(our_route(), RouteChange::Added),
        Event::Neighbour(peer, true),
    ] {
        assert_eq!(filter.effect(&event), Effect::AsWanted, "{event:?}");
    }
    let to_peers = Route::new("172.31.0.0/24".parse().unwrap());
    let next_hop = Route {
        gateway: Some(ip("fd31::7")),
        ..Route::new("fd00:10:244:2::/64".parse().unwrap())
    };
    for (route, concerns_peers) in [
        (to_peers, true),
        (Route::new("192.168.7.0/24".parse().unwrap()), false),
    ] {
        let effect = filter.effect(&Event::Route(route, RouteChange::Deleted));
        assert_eq!(effect, Effect::OtherRoute { concerns_peers });
        assert_eq!(effect.needs_pass(), concerns_peers);
    }
    for event in [
        Event::Route(next_hop, RouteChange::Appended),
        Event::LinkGone {
            index: 3,
            name: "flannel.1".to_owned(),
        },
        Event::Address(address(3, "10.244.1.0/32"), false),
        Event::Overrun,
    ] {
        let read = filter.needs_pass(&event);
        assert_eq!(filter.effect(&event) == Effect::ReadHost, read, "{event:?}");
    }
    let underlay = None;
    let filter = EventFilter { underlay, ..filter };
    let event = Event::Route(blackhole, RouteChange::Added);
    assert_eq!(filter.effect(&event), Effect::ReadHost);
    let other = Event::Route(
        Route::new("100.64.0.0/24".parse().unwrap()),
        RouteChange::Added,
    );
    assert_eq!(filter.effect(&other), Effect::Nothing);
}

#[test]
fn state_of_the_underlay_and_routes_to_peers_need_a_pass() {
    let filter = filter();
    let eth0 = link(2, "eth0", Kind::Veth);
    assert!(!filter.needs_pass(&Event::Link(eth0.clone())));
    for (up, carrier) in [(false, false), (true, false)] {
        let changed = Link {
            up,
            carrier,
            ..eth0.clone()
        };
        assert!(filter.needs_pass(&Event::Link(changed)));
    }
    let route = |dst: &str| Route {
        oif: Some(2),
        ..Route::new(dst.parse().unwrap())
    };
    for added in [RouteChange::Added, RouteChange::Deleted] {
        for dst in ["172.31.0.0/24", "0.0.0.0/0"] {
            assert!(filter.needs_pass(&Event::Route(route(dst), added)), "{dst}");
        }
        let other = Event::Route(route("192.168.7.0/24"), added);
        assert!(!filter.needs_pass(&other));
    }
}

#[test]
fn address_of_the_underlay_costs_a_look_at_the_addresses_at_most() {
    let filter = filter();
    let known = address(2, "172.31.0.1/24");
    for (event, effect) in [
        // with another lifetime
        (Event::Address(known.clone(), true), Effect::Nothing),
        (
            Event::Address(address(2, "172.31.0.9/24"), true),
            Effect::ReadAddresses,
        ),
        (
            Event::Address(address(9, "172.31.0.9/24"), true),
            Effect::Nothing,
        ),
        // IPv4 routes may have gone with it
        (Event::Address(known, false), Effect::ReadHost),
    ] {
        assert_eq!(filter.effect(&event), effect, "{event:?}");
    }
}

#[test]
fn new_address_needs_a_pass_while_a_better_underlay_is_awaited() {
    let event = Event::Address(address(9, "192.0.2.7/24"), true);
    assert!(!filter().needs_pass(&event));
    let filter = EventFilter {
        awaits_better_underlay: true,
        ..filter()
    };
    assert!(filter.needs_pass(&event));
}

#[test]
fn while_the_underlay_is_missing_any_link_or_address_needs_a_pass() {
    let filter = EventFilter {
        underlay: None,
        ..filter()
    };
    assert!(filter.needs_pass(&Event::Link(link(12, "eth0", Kind::Veth))));
    assert!(filter.needs_pass(&Event::Address(address(12, "172.31.0.1/24"), true)));
    assert!(filter.needs_pass(&Event::Route(
        Route::new("0.0.0.0/0".parse().unwrap()),
        RouteChange::Added
    )));
}

fn changed(family: Family, table: &str, chain: Option<&str>) -> Changed {
    Changed {
        family,
        table: table.to_owned(),
        chain: chain.map(str::to_owned),
    }
}

#[test]
fn only_our_tables_need_a_pass() {
    let filter = filter();
    let concerns = |change| filter.concerns_rules(Some(&[change].into()));
    assert!(filter.concerns_rules(None));
    assert!(
        filter.concerns_rules(Some(
            &[
                changed(Family::Ip, "other", None),
                changed(Family::Ip, "flannel-ipv4", Some("forward")),
            ]
            .into()
        ))
    );
    assert!(concerns(changed(Family::Ip, "flannel-ipv4", None)));
    assert!(!concerns(changed(Family::Ip6, "flannel-ipv4", None)));
    assert!(!concerns(changed(Family::Ip, "cni_hostport", None)));
    assert!(!concerns(changed(Family::Ip, "nat", Some("POSTROUTING"))));
    assert!(!filter.concerns_rules(Some(&BTreeSet::new())));
}

#[test]
fn only_our_chains_and_those_that_lead_to_them_need_a_pass() {
    let chain = RuleChain {
        table: "nat",
        from: "POSTROUTING",
        name: "FLANNEL-POSTRTG".to_owned(),
        rules: Vec::new(),
        jumps: Vec::new(),
    };
    let mut filter = filter();
    filter.wanted = Arc::new(HostState {
        rule_sets: [false, true]
            .map(|ipv6| RuleSet {
                ipv6,
                chains: if ipv6 {
                    Vec::new()
                } else {
                    vec![chain.clone()]
                },
            })
            .into(),
        ..HostState::default()
    });
    let concerns = |change| filter.concerns_rules(Some(&[change].into()));
    for chain in [None, Some("POSTROUTING"), Some("FLANNEL-POSTRTG")] {
        assert!(concerns(changed(Family::Ip, "nat", chain)), "{chain:?}");
        assert!(!concerns(changed(Family::Ip6, "nat", chain)), "{chain:?}");
        assert!(!concerns(changed(Family::Ip, "filter", chain)));
    }
    assert!(!concerns(changed(Family::Ip, "nat", Some("KUBE-SERVICES"))));
    assert!(!concerns(changed(Family::Ip, "flannel-ipv4", None)));
}

#[test]
fn keys_need_a_pass_while_they_are_awaited() {
    let association = SecurityAssociation {
        src: ip("172.31.0.1"),
        dst: ip("172.31.0.2"),
        spi: 1,
        reqid: 11,
        is_esp_tunnel: true,
    };
    let keys = |added| xfrm::Event::Association(association, added);
    let mut filter = filter();
    assert!(!filter.concerns_policies(&keys(true)));
    filter.awaits_keys = true;
    assert!(filter.concerns_policies(&keys(true)));
    assert!(!filter.concerns_policies(&keys(false)));
}
