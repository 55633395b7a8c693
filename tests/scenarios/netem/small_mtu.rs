//! A link with a smaller MTU between two routers on the way from one node to another, with and
//! without the ICMP messages that tell of it.

use super::{
    IPIP, IPSEC, Network, UDP, VXLAN, WIREGUARD, transfer, without_offloads,
    without_tunnels_and_etcd,
};
use crate::etcd::cluster::Cluster;
use tests::{Case, charon::EndCharon, etcd::without_etcd, scenarios, subnet_env};

const SMALL: u32 = 1400;
const STREAM: usize = 1 << 20;

#[scenarios(unless = without_etcd)]
fn anywhere() -> Vec<Case> {
    [VXLAN, UDP].into_iter().flat_map(cases).collect()
}

#[scenarios(unless = without_tunnels_and_etcd)]
fn with_tunnels() -> Vec<Case> {
    let networks = [IPIP, WIREGUARD, IPSEC].into_iter();
    networks.flat_map(cases).collect()
}

fn cases(network: Network) -> [Case; 2] {
    [
        network.case("streams_pass_a_small_link", |network| {
            streams_pass(network, true);
        }),
        network.case("streams_pass_a_small_link_without_icmp_by_mtu", |network| {
            streams_pass(network, false);
        }),
    ]
}

/// A stream each way, between pods whose nodes believe that the path takes 1500 bytes. Where no
/// ICMP tells them more, they are told: by the key `MTU`, or by that of their interface.
fn streams_pass(network: Network, with_icmp: bool) {
    let mtu = format!(r#","MTU":{SMALL}"#);
    let by_key = !with_icmp && network.has_mtu;
    let keys = if by_key { mtu.as_str() } else { "" };
    let mut cluster = Cluster::new(2, &network.net_conf(keys));
    let _end = EndCharon::of(&cluster.underlay.hosts);
    let link = cluster.underlay.put_behind_small_link(2, SMALL);
    if !with_icmp {
        link.drop_icmp();
        if !by_key {
            for host in &cluster.underlay.hosts {
                host.sh(&format!("ip link set eth0 mtu {SMALL}"));
            }
        }
    }
    cluster.start_nodes(&[1, 2]);
    let hosts = [cluster.host(1).handle(), cluster.host(2).handle()];
    let pods = [subnet_env::pod(&hosts[0]), subnet_env::pod(&hosts[1])];
    for pod in &pods {
        without_offloads(pod);
        let mtu = subnet_env::value(pod.host, "FLANNEL_MTU").expect("an MTU");
        pod.sh(&format!("ip link set eth0 mtu {mtu}"));
    }
    cluster.all_ping(&[1, 2]);
    transfer(&cluster, &pods[0], (2, &pods[1]), STREAM);
    transfer(&cluster, &pods[1], (1, &pods[0]), STREAM);
    // without a smaller MTU the routers meet packets that are too large
    assert_eq!(link.too_large() > 0, with_icmp);
}
