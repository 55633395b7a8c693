//! A node is drained, deleted, and registers again.

use super::install;
use crate::{
    Cluster,
    report::step,
    workload::{REPLICAS, Running},
};
use std::time::Duration;
use tests::process::eventually;

const TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn leave_and_return(cluster: &mut Cluster<'_>) {
    let leaving = cluster.nodes[1].name.clone();
    let mac = vtep_mac(cluster);
    let subnet = pod_cidr(cluster, &leaving);
    cluster.control_plane.kubectl(&format!(
        "drain {leaving} --ignore-daemonsets --delete-emptydir-data --timeout=60s"
    ));
    let pods = cluster.ready_pods("web", REPLICAS);
    assert!(Cluster::on_node(&pods, &leaving).is_empty());
    step("drained: every replica runs on the other node");
    cluster
        .control_plane
        .kubectl(&format!("delete node {leaving}"));
    eventually("the other node has no route to it", TIMEOUT, || {
        (!routes(cluster).contains(&subnet)).then_some(())
    });
    step("deleted: the other node has no route to it");
    let Cluster {
        control_plane,
        nodes,
    } = cluster;
    nodes[1].restart_kubelet(control_plane);
    eventually("the node registers", TIMEOUT, || {
        let node = ["get", "node", &leaving];
        control_plane
            .try_kubectl(&node, "")
            .status
            .success()
            .then_some(())
    });
    install::wait_ready(cluster, &leaving);
    install::wait_rolled_out(cluster);
    let subnet = pod_cidr(cluster, &leaving);
    eventually("the other node has a route to it", TIMEOUT, || {
        routes(cluster).contains(&subnet).then_some(())
    });
    assert_eq!(vtep_mac(cluster), mac, "the MAC address of flannel.1");
    step(&format!("returned with {subnet} and the same MAC address"));
    delete_pods_that_stayed(cluster, &leaving);
    spread(cluster, &leaving);
}

/// The pods of daemon sets, which `kubectl drain` leaves, have addresses of the former subnet: no
/// pod can start on the node before they are gone.
fn delete_pods_that_stayed(cluster: &Cluster<'_>, node: &str) {
    let stayed = format!("delete pods --field-selector spec.nodeName={node} -l app=host-port");
    cluster.control_plane.kubectl(&stayed);
    cluster.ready_pods("host-port", cluster.nodes.len());
    step("a pod that stayed is deleted, and made again in the new subnet");
}

/// New replicas on the node reach those of the other node.
fn spread(cluster: &Cluster<'_>, returned: &str) {
    cluster.replace_replicas();
    let pods = cluster.ready_pods("web", REPLICAS);
    let (here, there): (Vec<Running>, Vec<Running>) =
        pods.into_iter().partition(|pod| pod.node == returned);
    assert!(!here.is_empty() && !there.is_empty());
    cluster.exec_in_each(&here, &format!("ping -c 1 -W 3 {}", there[0].ip));
    cluster.exec_in_each(&there, &format!("ping -c 1 -W 3 {}", here[0].ip));
    step(&format!(
        "{} new replicas on it reach those of the other node",
        here.len()
    ));
}

fn vtep_mac(cluster: &Cluster<'_>) -> String {
    cluster.nodes[1]
        .host
        .sh("ip -o link show flannel.1 | grep -o 'ether [^ ]*'")
}

fn routes(cluster: &Cluster<'_>) -> String {
    cluster.nodes[0].host.sh("ip route")
}

fn pod_cidr(cluster: &Cluster<'_>, node: &str) -> String {
    let node = cluster.control_plane.get(&format!("node {node}"));
    node["spec"]["podCIDR"]
        .as_str()
        .expect("podCIDR")
        .to_owned()
}
