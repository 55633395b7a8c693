//! Our flanneld and the Go flanneld with one etcd, with the backends that the Go flanneld has
//! besides vxlan and host-gw.

use super::cluster::Cluster;
use std::{thread, time::Duration};
use tests::{
    Case, case, go_flanneld::without_etcd_and_go_flanneld, kernel::without_wireguard,
    process::deadline, scenario, scenarios,
};

fn without_wireguard_and_go() -> Option<String> {
    without_wireguard().or_else(without_etcd_and_go_flanneld)
}

fn net_conf(backend: &str) -> String {
    format!(r#"{{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{backend}}}"#)
}

fn net_conf_of_both_families(backend: &str) -> String {
    format!(
        r#"{{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{backend}}}"#
    )
}

/// Each data path of ours stays when flanneld ends, and has the port that Go's needs: the way back
/// is `flanneld --cleanup`.
#[scenario(unless = without_etcd_and_go_flanneld)]
fn nodes_of_both_makes_reach_each_other_by_udp() {
    nodes_of_both_makes(&net_conf(r#"{"Type":"udp"}"#));
}

fn node_changes(name: &str, net_conf: String) -> Case {
    let name = format!("node_changes_to_ours_and_back_with_{name}");
    case(&name, move || node_changes_its_make(&net_conf))
}

#[scenarios(unless = without_wireguard_and_go)]
fn wireguard() -> Vec<Case> {
    let separate = r#"{"Type":"wireguard"}"#;
    let auto = r#"{"Type":"wireguard","Mode":"auto","PSK":"bWFuYWdlZCBieSBmbGFubmVsLCAzMiBieXRlcyAhISE="}"#;
    vec![
        node_changes("wireguard", net_conf(separate)),
        node_changes("wireguard_dual", net_conf_of_both_families(separate)),
        node_changes("wireguard_auto", net_conf_of_both_families(auto)),
    ]
}

/// Node 1 runs the Go flanneld, nodes 2 and 3 ours. Ours restart without losing a packet; the Go
/// flanneld deletes its device when it ends.
fn nodes_of_both_makes(net_conf: &str) {
    let mut cluster = Cluster::beside_go(3, net_conf);
    let leases = cluster.leases();
    for _ in 0..2 {
        let [from_go, from_ours, to_go] = [(1, 2), (3, 2), (2, 1)].map(|(a, b)| cluster.ping(a, b));
        thread::sleep(deadline(Duration::from_millis(200)));
        cluster.stop(2);
        cluster.start(2, &[]);
        cluster.wait_ready(2);
        cluster.all_ping(&[1, 2, 3]);
        from_go.lose_nothing();
        from_ours.lose_nothing();
        to_go.lose_nothing();
        cluster.stop(1);
        cluster.start_go(1);
        cluster.wait_ready(1);
        cluster.all_ping(&[1, 2, 3]);
        assert_eq!(cluster.leases(), leases);
    }
}

/// A node of Go becomes one of ours, and again one of Go, with its pod and its subnet.
fn node_changes_its_make(net_conf: &str) {
    let mut cluster = Cluster::new(3, net_conf);
    cluster.start_go(1);
    cluster.start_go(2);
    cluster.start(3, &[]);
    for node in [1, 2, 3] {
        cluster.wait_ready(node);
        cluster.make_pod(node);
    }
    cluster.all_ping(&[1, 2, 3]);
    let subnet = cluster.env(2, "FLANNEL_SUBNET");
    for to_ours in [true, false] {
        cluster.stop(2);
        match to_ours {
            true => cluster.start(2, &[]),
            false => cluster.start_go(2),
        }
        cluster.wait_ready(2);
        cluster.all_ping(&[1, 2, 3]);
        assert_eq!(cluster.env(2, "FLANNEL_SUBNET"), subnet);
        assert_eq!(cluster.leases().len(), 3);
    }
}
