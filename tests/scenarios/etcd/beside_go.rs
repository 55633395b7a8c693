//! Our flanneld and the Go flanneld with one etcd, and one in the place of the other.

use super::cluster::{Cluster, DUAL, TIMEOUT, V4, V6};
use std::{thread, time::Duration};
use tests::{go_flanneld::without_etcd_and_go_flanneld, process::eventually, scenario, underlay};

#[scenario(unless = without_etcd_and_go_flanneld)]
fn nodes_of_both_makes_reach_each_other_in_ipv4() {
    both_makes(V4);
}

#[scenario(unless = without_etcd_and_go_flanneld)]
fn nodes_of_both_makes_reach_each_other_in_both_families() {
    both_makes(DUAL);
}

/// Node 1 runs the Go flanneld, node 2 ours. They survive each other's restarts.
fn both_makes(net_conf: &str) {
    let mut cluster = Cluster::beside_go(2, net_conf);
    let leases = cluster.leases();
    let same_shape = |ip: usize| {
        let (_, value) = cluster.lease_of(&underlay::ip(ip));
        let keys: Vec<String> = value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect();
        (
            keys,
            value["BackendType"].clone(),
            value["BackendData"]["VNI"].clone(),
        )
    };
    assert_eq!(same_shape(1), same_shape(2));
    for restart in [2, 1, 2] {
        let pings = cluster.ping(1, 2);
        cluster.stop(restart);
        if restart == 1 {
            cluster.start_go(1);
        } else {
            cluster.start(2, &[]);
        }
        cluster.wait_ready(restart);
        cluster.all_ping(&[1, 2]);
        pings.lose_nothing();
        assert_eq!(cluster.leases(), leases);
    }
}

/// The Go flanneld programs no peer of a network without IPv4, and holds each lease there for its
/// own, since all have the address 0.0.0.0. Ours read its lease and are not affected by it.
#[scenario(unless = without_etcd_and_go_flanneld)]
fn go_node_without_ipv4_is_a_peer_of_ours() {
    let mut cluster = Cluster::new(3, V6);
    cluster.start_go(1);
    cluster.wait_ready(1);
    for node in [2, 3] {
        cluster.start(node, &[]);
        cluster.wait_ready(node);
        cluster.make_pod(node);
    }
    cluster.all_ping(&[2, 3]);
    assert_eq!(cluster.leases().len(), 3);
    let subnet = cluster.env(1, "FLANNEL_IPV6_SUBNET").replace("::1/", "::/");
    let (_, value) = cluster.lease_of(&underlay::ip6(1));
    let mac = value["BackendV6Data"]["VtepMAC"]
        .as_str()
        .expect("a MAC")
        .to_owned();
    for node in [2, 3] {
        eventually("the Go node is a peer", TIMEOUT, || {
            let routes = cluster.host(node).sh("ip -6 route show dev flannel-v6.1");
            let fdb = cluster.host(node).sh("bridge fdb show dev flannel-v6.1");
            let entry = format!("{mac} dst {}", underlay::ip6(1));
            (routes.contains(&subnet) && fdb.contains(&entry)).then_some(())
        });
    }
}

/// A node changes from Go to ours and back while its pods run and a Go node and one of ours ping
/// them.
#[scenario(unless = without_etcd_and_go_flanneld)]
fn node_changes_to_ours_and_back_with_its_pods_running() {
    let mut cluster = Cluster::new(3, DUAL);
    cluster.start_go(1);
    cluster.start_go(2);
    cluster.start(3, &[]);
    for node in 1..=3 {
        cluster.wait_ready(node);
        cluster.make_pod(node);
    }
    cluster.all_ping(&[1, 2, 3]);
    let leases = cluster.leases();
    let devices = cluster.devices(2);
    let subnet = cluster.env(2, "FLANNEL_SUBNET");
    let mut losses = Vec::new();
    for to_ours in [true, false] {
        let pings = [cluster.ping(1, 2), cluster.ping(3, 2)];
        cluster.stop(2);
        match to_ours {
            true => cluster.start(2, &[]),
            false => cluster.start_go(2),
        }
        cluster.wait_ready(2);
        thread::sleep(Duration::from_millis(500));
        cluster.all_ping(&[1, 2, 3]);
        for pings in pings {
            losses.push((to_ours, pings.end()));
        }
        assert_eq!(cluster.devices(2), devices, "device and MAC stay");
        assert_eq!(cluster.env(2, "FLANNEL_SUBNET"), subnet);
        assert_eq!(cluster.leases(), leases);
    }
    for (to_ours, (sent, lost)) in losses {
        println!("to ours: {to_ours}: {lost} of {sent} pings lost");
        assert!(
            sent > 10 && (lost == 0 || !to_ours),
            "{lost} of {sent} lost"
        );
    }
    // what each make publishes is what the other reads
    let (_, value) = cluster.lease_of(&underlay::ip(2));
    let mac = value["BackendData"]["VtepMAC"]
        .as_str()
        .expect("a MAC")
        .to_owned();
    eventually("both peers have its MAC", TIMEOUT, || {
        let has = |node: usize| {
            let neighbours = cluster.host(node).sh("ip neigh show dev flannel.1");
            neighbours.contains(&mac)
        };
        (has(1) && has(3)).then_some(())
    });
}
