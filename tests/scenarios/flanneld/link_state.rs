//! The underlay goes down, loses its carrier or the routes over it: a node says so, and has its
//! routes back as soon as it is over.

use super::cluster::{Cluster, DUAL, TIMEOUT, V4, eventually_shows, get};
use std::{thread, time::Duration};
use tests::{process::eventually, scenario, underlay};

const DIRECT: &str = r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan","DirectRouting":true}}"#;

/// Well below the interval of passes without any notification, which is a minute.
const RETURN_TIMEOUT: Duration = Duration::from_secs(10);

#[track_caller]
fn wait_unready(cluster: &Cluster, node: usize, reason: &str) {
    let what = format!("node {node} is not ready: {reason}");
    eventually(&what, TIMEOUT, || {
        let answer = get(cluster.host(node), "/readyz?verbose");
        (answer.contains("503 ") && answer.contains(reason)).then_some(())
    });
}

/// The kernel removes the IPv4 routes over an interface that goes down, and notifies nobody.
/// Without IPv6 no address comes and goes either: the state of the link is all that is notified.
#[scenario]
fn direct_routes_return_after_a_flap() {
    let mut cluster = Cluster::new(3, DIRECT);
    let routes: Vec<String> = [2, 3]
        .map(|node| {
            format!(
                "{} via {} dev eth0",
                cluster.subnet(node),
                underlay::ip(node)
            )
        })
        .into();
    for route in &routes {
        eventually_shows(&cluster, 1, "ip route", route);
    }
    let host = cluster.host(1);
    host.sh("echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6");
    for _ in 0..3 {
        let host = cluster.host(1);
        host.sh("ip link set eth0 down");
        thread::sleep(Duration::from_millis(200));
        host.sh("ip link set eth0 up && ip route replace default via 172.31.0.254");
        eventually("the routes are back", RETURN_TIMEOUT, || {
            let shown = cluster.host(1).sh("ip route");
            routes
                .iter()
                .all(|route| shown.contains(route))
                .then_some(())
        });
        cluster.wait_ready(1);
    }
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
}

/// Whether a peer is on-link follows the host's own routes.
#[scenario]
fn direct_routes_follow_the_hosts_routes() {
    let cluster = Cluster::new(2, DIRECT);
    let (subnet, peer) = (cluster.subnet(2), underlay::ip(2));
    let shows = |text: String| eventually_shows(&cluster, 1, "ip route", &text);
    shows(format!("{subnet} via {peer} dev eth0"));
    let host = cluster.host(1);
    host.sh(&format!("ip route add {peer}/32 via 172.31.0.254"));
    shows(format!(
        "{subnet} via {} dev flannel.1",
        subnet.replace("/24", "")
    ));
    host.sh(&format!("ip route del {peer}/32"));
    shows(format!("{subnet} via {peer} dev eth0"));
}

#[scenario]
fn node_that_cannot_send_is_not_ready_and_says_why() {
    let mut cluster = Cluster::new(2, V4);
    cluster.host(1).sh("ip link set eth0 down");
    wait_unready(&cluster, 1, "eth0 is down");
    let restore = "ip link set eth0 up && ip route replace default via 172.31.0.254";
    cluster.host(1).sh(restore);
    cluster.wait_ready(1);

    cluster.underlay.switch.sh("ip link set host1 down");
    wait_unready(&cluster, 1, "eth0 has no carrier");
    cluster.underlay.switch.sh("ip link set host1 up");
    cluster.wait_ready(1);

    cluster
        .host(1)
        .sh("ip route del default && ip route del 172.31.0.0/24");
    let reason = format!("there is no route to the peer at {}", underlay::ip(2));
    wait_unready(&cluster, 1, &reason);
    cluster.host(1).sh("ip route add 172.31.0.0/24 dev eth0");
    cluster.wait_ready(1);
    let log = cluster.daemon(1).output();
    assert!(log.contains(&format!("; {reason}")), "{log}");
}

/// After the flap the interface has its link-local address alone. That one is never published.
#[scenario]
fn dual_stack_node_waits_for_its_global_address() {
    let mut cluster = Cluster::new(2, DUAL);
    cluster.host(1).sh(
        "ip link set eth0 down && ip link set eth0 up && ip route replace default via 172.31.0.254",
    );
    wait_unready(&cluster, 1, "eth0 no longer has the address fd31::1");
    cluster
        .host(1)
        .sh("ip addr add fd31::1/64 dev eth0 nodad && ip -6 route replace default via fd31::fe");
    cluster.wait_ready(1);
    eventually_shows(
        &cluster,
        2,
        "bridge fdb show dev flannel-v6.1",
        "dst fd31::1 ",
    );
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
}
