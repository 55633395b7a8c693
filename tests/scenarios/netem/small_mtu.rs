//! A link with a smaller MTU between two routers on the way from one node to another, with and
//! without the ICMP messages that tell of it.

use super::{Network, VXLAN, WIREGUARD, transfer, without_offloads};
use crate::etcd::cluster::Cluster;
use tests::{Case, etcd::without_etcd, kernel::without_wireguard, scenarios, subnet_env};

const SMALL: u32 = 1400;
const STREAM: usize = 1 << 20;

fn without_wireguard_and_etcd() -> Option<String> {
    without_wireguard().or_else(without_etcd)
}

#[scenarios(unless = without_etcd)]
fn vxlan() -> Vec<Case> {
    cases(VXLAN)
}

#[scenarios(unless = without_wireguard_and_etcd)]
fn wireguard() -> Vec<Case> {
    cases(WIREGUARD)
}

fn cases(network: Network) -> Vec<Case> {
    let with_icmp = |network: Network| streams_pass(&network.net_conf(), true);
    let by_mtu = |network: Network| {
        let mtu = format!(r#","MTU":{SMALL}}}"#);
        let backend = network.backend.replace('}', &mtu);
        streams_pass(&network.net_conf_with(&backend), false);
    };
    vec![
        network.case("streams_pass_a_small_link", with_icmp),
        network.case("streams_pass_a_small_link_without_icmp_by_mtu", by_mtu),
    ]
}

/// A stream each way, between pods whose nodes believe that the path takes 1500 bytes or what their
/// configuration says.
fn streams_pass(net_conf: &str, with_icmp: bool) {
    let mut cluster = Cluster::new(2, net_conf);
    let link = cluster.underlay.put_behind_small_link(2, SMALL);
    if !with_icmp {
        link.drop_icmp();
    }
    for node in [1, 2] {
        cluster.start(node, &[]);
    }
    for node in [1, 2] {
        cluster.wait_ready(node);
    }
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
