//! The backend `alloc`: a lease, subnet.env and rules; something else moves the packets.

use super::cluster::{Cluster, V4};
use tests::{
    scenario,
    subnet_env::{eventually_pings, made_pod},
};

/// Routes that an administrator adds, as a cloud's route table would have them, are left alone.
#[scenario]
fn alloc_node_has_a_lease_and_rules_and_no_routes() {
    let mut cluster = Cluster::idle(2, &V4.replace("vxlan", "alloc"));
    for node in [1, 2] {
        cluster.start(node, &[]);
        cluster.wait_ready(node);
    }
    let links = cluster.host(1).sh("ip -o link");
    for node in [1, 2] {
        assert_eq!(cluster.env(node, "FLANNEL_MTU"), "1500");
        let host = cluster.host(node);
        assert!(
            !host.sh("ip route").contains("10.244."),
            "{}",
            host.sh("ip route")
        );
        assert!(!host.sh("ip -o link").contains("flannel"));
        assert!(host.sh("nft list ruleset").contains("10.244.0.0/16"));
    }
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    for (from, to) in [(1, 2), (2, 1)] {
        cluster.host(from).sh(&format!(
            "ip route add {} via 172.31.0.{to}",
            cluster.subnet(to)
        ));
    }
    cluster.ping_all(&pods);
    drop(pods);
    let routes = cluster.host(1).sh("ip route");
    for node in [1, 2] {
        cluster.stop(node);
        cluster.start(node, &[]);
        cluster.wait_ready(node);
    }
    assert_eq!(cluster.host(1).sh("ip route"), routes);
    assert!(!links.contains("cni0"));
    eventually_pings(&made_pod(cluster.host(1)), cluster.host(2));
}
