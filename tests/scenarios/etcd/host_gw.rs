//! The backend host-gw beside Go flannel's, and one in the place of the other.

use super::cluster::Cluster;
use std::{thread, time::Duration};
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
    let mut cluster = Cluster::new(2, net_conf);
    cluster.start_go(1);
    cluster.start(2, &[]);
    for node in [1, 2] {
        cluster.wait_ready(node);
        cluster.make_pod(node);
    }
    cluster.all_ping(&[1, 2]);
    let attrs = |node: usize| {
        let (_, mut value) = cluster.lease_of(&format!("{:?}", underlay::ip(node)));
        let fields = value.as_object_mut().expect("an object");
        fields.remove("PublicIP");
        let v6 = fields.remove("PublicIPv6").expect("the field");
        (value, v6.is_null())
    };
    assert_eq!(attrs(1), attrs(2));
    assert_eq!(cluster.env(1, "FLANNEL_MTU"), cluster.env(2, "FLANNEL_MTU"));
    let leases = cluster.leases();
    let pings = [cluster.ping(1, 2), cluster.ping(2, 1)];
    cluster.stop(1);
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    thread::sleep(Duration::from_millis(500));
    pings.into_iter().for_each(|pings| pings.lose_nothing());
    assert_eq!(cluster.leases(), leases);
    let routes = cluster.host(1).sh("ip route show proto 70");
    assert!(routes.contains(&underlay::ip(2)), "{routes}");
    let boot = cluster.host(1).sh("ip route show proto boot");
    assert!(!boot.contains("10.244."), "{boot}");
}
