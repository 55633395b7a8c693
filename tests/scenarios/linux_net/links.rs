//! Links, and the kernel's refusals.

use super::{first, index, ip, net, with_bridge};
use linux_net::{
    Mac, NetNs, Netlink,
    link::{self, BridgePort, Change, Kind, VethPeer, Vxlan},
    route::{self, Route},
};
use tests::{Host, scenario};

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
