//! The backend ipip beside Go flannel's, and one in the place of the other.

use super::cluster::Cluster;
use tests::{go_flanneld::without_etcd_and_go_flanneld, kernel::without_ipip, scenario, underlay};

fn without_ipip_and_go() -> Option<String> {
    without_ipip().or_else(without_etcd_and_go_flanneld)
}

#[scenario(unless = without_ipip_and_go)]
fn ipip_nodes_of_both_makes_reach_each_other() {
    both_makes(r#"{"Type":"ipip"}"#);
}

#[scenario(unless = without_ipip_and_go)]
fn ipip_nodes_of_both_makes_reach_each_other_by_direct_routes() {
    both_makes(r#"{"Type":"ipip","DirectRouting":true}"#);
}

/// Node 1 runs the Go flanneld, node 2 ours; both publish the same, and their devices are the same.
/// Then ours takes node 1 over with device and routes, and no packet is lost.
fn both_makes(backend: &str) {
    let net_conf =
        format!(r#"{{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{backend}}}"#);
    let mut cluster = Cluster::beside_go(2, &net_conf);
    assert_eq!(cluster.published(1), cluster.published(2));
    assert_eq!(cluster.env(1, "FLANNEL_MTU"), cluster.env(2, "FLANNEL_MTU"));
    let device = |node: usize| {
        let link = cluster.host(node).sh("ip -d link show flannel.ipip");
        let own = underlay::ip(node);
        let link = link.split_once(": ").expect("an index").1;
        link.replace(&own, "OWN")
    };
    assert_eq!(device(1), device(2));
    let index = "ip -o link show flannel.ipip | cut -d: -f1";
    let made = cluster.host(1).sh(index);
    cluster.take_over_from_go();
    assert_eq!(cluster.host(1).sh(index), made, "the device is adopted");
    cluster.all_ping(&[1, 2]);
}
