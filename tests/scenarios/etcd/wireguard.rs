//! The backend wireguard beside Go flannel's, and ours in its place.

use super::cluster::Cluster;
use tests::{
    go_flanneld::without_etcd_and_go_flanneld, kernel::without_wireguard, scenario, underlay,
};

fn without_wireguard_and_go() -> Option<String> {
    without_wireguard().or_else(without_etcd_and_go_flanneld)
}

/// Single tunnels of Go crash where IPv6 is missing: both families are enabled.
fn net_conf(mode: &str) -> String {
    format!(
        r#"{{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{{"Type":"wireguard","Mode":"{mode}"}}}}"#
    )
}

#[scenario(unless = without_wireguard_and_go)]
fn wireguard_nodes_of_both_makes_reach_each_other_by_two_tunnels() {
    both_makes("separate");
}

#[scenario(unless = without_wireguard_and_go)]
fn wireguard_nodes_of_both_makes_reach_each_other_by_a_tunnel_over_ipv4() {
    both_makes("ipv4");
}

/// Go dials the port that we publish, and we the one that Go opens.
#[scenario(unless = without_wireguard_and_go)]
fn wireguard_nodes_of_both_makes_reach_each_other_by_a_tunnel_over_ipv6() {
    both_makes("ipv6");
}

/// Node 1 runs the Go flanneld, node 2 ours. Then ours takes node 1 over, with its key.
fn both_makes(mode: &str) {
    let mut cluster = Cluster::new(2, &net_conf(mode));
    cluster.start_go(1);
    cluster.start(2, &[]);
    for node in [1, 2] {
        cluster.wait_ready(node);
        cluster.make_pod(node);
    }
    cluster.all_ping(&[1, 2]);
    let attrs = |node: usize| {
        let (_, value) = cluster.lease_of(&format!("{:?}", underlay::ip(node)));
        value
    };
    let fields = |node: usize| {
        let attrs = attrs(node);
        let fields = attrs.as_object().expect("an object");
        fields.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(fields(1), fields(2));
    assert_eq!(cluster.env(1, "FLANNEL_MTU"), cluster.env(2, "FLANNEL_MTU"));
    let key = |node: usize| attrs(node)["BackendData"]["PublicKey"].clone();
    let (go, leases) = (key(1), cluster.leases());
    cluster.stop(1);
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    cluster.all_ping(&[1, 2]);
    let (_, taken_over) = cluster.lease_of(&format!("{:?}", underlay::ip(1)));
    assert_eq!(taken_over["BackendData"]["PublicKey"], go);
    assert_eq!(cluster.leases(), leases);
    let peers = cluster.host(2).sh("wg show flannel-wg peers");
    assert_eq!(peers.trim(), go.as_str().expect("a key"));
    // and back
    cluster.stop(1);
    cluster.start_go(1);
    cluster.wait_ready(1);
    cluster.all_ping(&[1, 2]);
}
