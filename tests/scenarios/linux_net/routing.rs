//! Addresses, routes, neighbours and FDB entries.

use super::{index, ip, net, with_bridge};
use ipnetwork::IpNetwork;
use linux_net::{
    Mac, Netlink,
    address::{self, AddressFlags, AddressScope},
    fdb::{self, FdbEntry},
    link::{self, Vxlan},
    neighbour::{self, Neighbour},
    route::{self, Filter, MAIN_TABLE, Route, RouteProtocol, RouteType},
};
use tests::{Host, scenario};

#[scenario]
fn addresses_are_added_listed_and_deleted() {
    let (host, mut netlink, bridge) = with_bridge();
    let (v4, v6, single) = (net("10.1.0.1/24"), net("fd10::1/64"), net("10.1.0.9/32"));
    for (address, nodad) in [(v4, false), (v6, true), (single, false)] {
        netlink
            .request(&address::add(bridge, address, nodad))
            .expect("address");
    }
    let shown = host.sh("ip addr show br");
    assert!(
        shown.contains("inet 10.1.0.1/24 brd 10.1.0.255 scope global br"),
        "{shown}"
    );
    assert!(
        shown.contains("inet 10.1.0.9/32 scope global br"),
        "{shown}"
    );
    assert!(
        shown.contains("inet6 fd10::1/64 scope global nodad"),
        "{shown}"
    );
    let again = netlink
        .request(&address::add(bridge, v4, false))
        .unwrap_err();
    assert!(again.is_exists(), "{again}");
    let seen = netlink.addresses(Some(bridge)).expect("addresses");
    let found = |wanted: IpNetwork| seen.iter().find(|address| address.net == wanted);
    let (a, b) = (found(v4).expect("v4"), found(v6).expect("v6"));
    assert_eq!(
        (a.scope, a.flags, a.label.as_deref()),
        (AddressScope::Universe, AddressFlags::Permanent, Some("br"))
    );
    let both = AddressFlags::Permanent | AddressFlags::Nodad;
    assert_eq!(
        (b.flags & both, b.tentative(), b.dad_failed()),
        (both, false, false)
    );
    assert!(seen.iter().all(|address| address.index == bridge));
    let all = netlink.addresses(None).expect("addresses");
    assert!(
        all.iter()
            .any(|address| address.net == net("127.0.0.1/8") && address.scope == AddressScope::Host)
    );
    for address in [v4, v6, single] {
        netlink
            .request(&address::delete(bridge, address))
            .expect("delete");
    }
    let gone = netlink.request(&address::delete(bridge, v4)).unwrap_err();
    assert!(gone.is_absent(), "{gone}");
    assert!(!host.sh("ip addr show br").contains("scope global"));
}

/// Routes of several kinds over the bridge of [`with_bridge`].
struct Routes {
    overlay: Route,
    via: Route,
    hole: Route,
    six: Route,
}

impl Routes {
    fn all(&self) -> [&Route; 4] {
        [&self.overlay, &self.via, &self.hole, &self.six]
    }
}

fn with_routes() -> (Host, Netlink, u32, Routes) {
    let (host, mut netlink, bridge) = with_bridge();
    for address in ["10.1.0.1/24", "fd10::1/64"] {
        netlink
            .request(&address::add(bridge, net(address), true))
            .expect("address");
    }
    let overlay = Route {
        gateway: Some(ip("10.244.1.0")),
        oif: Some(bridge),
        onlink: true,
        ..Route::new(net("10.244.1.0/24"))
    };
    let via = Route {
        gateway: Some(ip("10.1.0.7")),
        priority: 50,
        prefsrc: Some(ip("10.1.0.1")),
        mtu: 1300,
        advmss: 1260,
        table: 1000,
        oif: Some(bridge),
        ..Route::new(net("0.0.0.0/0"))
    };
    let hole = Route {
        kind: RouteType::BlackHole,
        ..Route::new(net("10.9.0.0/16"))
    };
    let six = Route {
        gateway: Some(ip("fd10::7")),
        oif: Some(bridge),
        priority: 1024,
        ..Route::new(net("fd99::/64"))
    };
    let routes = Routes {
        overlay,
        via,
        hole,
        six,
    };
    for route in routes.all() {
        netlink.request(&route::add(route)).expect("route");
    }
    (host, netlink, bridge, routes)
}

#[scenario]
fn routes_are_added_replaced_and_deleted() {
    let (host, mut netlink, _, routes) = with_routes();
    let overlay = &routes.overlay;
    let shown = host.sh("ip route && ip route show table 1000 && ip -6 route");
    for line in [
        "10.244.1.0/24 via 10.244.1.0 dev br onlink",
        "default via 10.1.0.7 dev br src 10.1.0.1 metric 50 mtu 1300 advmss 1260",
        "blackhole 10.9.0.0/16",
        "fd99::/64 via fd10::7 dev br metric 1024",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(
        netlink
            .request(&route::add(overlay))
            .unwrap_err()
            .is_exists()
    );
    netlink.request(&route::replace(overlay)).expect("replace");
    let all = netlink.routes(Filter::default()).expect("routes");
    for route in routes.all() {
        assert!(all.contains(route), "{route:?} in {all:#?}");
    }
    for route in routes.all() {
        netlink.request(&route::delete(route)).expect("delete");
    }
    assert!(
        netlink
            .request(&route::delete(overlay))
            .unwrap_err()
            .is_absent()
    );
    netlink.request(&route::append(overlay)).expect("append");
    assert!(
        host.sh("ip route")
            .contains("10.244.1.0/24 via 10.244.1.0 dev br onlink")
    );
}

#[scenario]
fn route_dumps_are_filtered() {
    let (host, mut netlink, bridge, routes) = with_routes();
    let filtered = |netlink: &mut Netlink, filter| netlink.routes(filter).expect("routes");
    let table = Filter {
        table: Some(1000),
        ..Default::default()
    };
    assert_eq!(
        filtered(&mut netlink, table),
        std::slice::from_ref(&routes.via)
    );
    let empty = Filter {
        table: Some(999),
        ..Default::default()
    };
    assert_eq!(filtered(&mut netlink, empty), []);
    let on_bridge = Filter {
        table: Some(MAIN_TABLE),
        oif: Some(bridge),
        ipv6: Some(false),
    };
    let found = filtered(&mut netlink, on_bridge);
    assert!(
        found.contains(&routes.overlay) && !found.contains(&routes.hole),
        "{found:#?}"
    );
    assert!(
        found
            .iter()
            .any(|route| route.protocol == RouteProtocol::Kernel),
        "the connected one: {found:#?}"
    );
    host.sh("ip route add 10.77.0.0/16 nexthop via 10.1.0.2 nexthop via 10.1.0.3");
    let all = netlink.routes(Filter::default()).expect("routes");
    let several = all.iter().find(|route| route.dst == net("10.77.0.0/16"));
    assert!(several.is_some_and(|route| route.oif.is_none() && route.gateway.is_none()));
}

#[scenario]
fn route_look_up_names_interface_gateway_and_source() {
    let (_host, mut netlink, bridge, routes) = with_routes();
    let answer = netlink.route_to(ip("10.244.1.9")).expect("route");
    assert_eq!(
        (answer.oif, answer.gateway),
        (Some(bridge), routes.overlay.gateway)
    );
    assert_eq!(answer.prefsrc, Some(ip("10.1.0.1")));
    assert_eq!(
        netlink.route_to(ip("fd10::99")).expect("route").oif,
        Some(bridge)
    );
    let nowhere = netlink.route_to(ip("203.0.113.1")).unwrap_err();
    assert_eq!(
        nowhere.to_string(),
        "look up route to 203.0.113.1: network is unreachable"
    );
}

#[scenario]
fn neighbours_and_fdb_entries_are_replaced_and_deleted() {
    let host = Host::new("a");
    let mut netlink = host.run(|| Netlink::open().expect("netlink"));
    let vxlan = Vxlan {
        vni: 1,
        local: Some(ip("192.0.2.1")),
        ..Default::default()
    };
    netlink
        .request(&link::create_vxlan("flannel.1", &vxlan, None, None))
        .expect("vxlan");
    host.sh(
        "ip link set flannel.1 up && ip link add strange type bridge && ip link set strange up",
    );
    let device = index(&mut netlink, "flannel.1");
    let mac: Mac = "02:00:00:00:00:01".parse().expect("MAC");
    let other: Mac = "02:00:00:00:00:02".parse().expect("MAC");
    let v4 = Neighbour::permanent(device, ip("10.244.1.0"), mac);
    let v6 = Neighbour::permanent(device, ip("fd10::1"), mac);
    for neighbour in [&v4, &v6] {
        netlink
            .request(&neighbour::replace(neighbour))
            .expect("neighbour");
    }
    assert!(
        host.sh("ip neigh")
            .contains("10.244.1.0 dev flannel.1 lladdr 02:00:00:00:00:01 PERMANENT")
    );
    let seen = netlink.neighbours(Some(device)).expect("neighbours");
    assert!(seen.contains(&v4) && seen.contains(&v6), "{seen:?}");
    assert!(seen.iter().all(|neighbour| neighbour.index == device));
    assert!(netlink.neighbours(None).expect("neighbours").len() >= seen.len());
    let changed = Neighbour {
        mac: Some(other),
        ..v4.clone()
    };
    netlink
        .request(&neighbour::replace(&changed))
        .expect("replace");
    let seen = netlink.neighbours(Some(device)).expect("neighbours");
    assert!(seen.contains(&changed) && !seen.contains(&v4), "{seen:?}");
    netlink.request(&neighbour::delete(&v4)).expect("delete");
    assert!(
        netlink
            .request(&neighbour::delete(&v4))
            .unwrap_err()
            .is_absent()
    );

    let entry = FdbEntry::permanent(device, mac, ip("192.0.2.2"));
    netlink.request(&fdb::replace(&entry)).expect("FDB");
    let shown = host.sh("bridge fdb show dev flannel.1");
    assert!(
        shown.contains("02:00:00:00:00:01 dst 192.0.2.2 self permanent"),
        "{shown}"
    );
    let moved = FdbEntry::permanent(device, mac, ip("192.0.2.3"));
    netlink.request(&fdb::replace(&moved)).expect("FDB");
    let seen = netlink.fdb(device).expect("FDB");
    assert!(seen.contains(&moved) && !seen.contains(&entry), "{seen:?}");
    netlink.request(&fdb::delete(&moved)).expect("delete");
    assert!(
        netlink
            .request(&fdb::delete(&moved))
            .unwrap_err()
            .is_absent()
    );
    // an entry of a bridge for its port is not the device's
    host.sh("ip link set flannel.1 master strange && bridge fdb add 02:00:00:00:00:05 dev flannel.1 master static");
    assert!(
        host.sh("bridge fdb show dev flannel.1")
            .contains("02:00:00:00:00:05 master strange static")
    );
    let seen = netlink.fdb(device).expect("FDB");
    assert!(seen.iter().all(|entry| entry.mac.0[5] != 5), "{seen:?}");
}
