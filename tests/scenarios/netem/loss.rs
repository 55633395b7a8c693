//! Loss, delay, reordering and duplicates between nodes, from the start of the daemons on.

use super::{
    HOST_GW, IPIP, IPSEC, Network, UDP, VXLAN, WIREGUARD, transfer, without_netem_and_etcd,
    without_offloads,
};
use crate::etcd::cluster::Cluster;
use tests::{Case, charon::EndCharon, scenarios, subnet_env};

/// What each host does to the packets that it sends.
const NETEM: &str = "delay 5ms 2ms loss 5% duplicate 1% reorder 25% 50%";
const STREAM: usize = 2 << 20;

#[scenarios(unless = without_netem_and_etcd)]
fn cases() -> Vec<Case> {
    let networks = [VXLAN, HOST_GW, IPIP, UDP, WIREGUARD, IPSEC].into_iter();
    networks
        .map(|network| network.case("streams_arrive_despite_loss", streams_arrive))
        .collect()
}

/// Nodes join, a stream passes each way, a node restarts, and another one joins, while one packet
/// of twenty is lost each way: also those of the daemons and etcd.
fn streams_arrive(network: Network) {
    let mut cluster = Cluster::new(3, &network.net_conf(""));
    let _end = EndCharon::of(&cluster.underlay.hosts);
    for host in cluster
        .underlay
        .hosts
        .iter()
        .chain([&cluster.underlay.switch])
    {
        let device = match host.name.as_str() {
            "underlay" => "underlay",
            _ => "eth0",
        };
        host.sh(&format!("tc qdisc add dev {device} root netem {NETEM}"));
    }
    cluster.start_nodes(&[1, 2]);
    let hosts = [cluster.host(1).handle(), cluster.host(2).handle()];
    let pods = [subnet_env::pod(&hosts[0]), subnet_env::pod(&hosts[1])];
    pods.iter().for_each(without_offloads);
    cluster.all_ping(&[1, 2]);
    transfer(&cluster, &pods[0], (2, &pods[1]), STREAM);
    transfer(&cluster, &pods[1], (1, &pods[0]), STREAM);
    let subnet = cluster.env(2, "FLANNEL_SUBNET");
    cluster.stop(2);
    cluster.start(2, &[]);
    cluster.start(3, &[]);
    for node in [2, 3] {
        cluster.wait_ready(node);
    }
    assert_eq!(cluster.env(2, "FLANNEL_SUBNET"), subnet);
    assert_eq!(cluster.leases().len(), 3);
    cluster.make_pod(3);
    cluster.all_ping(&[1, 2, 3]);
    let lost = cluster.host(1).sh("tc -s qdisc show dev eth0");
    assert!(!lost.contains("dropped 0,"), "nothing was lost: {lost}");
}
