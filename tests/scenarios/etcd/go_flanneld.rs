//! The Go flanneld on two nodes with one etcd.

use tests::{
    Etcd, GoFlanneld, Underlay, go_flanneld::without_etcd_and_go_flanneld, scenario, subnet_env,
    underlay,
};

const NET_CONF: &str =
    r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;

#[scenario(unless = without_etcd_and_go_flanneld)]
fn pods_of_two_go_nodes_reach_each_other() {
    let underlay = Underlay::new(2);
    let etcd = Etcd::new(&underlay.switch, underlay::GATEWAY);
    etcd.put("/coreos.com/network/config", NET_CONF);
    let endpoints = etcd.endpoints();
    let mut daemons: Vec<_> = underlay
        .hosts
        .iter()
        .map(|host| GoFlanneld::etcd(host, &endpoints))
        .collect();
    for daemon in &mut daemons {
        daemon.wait_ready();
    }
    let pods: Vec<_> = underlay.hosts.iter().map(subnet_env::pod).collect();
    subnet_env::eventually_pings(&pods[0], &underlay.hosts[1]);
    subnet_env::eventually_pings(&pods[1], &underlay.hosts[0]);
    assert_eq!(etcd.keys("/coreos.com/network/subnets/").len(), 2);
}
