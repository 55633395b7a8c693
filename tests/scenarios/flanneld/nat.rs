//! A node behind a NAT: the others reach it by an address that is not on it.

use super::cluster::{Cluster, DUAL, eventually_shows};
use tests::{scenario, underlay};

/// Only the lease has the public addresses; the device has the interface's. Pods of both nodes
/// reach each other in both families.
#[scenario]
fn node_behind_a_nat_sends_from_its_own_address() {
    let mut cluster = Cluster::idle(2, DUAL);
    let _router = cluster.underlay.put_behind_nat(2);
    cluster.start(1, &[]);
    let public = [
        "-iface=eth0".to_owned(),
        format!("-public-ip={}", underlay::ip(2)),
        format!("-public-ipv6={}", underlay::ip6(2)),
    ];
    cluster.start(2, &public.each_ref().map(String::as_str));
    for node in [1, 2] {
        cluster.wait_ready(node);
    }
    for (device, public, local) in [
        ("flannel.1", underlay::ip(2), underlay::INSIDE_NAT),
        ("flannel-v6.1", underlay::ip6(2), underlay::INSIDE_NAT6),
    ] {
        let link = cluster.host(2).sh(&format!("ip -d link show {device}"));
        assert!(link.contains(&format!("local {local} ")), "{link}");
        let fdb = format!("bridge fdb show dev {device}");
        eventually_shows(&cluster, 1, &fdb, &format!("dst {public} "));
    }
    eventually_shows(&cluster, 1, "ip route", &cluster.subnet(2));
    eventually_shows(&cluster, 1, "ip -6 route", &cluster.subnet6(2));
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
}

/// The router's address is on-link, and nothing but the tunnel passes it: no peer routes to the
/// node's pods without encapsulation. The others do so among themselves.
#[scenario]
fn direct_routes_lead_to_no_node_behind_a_nat() {
    let direct = DUAL.replace(
        r#""Type":"vxlan""#,
        r#""Type":"vxlan","DirectRouting":true"#,
    );
    let mut cluster = Cluster::idle(3, &direct);
    let _router = cluster.underlay.put_behind_nat(2);
    let public = [
        "-iface=eth0".to_owned(),
        format!("-public-ip={}", underlay::ip(2)),
        format!("-public-ipv6={}", underlay::ip6(2)),
    ];
    cluster.start(1, &[]);
    cluster.start(2, &public.each_ref().map(String::as_str));
    cluster.start(3, &[]);
    for node in 1..=3 {
        cluster.wait_ready(node);
    }
    cluster.wait_for_peers();
    for (show, behind, direct) in [
        ("ip route", cluster.subnet(2), cluster.subnet(3)),
        ("ip -6 route", cluster.subnet6(2), cluster.subnet6(3)),
    ] {
        let routes = cluster.host(1).sh(show);
        let over = |subnet: &str| {
            let mut lines = routes.lines();
            let line = lines
                .find(|line| line.starts_with(subnet))
                .expect("a route");
            let mut words = line.split(' ').skip_while(|word| *word != "dev");
            words.nth(1).expect("a device").to_owned()
        };
        assert!(over(&behind).starts_with("flannel"), "{routes}");
        assert_eq!(over(&direct), "eth0", "{routes}");
    }
    let pods: Vec<_> = (1..=3).map(|node| (node, cluster.pod(node))).collect();
    cluster.ping_all(&pods);
}
