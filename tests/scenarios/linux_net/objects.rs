//! Each operation on links, addresses, routes, neighbours, FDB entries, namespaces and sysctls.

use super::{first, index, ip, with_bridge};
use ipnetwork::IpNetwork;
use linux_net::{
    Mac, NetNs, Netlink,
    address::{self, AddressFlags, AddressScope},
    fdb::{self, FdbEntry},
    link::{self, BridgePort, Change, Kind, VethPeer, Vxlan},
    neighbour::{self, Neighbour},
    route::{self, Filter, MAIN_TABLE, Route, RouteProtocol, RouteType},
    sysctl,
};
use nix::sys::stat::fstat;
use tests::{Host, scenario};

fn net(text: &str) -> IpNetwork {
    text.parse().expect("network")
}

#[scenario]
fn bridge_and_veth_are_created_and_deleted() {
    let (host, mut netlink, bridge) = with_bridge();
    let shown = first(&host, "ip -j -d link show br");
    assert_eq!(shown["linkinfo"]["info_kind"], "bridge");
    assert_eq!(shown["mtu"], 1400);
    let pod = host.pod("p");
    let ns = host.run(|| NetNs::open(pod.path().as_ref()).expect("namespace"));
    let mac: Mac = "02:00:00:00:00:07".parse().expect("MAC");
    let peer = VethPeer {
        name: "eth0".into(),
        mac: Some(mac),
    };
    let request = link::create_veth(
        &VethPeer::named("veth7"),
        Some(1350),
        Some(bridge),
        &peer,
        &ns,
    );
    // the request holds the namespace that it names
    drop(ns);
    netlink.request(&request).expect("veth");
    let shown = first(&host, "ip -j -d link show veth7");
    assert_eq!(shown["master"], "br");
    assert_eq!(shown["mtu"], 1350);
    assert!(shown["flags"].to_string().contains("\"UP\""), "{shown}");
    let inside: serde_json::Value =
        serde_json::from_str(&pod.sh("ip -j -d link show eth0")).expect("JSON");
    assert_eq!(inside[0]["address"], "02:00:00:00:00:07");
    assert_eq!(inside[0]["mtu"], 1350);

    let seen = netlink.link_by_name("veth7").expect("link").expect("veth7");
    assert_eq!(seen.kind, Kind::Veth);
    assert_eq!((seen.master, seen.mtu, seen.up), (Some(bridge), 1350, true));
    assert!(
        seen.peer_netnsid.is_some() && seen.lower.is_some(),
        "{seen:?}"
    );
    assert_eq!(seen.port, Some(BridgePort::default()));
    let wanted = BridgePort {
        hairpin: true,
        isolated: true,
    };
    netlink
        .request(&link::mark_port("veth7", "a pod", wanted))
        .expect("port");
    let seen = netlink
        .link_by_index(seen.index)
        .expect("link")
        .expect("veth7");
    assert_eq!(seen.port, Some(wanted));
    let shown = first(&host, "bridge -j -d link show dev veth7");
    assert_eq!(
        (&shown["hairpin"], &shown["isolated"]),
        (&true.into(), &true.into())
    );

    let mut pod_netlink = pod.run(|| Netlink::open().expect("netlink"));
    assert_eq!(pod_netlink.links().expect("links").len(), 2);
    netlink
        .request(&link::delete_by_name("veth7"))
        .expect("delete");
    assert_eq!(netlink.link_by_name("veth7").expect("link"), None);
    assert_eq!(pod_netlink.link_by_name("eth0").expect("link"), None);
    netlink.request(&link::delete(bridge)).expect("delete");
    assert_eq!(netlink.link_by_index(bridge).expect("link"), None);
}

#[scenario]
fn links_are_changed_and_renamed() {
    let host = Host::new("a");
    let mut netlink = host.run(|| Netlink::open().expect("netlink"));
    netlink
        .request(&link::create_veth_here("one", "two", None))
        .expect("veth");
    let two = index(&mut netlink, "two");
    let change = Change {
        up: Some(true),
        promisc: Some(true),
        allmulti: Some(true),
        mtu: Some(1234),
        mac: Some("0a:00:00:00:00:01".parse().expect("MAC")),
        txqlen: Some(77),
        ..Default::default()
    };
    netlink
        .request(&link::change(two, &change))
        .expect("change");
    let shown = first(&host, "ip -j -d link show two");
    let flags = shown["flags"].to_string();
    for flag in ["UP", "PROMISC", "ALLMULTI"] {
        assert!(flags.contains(flag), "{flags}");
    }
    assert_eq!(
        (&shown["mtu"], &shown["txqlen"]),
        (&1234.into(), &77.into())
    );
    assert_eq!(shown["address"], "0a:00:00:00:00:01");
    let seen = netlink.link_by_name("two").expect("link").expect("two");
    assert!(seen.promisc && seen.up && seen.txqlen == 77, "{seen:?}");
    assert_eq!((seen.mac, seen.peer_netnsid), (change.mac, None));

    let change = Change {
        up: Some(false),
        promisc: Some(false),
        ..Default::default()
    };
    let rename = Change {
        name: Some("three".into()),
        ..Default::default()
    };
    netlink
        .request(&link::change(two, &change))
        .expect("change");
    netlink
        .request(&link::change(two, &rename))
        .expect("rename");
    let seen = netlink.link_by_name("three").expect("link").expect("three");
    assert!(seen.index == two && !seen.up && !seen.promisc, "{seen:?}");
    let lo = netlink.link_by_name("lo").expect("link").expect("lo");
    assert!(lo.loopback && lo.up && lo.kind == Kind::None, "{lo:?}");
    netlink
        .request(&link::create_ifb("ifb7", Some(1400)))
        .expect("ifb");
    let ifb = netlink.link_by_name("ifb7").expect("link").expect("ifb7");
    assert_eq!(ifb.kind, Kind::Other("ifb".into()));
    host.sh("ip link set ifb7 alias 'a b'");
    let ifb = netlink
        .link_by_index(ifb.index)
        .expect("link")
        .expect("ifb7");
    assert_eq!(ifb.alias.as_deref(), Some("a b"));
}

#[scenario]
fn vxlan_devices_are_created_as_upstream_creates_them() {
    let host = Host::new("a");
    let mut netlink = host.run(|| Netlink::open().expect("netlink"));
    host.sh("ip link add eth0 type veth peer name other && ip addr add 192.0.2.1/24 dev eth0");
    let mac: Mac = "12:c6:65:89:b4:e3".parse().expect("MAC");
    let wanted = Vxlan {
        vni: 1,
        lower: Some(index(&mut netlink, "eth0")),
        local: Some(ip("192.0.2.1")),
        ..Default::default()
    };
    netlink
        .request(&link::create_vxlan(
            "flannel.1",
            &wanted,
            Some(1450),
            Some(mac),
        ))
        .expect("vxlan");
    let shown = host.sh("ip -d link show flannel.1");
    let expected = "vxlan id 1 local 192.0.2.1 dev eth0 srcport 0 0 dstport 8472 nolearning ttl auto ageing 300 \
                    udpcsum noudp6zerocsumtx noudp6zerocsumrx";
    assert!(shown.contains(expected), "{shown}");
    assert!(
        shown.contains("mtu 1450") && shown.contains("link/ether 12:c6:65:89:b4:e3"),
        "{shown}"
    );
    assert!(!shown.contains("qlen"), "{shown}");
    let seen = netlink
        .link_by_name("flannel.1")
        .expect("link")
        .expect("vxlan");
    assert_eq!((seen.mac, seen.txqlen), (Some(mac), 0));
    let with_port = Vxlan {
        port: Some(8472),
        ..wanted
    };
    assert_eq!(seen.kind, Kind::Vxlan(with_port));

    let wanted = Vxlan {
        vni: 7,
        lower: None,
        local: Some(ip("fd00::1")),
        group: None,
        port: Some(4789),
        learning: true,
        gbp: true,
        l2miss: true,
        l3miss: true,
    };
    netlink
        .request(&link::create_vxlan("flannel-v6.7", &wanted, None, None))
        .expect("vxlan");
    let shown = host.sh("ip -d link show flannel-v6.7");
    assert!(
        shown.contains("vxlan id 7 local fd00::1") && shown.contains("dstport 4789"),
        "{shown}"
    );
    assert!(
        shown.contains(" l2miss l3miss ")
            && shown.contains(" gbp")
            && !shown.contains("nolearning"),
        "{shown}"
    );
    let seen = netlink
        .link_by_name("flannel-v6.7")
        .expect("link")
        .expect("vxlan");
    assert_eq!(seen.kind, Kind::Vxlan(wanted));
}

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

#[scenario]
fn routes_are_added_listed_and_deleted() {
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
    for route in [&overlay, &via, &hole, &six] {
        netlink.request(&route::add(route)).expect("route");
    }
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
            .request(&route::add(&overlay))
            .unwrap_err()
            .is_exists()
    );
    netlink.request(&route::replace(&overlay)).expect("replace");
    let all = netlink.routes(Filter::default()).expect("routes");
    for route in [&overlay, &via, &hole, &six] {
        assert!(all.contains(route), "{route:?} in {all:#?}");
    }
    let filtered = |netlink: &mut Netlink, filter| netlink.routes(filter).expect("routes");
    let table = Filter {
        table: Some(1000),
        ..Default::default()
    };
    assert_eq!(filtered(&mut netlink, table), std::slice::from_ref(&via));
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
        found.contains(&overlay) && !found.contains(&hole),
        "{found:#?}"
    );
    assert!(
        found
            .iter()
            .any(|route| route.protocol == RouteProtocol::Kernel),
        "the connected one: {found:#?}"
    );

    let answer = netlink.route_to(ip("10.244.1.9")).expect("route");
    assert_eq!(
        (answer.oif, answer.gateway),
        (Some(bridge), overlay.gateway)
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
    host.sh("ip route add 10.77.0.0/16 nexthop via 10.1.0.2 nexthop via 10.1.0.3");
    let all = netlink.routes(Filter::default()).expect("routes");
    let several = all.iter().find(|route| route.dst == net("10.77.0.0/16"));
    assert!(several.is_some_and(|route| route.oif.is_none() && route.gateway.is_none()));
    for route in [&overlay, &via, &hole, &six] {
        netlink.request(&route::delete(route)).expect("delete");
    }
    assert!(
        netlink
            .request(&route::delete(&overlay))
            .unwrap_err()
            .is_absent()
    );
    netlink.request(&route::append(&overlay)).expect("append");
    assert!(
        host.sh("ip route")
            .contains("10.244.1.0/24 via 10.244.1.0 dev br onlink")
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

#[scenario]
fn refusals_carry_the_text_of_the_kernel() {
    let (_host, mut netlink, bridge) = with_bridge();
    let again = netlink
        .request(&link::create_bridge("br", None, false, None))
        .unwrap_err();
    assert_eq!(again.to_string(), "create bridge br: file exists");
    let small = Change {
        mtu: Some(10),
        ..Default::default()
    };
    let text = netlink
        .request(&link::change(bridge, &small))
        .unwrap_err()
        .to_string();
    // the part in brackets is the kernel's extended ACK text
    let expected =
        format!("change link {bridge}: mtu 10: invalid argument (mtu less than device minimum)");
    assert_eq!(text, expected);
    let unreachable = Route {
        gateway: Some(ip("10.5.5.5")),
        ..Route::new(net("10.6.0.0/16"))
    };
    let text = netlink
        .request(&route::add(&unreachable))
        .unwrap_err()
        .to_string();
    assert_eq!(
        text,
        "add route 10.6.0.0/16 via 10.5.5.5: network is unreachable (Nexthop has invalid gateway)"
    );
    for name in ["", "sixteen-letters-", &"x".repeat(100_000)] {
        assert!(
            netlink
                .request(&link::create_bridge(name, None, false, None))
                .is_err()
                || name.is_empty()
        );
        assert_eq!(netlink.link_by_name(name).expect("look-up"), None);
    }
    let absent = netlink
        .request(&link::delete_by_name("nothing"))
        .unwrap_err();
    assert!(absent.is_absent(), "{absent}");
    assert_eq!(absent.to_string(), "delete link nothing: no such device");
}

/// Device and inode of a namespace.
fn identity(ns: &NetNs) -> (u64, u64) {
    let stat = fstat(ns).expect("fstat");
    (stat.st_dev, stat.st_ino)
}

#[scenario]
fn a_thread_returns_from_another_namespace() {
    let host = Host::new("a");
    let pod = host.pod("p");
    host.run(|| {
        let current = || NetNs::current().expect("current namespace");
        let home = current();
        let inside = NetNs::open(pod.path().as_ref()).expect("pod");
        assert!(identity(&home) != identity(&inside));
        let here = inside.run(current).expect("run");
        assert!(identity(&here) == identity(&inside));
        assert!(identity(&current()) == identity(&home));
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let broken = std::panic::catch_unwind(|| inside.run(|| panic!("inside")));
        std::panic::set_hook(hook);
        assert!(broken.is_err());
        assert!(identity(&current()) == identity(&home));
        let mut netlink = Netlink::open_in(&inside).expect("netlink");
        netlink
            .request(&link::create_bridge("in-pod", None, false, None))
            .expect("bridge");
        let text = NetNs::open("/run/netns/none".as_ref())
            .unwrap_err()
            .to_string();
        assert_eq!(
            text,
            "failed to Statfs \"/run/netns/none\": no such file or directory"
        );
    });
    pod.sh("ip link show in-pod");
    assert!(!host.try_sh("ip link show in-pod").status.success());
}

#[scenario]
fn sysctls_are_written_only_if_they_differ() {
    let host = Host::new("a");
    host.sh("ip link add eth0.5 type bridge");
    host.run(|| {
        sysctl::set("net/ipv4/conf/eth0.5/forwarding", "0").expect("set");
        assert_eq!(
            sysctl::get("net/ipv4/conf/eth0.5/forwarding").expect("get"),
            "0"
        );
        let text = sysctl::get("net/ipv4/conf/none/forwarding")
            .unwrap_err()
            .to_string();
        assert_eq!(
            text,
            "read sysctl net/ipv4/conf/none/forwarding: no such file or directory"
        );
        let refused = sysctl::set("net/ipv4/ip_forward", "many")
            .unwrap_err()
            .to_string();
        assert_eq!(
            refused,
            "write sysctl net/ipv4/ip_forward=many: invalid argument"
        );
    });
    assert_eq!(
        host.sh("cat /proc/sys/net/ipv4/conf/eth0.5/forwarding"),
        "0\n"
    );
    host.sh("mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys");
    host.run(|| {
        sysctl::set("net/ipv4/ip_forward", "1").expect("set already");
        assert!(sysctl::set("net/ipv4/ip_forward", "0").is_err());
    });
}
