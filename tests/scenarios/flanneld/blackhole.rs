//! `-ip-blackhole-route`: packets to pods of this node that do not exist are dropped there.

use super::cluster::{Cluster, DUAL, TIMEOUT, V4, eventually_shows};
use std::time::{Duration, Instant};
use tests::{Host, binaries::program, process::eventually, scenario, underlay};

const OPTION: &str = "-ip-blackhole-route";
/// The documented limit.
const RESTORE_TIMEOUT: Duration = Duration::from_millis(100);

fn blackholes(host: &Host) -> String {
    host.sh("ip route show type blackhole; ip -6 route show type blackhole")
}

/// The routes as `ip` shows them.
fn expected(cluster: &Cluster) -> String {
    format!(
        "blackhole {} proto 70 metric 4294967295 \nblackhole {} dev lo proto 70 metric 4294967295 pref medium\n",
        cluster.subnet(1),
        cluster.subnet6(1)
    )
}

fn start(nodes: usize, net_conf: &str, more: &[&str]) -> Cluster {
    let mut cluster = Cluster::idle(nodes, net_conf);
    for node in 1..=nodes {
        cluster.start(node, more);
    }
    for node in 1..=nodes {
        cluster.wait_ready(node);
    }
    for node in 1..=nodes {
        let what = format!("node {node} has a route to each node");
        eventually(&what, TIMEOUT, || {
            let peers = cluster.host(node).sh("ip route show dev flannel.1");
            (peers.lines().count() + 1 == nodes).then_some(())
        });
    }
    cluster
}

/// Pods of the node answer, whichever of bridge and blackhole was there first. A packet to an
/// address without pod leaves the node by the default route only without the blackhole.
#[scenario]
fn blackhole_does_not_break_pods_and_keeps_packets_in_the_node() {
    let mut cluster = start(2, DUAL, &[OPTION]);
    assert_eq!(blackholes(cluster.host(1)), expected(&cluster));
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
    for ip in cluster.pod_ips(1) {
        cluster.host(1).sh(&format!("ping -n -c1 -W3 {ip}"));
    }
    // the bridge is there before the daemon starts
    cluster.stop(1);
    let host = cluster.host(1);
    host.sh("ip route flush type blackhole; ip -6 route flush type blackhole");
    cluster.start(1, &[OPTION]);
    cluster.wait_ready(1);
    for ip in cluster.pod_ips(1) {
        cluster.host(1).sh(&format!("ping -n -c1 -W3 {ip}"));
    }
    let host = cluster.host(1);
    host.sh("ip link del cni0");
    let absent = cluster.subnet(1).replace(".0/24", ".77");
    let look = format!(
        "ip route get {absent} from {} iif flannel.1",
        underlay::ip(2)
    );
    assert!(!host.try_sh(&look).status.success(), "it leaves the node");
    cluster.stop(1);
    let host = cluster.host(1);
    host.sh("ip route flush type blackhole");
    let route = host.sh(&format!("ip route get {absent}"));
    assert!(route.contains("via 172.31.0.254"), "{route}");
}

#[scenario]
fn blackhole_is_restored_and_goes_with_the_option() {
    let mut cluster = start(1, DUAL, &[OPTION]);
    let expected = expected(&cluster);
    let host = cluster.host(1);
    let (own, own6) = (cluster.subnet(1), cluster.subnet6(1));
    for change in [
        format!("ip route del blackhole {own} metric 4294967295"),
        format!("ip -6 route del blackhole {own6} metric 4294967295"),
        "ip route flush type blackhole; ip -6 route flush type blackhole".to_owned(),
        format!("ip route replace unreachable {own} metric 4294967295"),
        // Go flannel's, which takes the packets of pods
        format!("ip route add blackhole {own}"),
        format!("ip -6 route add blackhole {own6}"),
        // of an earlier subnet
        "ip route add blackhole 10.244.250.0/24 metric 4294967295 proto 70".to_owned(),
    ] {
        host.sh(&change);
        eventually(&format!("restored after `{change}`"), TIMEOUT, || {
            (blackholes(host) == expected).then_some(())
        });
    }
    let mut times: Vec<_> = (0..10)
        .map(|_| {
            host.sh("ip route flush type blackhole");
            let start = Instant::now();
            while blackholes(host) != expected {
                assert!(start.elapsed() < TIMEOUT, "it was never restored");
            }
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("{times:?}");
    assert!(times[5] < RESTORE_TIMEOUT, "{times:?}");
    cluster.stop(1);
    let host = cluster.host(1);
    host.sh("ip route add blackhole 192.0.2.0/24");
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    assert_eq!(blackholes(cluster.host(1)), "blackhole 192.0.2.0/24 \n");
}

/// Without the option, one that names no protocol stays: nothing proves whose it is. The log has no
/// line for each look.
#[scenario]
fn blackholes_of_others_stay_and_cleanup_removes_ours() {
    let mut cluster = start(1, V4, &[OPTION, "-iptables-resync=1"]);
    eventually_shows(&cluster, 1, "ip route", "blackhole");
    std::thread::sleep(Duration::from_secs(3));
    let own = cluster.subnet(1);
    let log = cluster.stop(1);
    let lines = log.lines().filter(|line| line.contains("blackhole route"));
    assert!(lines.count() <= 1, "{log}");
    let report = cluster
        .host(1)
        .sh(&format!("{} cleanup", program("flanneld").display()));
    let removed = format!("removed blackhole route {own}");
    assert!(report.contains(&removed), "{report}");
    assert_eq!(blackholes(cluster.host(1)), "");
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    let own = cluster.subnet(1);
    let host = cluster.host(1);
    host.sh(&format!("ip route add blackhole {own}"));
    host.sh("ip link set flannel.1 mtu 1300");
    eventually_shows(&cluster, 1, "ip link show flannel.1", "mtu 1450");
    assert_eq!(blackholes(cluster.host(1)), format!("blackhole {own} \n"));
}
