//! Go flannel's own manifest, ours over it, and its own again, while pods of two nodes talk.

use super::{install, rolling_update::Traffic, uninstall};
use crate::{Cluster, go_flannel::GoFlannel, machine::Programs, report::step, workload};
use serde_json::Value;
use std::path::Path;
use workload::REPLICAS;

pub(super) fn there_and_back(cluster: &Cluster<'_>, programs: &Programs) {
    let go = match GoFlannel::build() {
        Ok(go) => go,
        Err(reason) => return step(&format!("skipped: {reason}")),
    };
    for node in &cluster.nodes {
        node.prepare_for_go_flannel(programs, &go);
    }
    apply(cluster, &go.manifest);
    step("Go flannel runs by its own manifest");
    cluster.control_plane.apply(&workload::replicas());
    let before = state(cluster);

    let traffic = Traffic::start(cluster);
    apply(cluster, Path::new(install::MANIFEST));
    for node in &cluster.nodes {
        let rules = node.host.sh("iptables-save");
        assert!(!rules.contains("FLANNEL"), "{}: {rules}", node.name);
        node.host.sh("nft list table ip flannel-ipv4");
    }
    assert_eq!(state(cluster), before, "subnets and MAC addresses");
    step(
        "kubectl apply of our manifest: the same subnets and MAC addresses, no iptables chain of Go flannel",
    );
    traffic.end();
    replace_pods(cluster);

    let traffic = Traffic::start(cluster);
    apply(cluster, &go.manifest);
    assert_eq!(state(cluster), before, "subnets and MAC addresses");
    step("kubectl apply of Go flannel's manifest: the same subnets and MAC addresses");
    traffic.end();
    replace_pods(cluster);

    uninstall::delete_workload(cluster);
    let manifest = go.manifest.display();
    cluster
        .control_plane
        .kubectl(&format!("delete -f {manifest} --timeout=60s"));
    uninstall::clean_nodes(cluster);
    for node in &cluster.nodes {
        let plugins = go.plugins.display();
        node.host
            .sh(&format!("cmp {plugins}/bridge /opt/cni/bin/bridge"));
    }
    step("the Go plugins are back");
}

/// Applies a manifest and waits for its pods on ready nodes.
fn apply(cluster: &Cluster<'_>, manifest: &Path) {
    let manifest = manifest.display();
    cluster
        .control_plane
        .kubectl(&format!("apply -f {manifest}"));
    install::wait_rolled_out(cluster);
    for node in &cluster.nodes {
        install::wait_ready(cluster, &node.name);
    }
}

/// Each pod is deleted by the present plugins and made again, and reaches all others.
fn replace_pods(cluster: &Cluster<'_>) {
    cluster.replace_replicas();
    super::traffic::ping_all(cluster);
    let pods = cluster.ready_pods("web", REPLICAS);
    for node in &cluster.nodes {
        let left = node
            .host
            .sh("ls /var/lib/cni/networks/cbr0 | grep -c '^10'");
        let expected = Cluster::on_node(&pods, &node.name).len();
        assert_eq!(
            left.trim(),
            expected.to_string(),
            "{}: reservations",
            node.name
        );
    }
}

/// Subnet and device of each node.
fn state(cluster: &Cluster<'_>) -> Vec<(Value, String)> {
    let state = cluster.nodes.iter().map(|node| {
        let object = cluster.control_plane.get(&format!("node {}", node.name));
        let device = node.host.sh("ip -o link show flannel.1 | grep -o 'ether [^ ]*'; grep SUBNET /run/flannel/subnet.env");
        let data = object["metadata"]["annotations"]["flannel.alpha.coreos.com/backend-data"].clone();
        (data, device)
    });
    state.collect()
}
