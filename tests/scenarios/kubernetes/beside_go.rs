//! Ours and the Go flanneld in one cluster, and one after the other on a node.

use super::cluster::{Cluster, DUAL, V4, V6};
use tests::{
    GoFlanneld, Pings, go_flanneld::without_kubernetes_and_go_flanneld, scenario, subnet_env,
};

/// They reach each other, and survive each other's restarts.
fn reach_each_other(net_conf: &'static str) {
    let cluster = Cluster::new(2, net_conf);
    let mut ours = cluster.start(1);
    let mut go = cluster.start_go(2);
    ours.wait_ready();
    go.wait_ready();
    let pods: Vec<_> = cluster.underlay.hosts.iter().map(subnet_env::pod).collect();
    let ping_all = || {
        subnet_env::eventually_pings(&pods[0], cluster.host(2));
        subnet_env::eventually_pings(&pods[1], cluster.host(1));
    };
    ping_all();
    ours.stop();
    ping_all();
    let mut ours = cluster.start(1);
    ours.wait_ready();
    ping_all();
    go.kill();
    ping_all();
    let mut go = cluster.start_go(2);
    go.wait_ready();
    ping_all();
    // a new MAC and a new process on either side
    ours.stop();
    let devices = "ip link del flannel.1; ip link del flannel-v6.1; rm -rf /var/lib/flannel; true";
    cluster.host(1).sh(devices);
    let annotations = ["backend-data", "backend-v6-data"];
    for name in annotations {
        cluster.annotate(1, name, None);
    }
    let mut ours = cluster.start(1);
    ours.wait_ready();
    ping_all();
    go.stop();
    cluster.host(2).sh(devices);
    for name in annotations {
        cluster.annotate(2, name, None);
    }
    let mut go = cluster.start_go(2);
    go.wait_ready();
    ping_all();
    drop((ours, go));
}

#[scenario(unless = without_kubernetes_and_go_flanneld)]
fn ours_and_go_reach_each_other_over_ipv4() {
    reach_each_other(V4);
}

#[scenario(unless = without_kubernetes_and_go_flanneld)]
fn ours_and_go_reach_each_other_over_ipv6() {
    reach_each_other(V6);
}

#[scenario(unless = without_kubernetes_and_go_flanneld)]
fn ours_and_go_reach_each_other_over_both_families() {
    reach_each_other(DUAL);
}

/// What pods and peers know a node by. With IPv6 the MTU of Go's is 20 larger than what fits.
fn identity(cluster: &Cluster, number: usize) -> String {
    cluster.host(number).sh(
        "ip -j link show type vxlan | grep -o '\"ifindex\":[0-9]*\\|\"address\":\"[^\"]*\"'; \
         if grep -q IPV6 /run/flannel/subnet.env; then grep -v MTU /run/flannel/subnet.env; \
         else cat /run/flannel/subnet.env; fi",
    )
}

/// A node goes from Go to ours and back with pods that run: MAC, device and subnet stay, and no
/// packet is lost when ours takes over.
fn takes_over(net_conf: &'static str) {
    let cluster = Cluster::new(2, net_conf);
    let mut go: Vec<GoFlanneld> = vec![cluster.start_go(1), cluster.start_go(2)];
    for daemon in &mut go {
        daemon.wait_ready();
    }
    let pods: Vec<_> = cluster.underlay.hosts.iter().map(subnet_env::pod).collect();
    subnet_env::eventually_pings(&pods[0], cluster.host(2));
    subnet_env::eventually_pings(&pods[1], cluster.host(1));
    cluster.wait_condition(1);
    let before = (identity(&cluster, 1), cluster.annotations(1));
    let other_way = Pings::start(cluster.host(2), cluster.host(1));
    let pings = Pings::start(cluster.host(1), cluster.host(2));
    go.remove(0).stop();
    let mut ours = cluster.start(1);
    ours.wait_ready();
    let lost = [pings.end(), other_way.end()];
    assert_eq!((identity(&cluster, 1), cluster.annotations(1)), before);
    println!("Go to ours: (sent, lost) {lost:?}");
    assert_eq!(lost.map(|(_, lost)| lost), [0, 0], "{lost:?}");
    let pings = Pings::start(cluster.host(1), cluster.host(2));
    ours.stop();
    let mut go_again = cluster.start_go(1);
    go_again.wait_ready();
    subnet_env::eventually_pings(&pods[0], cluster.host(2));
    let lost = pings.end();
    println!("ours to Go: (sent, lost) {lost:?}");
    assert_eq!((identity(&cluster, 1), cluster.annotations(1)), before);
    subnet_env::eventually_pings(&pods[1], cluster.host(1));
    drop(go_again);
}

#[scenario(unless = without_kubernetes_and_go_flanneld)]
fn node_goes_from_go_to_ours_and_back_with_ipv4() {
    takes_over(V4);
}

#[scenario(unless = without_kubernetes_and_go_flanneld)]
fn node_goes_from_go_to_ours_and_back_with_ipv6() {
    takes_over(V6);
}

#[scenario(unless = without_kubernetes_and_go_flanneld)]
fn node_goes_from_go_to_ours_and_back_with_both_families() {
    takes_over(DUAL);
}
