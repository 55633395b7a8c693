//! The backend host-gw: routes over the underlay without encapsulation.

use super::cluster::{Cluster, TIMEOUT, eventually_shows, get, is_restored_at_once};
use std::{thread, time::Duration};
use tests::{process::eventually, scenario, underlay};

const V4: &str =
    r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"host-gw"}}"#;
const V6: &str = r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{"Type":"host-gw"}}"#;
const DUAL: &str = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{"Type":"host-gw"}}"#;
const NAT: &str = "your PublicIP differs from interface IP, meaning that probably you're on a NAT, which is not supported by host-gw backend";

#[scenario]
fn host_gw_pods_reach_each_other_over_ipv4() {
    pods_reach_each_other(V4);
}

#[scenario]
fn host_gw_pods_reach_each_other_over_ipv6() {
    pods_reach_each_other(V6);
}

#[scenario]
fn host_gw_pods_reach_each_other_over_both_families() {
    pods_reach_each_other(DUAL);
}

fn pods_reach_each_other(net_conf: &str) {
    let cluster = Cluster::new(3, net_conf);
    let pods: Vec<_> = (1..=3).map(|node| (node, cluster.pod(node))).collect();
    cluster.ping_all(&pods);
    assert_eq!(cluster.env(1, "FLANNEL_MTU"), "1500");
    let links = cluster.host(1).sh("ip -o link");
    assert!(!links.contains("flannel"), "no device:\n{links}");
}

/// Output of `ip route`, and what a node publishes.
#[scenario]
fn host_gw_routes_and_lease_equal_those_of_go_flannel() {
    let cluster = Cluster::new(2, DUAL);
    let host = cluster.host(1);
    assert_eq!(
        host.sh("ip route show proto 70").trim(),
        format!("{} via {} dev eth0", cluster.subnet(2), underlay::ip(2))
    );
    let routes = host.sh("ip -6 route show proto 70");
    let expected = format!(
        "{} via {} dev eth0 metric 1024",
        cluster.subnet6(2),
        underlay::ip6(2)
    );
    assert!(routes.starts_with(&expected), "{routes}");
    let leases = host.sh("curl -s http://172.31.0.1:8888/v1/_/leases");
    let attrs = format!(
        r#""Attrs":{{"PublicIP":"{}","PublicIPv6":"{}","BackendType":"host-gw"}}"#,
        underlay::ip(2),
        underlay::ip6(2)
    );
    assert!(leases.contains(&attrs), "{leases}");
}

/// Deleted, led elsewhere, and all at once; each time within 100 ms (300 ms on a busy machine).
#[scenario]
fn host_gw_routes_are_back_at_once() {
    let cluster = Cluster::new(3, DUAL);
    let host = cluster.host(1);
    let shown = || host.sh("ip route show proto 70; ip -6 route show proto 70");
    let before = shown();
    let (peer, peer6) = (cluster.subnet(2), cluster.subnet6(2));
    for change in [
        format!("ip route del {peer}"),
        format!("ip -6 route del {peer6}"),
        format!(
            "ip route replace {peer} via {} dev eth0 proto 70",
            underlay::ip(3)
        ),
        "ip route flush proto 70; ip -6 route flush proto 70".to_owned(),
    ] {
        is_restored_at_once(host, &change, || shown() == before);
    }
}

/// Pings last through SIGKILL and restart of both daemons.
#[scenario]
fn host_gw_killed_daemon_loses_no_packet() {
    let mut cluster = Cluster::new(2, DUAL);
    cluster.pod(1);
    cluster.pod(2);
    let pings = cluster.ping(1, 2);
    cluster.kill_and_start_each();
    pings.lose_nothing();
}

#[scenario]
fn host_gw_peers_follow_a_new_address() {
    let mut cluster = Cluster::new(2, DUAL);
    cluster.host(2).sh(
        "ip addr del 172.31.0.2/24 dev eth0 && ip addr add 172.31.0.77/24 dev eth0 && ip route add default via 172.31.0.254",
    );
    let route = format!("{} via 172.31.0.77 dev eth0", cluster.subnet(2));
    eventually_shows(&cluster, 1, "ip route", &route);
    cluster.wait_ready(2);
    eventually_shows(&cluster, 2, "ip route", &cluster.subnet(1));
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
}

/// Its own subnet's network and MTU too.
#[scenario]
fn host_gw_routes_return_after_a_flap() {
    let mut cluster = Cluster::new(2, V4);
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    let host = cluster.host(1);
    for _ in 0..3 {
        host.sh("ip link set eth0 down");
        thread::sleep(Duration::from_millis(200));
        host.sh("ip link set eth0 up && ip route replace default via 172.31.0.254");
        eventually_shows(&cluster, 1, "ip route", &cluster.subnet(2));
    }
    cluster.ping_all(&pods);
    drop(pods);
    cluster.host(1).sh("ip link set eth0 mtu 1400");
    eventually_shows(
        &cluster,
        1,
        "cat /run/flannel/subnet.env",
        "FLANNEL_MTU=1400",
    );
    cluster.wait_ready(1);
}

/// A router is between the nodes: the kernel would refuse the route. It comes when the peer is on
/// the link.
#[scenario]
fn host_gw_peer_behind_a_router_is_skipped_until_it_is_on_the_link() {
    let mut cluster = Cluster::new(3, V4);
    let (subnet, peer) = (cluster.subnet(2), underlay::ip(2));
    let route = format!("{subnet} via {peer} dev eth0");
    let host = cluster.host(1);
    host.sh(&format!("ip route add {peer}/32 via 172.31.0.254"));
    eventually("the route is gone", TIMEOUT, || {
        (!host.sh("ip route").contains(&subnet)).then_some(())
    });
    eventually("the status says so", TIMEOUT, || {
        let status = get(host, "/readyz?verbose");
        status.contains("1 node, 1 lease skipped").then_some(())
    });
    host.sh(&format!("ip route del {peer}/32"));
    eventually_shows(&cluster, 1, "ip route", &route);
    let log = cluster.daemon(1).output();
    let reason = format!("its public IP {peer} is not on the link of this node's interface");
    assert!(log.contains(&reason), "{log}");
}

/// Upstream's words; nothing is changed on the host.
#[scenario]
fn host_gw_node_behind_a_nat_is_refused() {
    let mut cluster = Cluster::idle(1, V4);
    cluster.start(1, &["-iface=eth0", "-public-ip=203.0.113.7"]);
    let status = cluster.daemon(1).wait(TIMEOUT);
    let log = cluster.daemon(1).output();
    assert!(
        status.code() == Some(1) && log.contains(NAT),
        "{status}\n{log}"
    );
    let state = cluster.host(1).sh("ls /run/flannel; nft list ruleset");
    assert!(
        !state.contains("subnet.env") && !state.contains("flannel-ipv4"),
        "{state}"
    );
}

/// The interface's address changes under a `-public-ip` that names the old one. The node says so,
/// and packets to the others go on as before; it is ready when the address is back.
#[scenario]
fn host_gw_running_node_that_comes_behind_a_nat_says_so() {
    let mut cluster = Cluster::idle(2, V4);
    let public = format!("-public-ip={}", underlay::ip(2));
    cluster.start(1, &[]);
    cluster.start(2, &["-iface=eth0", &public]);
    for node in [1, 2] {
        cluster.wait_ready(node);
    }
    cluster.wait_for_peers();
    let shown = |cluster: &Cluster, node| cluster.host(node).sh("ip route show proto 70");
    let before = [shown(&cluster, 1), shown(&cluster, 2)];
    cluster.host(2).sh(
        "ip addr add 172.31.0.77/24 dev eth0 && ip addr del 172.31.0.2/24 dev eth0; \
         ip addr add 172.31.0.77/24 dev eth0; ip route replace default via 172.31.0.254",
    );
    eventually("node 2 says so", TIMEOUT, || {
        let answer = get(cluster.host(2), "/readyz?verbose");
        (answer.contains("503 ") && answer.contains(NAT)).then_some(())
    });
    let now = [shown(&cluster, 1), shown(&cluster, 2)];
    assert_eq!(now, before, "the data path stays");
    let restore = "ip addr add 172.31.0.2/24 dev eth0; ip addr del 172.31.0.77/24 dev eth0; ip addr add 172.31.0.2/24 dev eth0; \
         ip route replace default via 172.31.0.254";
    cluster.host(2).try_sh(restore);
    cluster.wait_ready(2);
    cluster.underlay.switch.sh("ip neigh flush all");
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
}

/// Routes of Go flannel (proto boot) become ours in place; those of nodes that are gone go.
#[scenario]
fn host_gw_routes_of_go_flannel_are_taken_over() {
    let mut cluster = Cluster::new(2, DUAL);
    cluster.pod(1);
    cluster.pod(2);
    let (peer, peer6) = (cluster.subnet(2), cluster.subnet6(2));
    let ours = cluster
        .host(1)
        .sh("ip route show proto 70; ip -6 route show proto 70");
    cluster.stop(1);
    cluster.host(1).sh(&format!(
        "ip route replace {peer} via {} dev eth0 && ip -6 route del {peer6} \
         && ip -6 route add {peer6} via {} dev eth0 \
         && ip route add 10.244.199.0/24 via {gone} dev eth0 \
         && ip -6 route add fd00:10:244:99::/64 via fd31::63 dev eth0 \
         && rm /var/lib/flannel/node.json",
        underlay::ip(2),
        underlay::ip6(2),
        gone = underlay::ip(99),
    ));
    let pings = cluster.ping(1, 2);
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    let all = cluster.host(1).sh("ip route; ip -6 route");
    assert!(
        !all.contains(".99.0/24") && !all.contains("244:99::"),
        "{all}"
    );
    let now = cluster
        .host(1)
        .sh("ip route show proto 70; ip -6 route show proto 70");
    assert_eq!(now, ours);
    pings.lose_nothing();
}
