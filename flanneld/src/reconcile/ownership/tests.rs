use super::*;
use crate::backend::fixtures;
use linux_net::{
    address::{AddressFlags, AddressScope},
    neighbour::NeighbourState,
};

fn ownership() -> Ownership {
    Ownership {
        backends: vec![fixtures::vxlan()],
        families: vec![
            Family {
                network: "10.244.0.0/16".parse().unwrap(),
                subnet: "10.244.1.0/24".parse().unwrap(),
            },
            Family {
                network: "fd00:10:244::/48".parse().unwrap(),
                subnet: "fd00:10:244:1::/64".parse().unwrap(),
            },
        ],
        earlier_devices: Vec::new(),
        direct_routes_over: None,
    }
}

fn route(dst: &str, gateway: &str, oif: u32) -> Route {
    let mut route = Route::new(dst.parse().unwrap());
    route.gateway = Some(gateway.parse().unwrap());
    route.oif = Some(oif);
    route.onlink = oif != 2;
    route
}

fn is_ours(ownership: &Ownership, route: &Route) -> bool {
    let names = [(2, "eth0"), (3, "flannel.1"), (4, "flannel-v6.1")];
    let name = |index| {
        names
            .iter()
            .find(|(at, _)| *at == index)
            .map(|(_, name)| (*name).into())
    };
    ownership.route(route, name).is_some()
}

#[test]
fn routes_over_our_devices_are_ours() {
    let ownership = ownership();
    assert!(is_ours(
        &ownership,
        &route("10.244.2.0/24", "10.244.2.0", 3)
    ));
    assert!(
        is_ours(&ownership, &route("10.244.2.0/24", "10.244.9.9", 3)),
        "a wrong next hop"
    );
    assert!(
        is_ours(&ownership, &route("10.42.2.0/24", "10.42.2.0", 3)),
        "of an earlier network"
    );
    let mut v6 = route("fd00:10:244:2::/64", "fd00:10:244:2::", 4);
    v6.priority = IP6_DEFAULT_METRIC;
    assert!(is_ours(&ownership, &v6));
}

#[test]
fn routes_with_our_protocol_are_ours_over_any_link_inside_the_network() {
    let ownership = ownership();
    let with = |dst, gateway, oif| Route {
        protocol: ROUTE_PROTOCOL,
        ..route(dst, gateway, oif)
    };
    assert!(is_ours(&ownership, &with("10.244.2.0/24", "172.31.0.2", 2)));
    assert!(is_ours(&ownership, &with("10.42.2.0/24", "10.42.2.0", 3)));
    assert!(
        !is_ours(&ownership, &with("10.42.2.0/24", "172.31.0.2", 2)),
        "of another flanneld with another network"
    );
}

#[test]
fn routes_over_the_device_of_an_earlier_configuration_are_ours() {
    let ownership = Ownership {
        earlier_devices: vec!["flannel.7".into()],
        ..ownership()
    };
    let name = |device: &str| Some(device.into());
    let route = route("10.244.2.0/24", "10.244.2.0", 9);
    assert!(ownership.route(&route, |_| name("flannel.7")).is_some());
    assert!(ownership.route(&route, |_| name("flannel.8")).is_none());
}

#[test]
fn attributes_of_another_program_are_seen() {
    let good = Route {
        protocol: ROUTE_PROTOCOL,
        ..route("10.244.2.0/24", "10.244.2.0", 3)
    };
    let altered = |route: &Route| {
        let name = |_| Some("flannel.1".into());
        ownership().route(route, name).unwrap().altered
    };
    assert!(!altered(&good));
    for other in [
        Route {
            prefsrc: Some("10.9.9.9".parse().unwrap()),
            ..good.clone()
        },
        Route {
            mtu: 500,
            ..good.clone()
        },
        Route {
            other_attributes: true,
            ..good.clone()
        },
    ] {
        assert!(altered(&other), "{other:?}");
    }
}

#[test]
fn foreign_routes_are_not_ours() {
    let ownership = ownership();
    let good = route("10.244.2.0/24", "10.244.2.0", 3);
    let without_gateway = Route {
        gateway: None,
        ..good.clone()
    };
    for (foreign, why) in [
        (
            route("10.244.2.0/24", "172.31.0.254", 2),
            "over the underlay",
        ),
        (
            route("192.168.7.0/24", "10.244.2.0", 3),
            "to another network",
        ),
        (route("0.0.0.0/0", "10.244.2.0", 3), "a default route"),
        (without_gateway, "no next hop"),
        (
            Route {
                priority: 50,
                ..good.clone()
            },
            "with a metric",
        ),
        (
            Route {
                table: 100,
                ..good.clone()
            },
            "in another table",
        ),
        (
            Route {
                kind: RouteType::BlackHole,
                ..good.clone()
            },
            "a blackhole",
        ),
        (
            Route {
                protocol: RouteProtocol::Kernel,
                ..good.clone()
            },
            "the kernel's",
        ),
        (
            Route {
                protocol: RouteProtocol::Bird,
                ..good.clone()
            },
            "a routing daemon's",
        ),
        (
            Route {
                tos: 16,
                ..good.clone()
            },
            "for a type of service",
        ),
        (
            Route {
                oif: Some(77),
                ..good
            },
            "over a device that is not there",
        ),
    ] {
        assert!(!is_ours(&ownership, &foreign), "{why}");
    }
}

#[test]
fn routes_over_the_underlay_are_ours_only_if_this_node_made_direct_routes() {
    let ownership = Ownership {
        direct_routes_over: Some("eth0".into()),
        ..ownership()
    };
    assert!(is_ours(
        &ownership,
        &route("10.244.2.0/24", "172.31.0.2", 2)
    ));
    for foreign in [
        route("10.244.2.0/25", "172.31.0.2", 2),
        route("10.244.1.0/24", "172.31.0.2", 2),
        route("192.168.7.0/24", "172.31.0.2", 2),
        Route {
            protocol: RouteProtocol::Static,
            ..route("10.244.2.0/24", "172.31.0.2", 2)
        },
        Route {
            onlink: true,
            ..route("10.244.2.0/24", "172.31.0.2", 2)
        },
    ] {
        assert!(!is_ours(&ownership, &foreign), "{foreign:?}");
    }
}

#[test]
fn addresses_inside_the_network_are_ours() {
    let on = |net: &str| {
        let net = net.parse().unwrap();
        ownership()
            .address(&Address {
                index: 3,
                net,
                scope: AddressScope::Universe,
                flags: AddressFlags::Permanent,
                label: None,
            })
            .is_some()
    };
    assert!(on("10.244.1.0/32") && on("10.244.200.1/24") && on("fd00:10:244:1::/128"));
    assert!(!on("192.168.1.1/24") && !on("fe80::1/64"));
}

#[test]
fn permanent_unicast_entries_are_ours() {
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let entry = |mac, state| {
        let dst = "172.31.0.2".parse().unwrap();
        fdb(&FdbEntry {
            state,
            ..FdbEntry::permanent(3, mac, dst)
        })
        .is_some()
    };
    let permanent = NeighbourState::Permanent;
    assert!(entry(mac, permanent));
    assert!(!entry(mac, NeighbourState::Reachable), "learned");
    assert!(!entry(Mac::default(), permanent), "the default destination");
    assert!(!entry(Mac([0x33, 0x33, 0, 0, 0, 1]), permanent), "a group");
    let altered = FdbEntry {
        altered: true,
        ..FdbEntry::permanent(3, mac, "172.31.0.2".parse().unwrap())
    };
    assert_eq!(fdb(&altered), Some((mac, ALTERED_REMOTE)));
    let ip = "10.244.2.0".parse().unwrap();
    assert!(neighbour(&Neighbour::permanent(3, ip, mac)).is_some());
    assert!(
        neighbour(&Neighbour {
            state: NeighbourState::Reachable,
            ..Neighbour::permanent(3, ip, mac)
        })
        .is_none()
    );
}

#[test]
fn marked_route_without_gateway_is_ours_and_unaltered_in_its_own_scope() {
    let own = HostRoute::on_link("10.244.2.0/24".parse().unwrap(), "flannel.1".into());
    let observed = Route {
        gateway: None,
        onlink: false,
        protocol: ROUTE_PROTOCOL,
        scope: RouteScope::Link,
        ..route("10.244.2.0/24", "10.244.2.0", 3)
    };
    let name = |_| Some("flannel.1".into());
    let ownership = ownership();
    assert_eq!(ownership.route(&observed, name), Some(own));
    let wide = Route {
        scope: RouteScope::Universe,
        ..observed.clone()
    };
    assert!(
        ownership
            .route(&wide, name)
            .is_some_and(|route| route.altered)
    );
    let boot = Route {
        protocol: RouteProtocol::Boot,
        ..observed
    };
    assert_eq!(ownership.route(&boot, name), None, "vxlan makes none");
}

#[test]
fn blackholes_to_this_nodes_subnets_are_ours() {
    let blackhole = |dst: &str, metric, protocol| Route {
        kind: RouteType::BlackHole,
        priority: metric,
        protocol,
        ..Route::new(dst.parse().unwrap())
    };
    let ours = |route: &Route| ownership().blackhole(route).is_some();
    for dst in ["10.244.1.0/24", "10.244.9.0/24", "fd00:10:244:1::/64"] {
        let marked = blackhole(dst, u32::MAX, ROUTE_PROTOCOL);
        assert!(ours(&marked), "{dst}");
        let unicast = Route {
            kind: RouteType::Unicast,
            ..marked.clone()
        };
        let elsewhere = Route {
            table: 100,
            ..marked
        };
        assert!(!ours(&unicast) && !ours(&elsewhere), "{dst}");
    }
    // Go flannel's
    for (dst, metric, expected) in [
        ("10.244.1.0/24", 0, true),
        ("10.244.1.0/24", 7, false),
        ("10.244.9.0/24", 0, false),
        ("fd00:10:244:1::/64", IP6_DEFAULT_METRIC, true),
        ("10.9.0.0/16", 0, false),
    ] {
        let route = blackhole(dst, metric, RouteProtocol::Boot);
        assert_eq!(ours(&route), expected, "{dst} metric {metric}");
    }
    assert!(!ours(&blackhole("10.244.1.0/24", 0, RouteProtocol::Static)));
}
