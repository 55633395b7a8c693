//! The backend host-gw beside Go flannel's, and one in the place of the other.

use super::cluster::Cluster;
use tests::{go_flanneld::without_etcd_and_go_flanneld, scenario, underlay};

const V4: &str =
    r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"host-gw"}}"#;
const DUAL: &str = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{"Type":"host-gw"}}"#;

#[scenario(unless = without_etcd_and_go_flanneld)]
fn host_gw_nodes_of_both_makes_reach_each_other_in_ipv4() {
    both_makes(V4);
}

#[scenario(unless = without_etcd_and_go_flanneld)]
fn host_gw_nodes_of_both_makes_reach_each_other_in_both_families() {
    both_makes(DUAL);
}

/// Node 1 runs the Go flanneld, node 2 ours; both publish the same. Then ours takes node 1 over
/// with its routes, and no packet is lost.
fn both_makes(net_conf: &str) {
    let mut cluster = Cluster::beside_go(2, net_conf);
    let attrs = |node: usize| {
        let mut value = cluster.published(node);
        let fields = value.as_object_mut().expect("an object");
        let v6 = fields.remove("PublicIPv6").expect("the field");
        (value, v6.is_null())
    };
    assert_eq!(attrs(1), attrs(2));
    assert_eq!(cluster.env(1, "FLANNEL_MTU"), cluster.env(2, "FLANNEL_MTU"));
    cluster.take_over_from_go();
    let routes = cluster.host(1).sh("ip route show proto 70");
    assert!(routes.contains(&underlay::ip(2)), "{routes}");
}
