//! `kubectl delete` of the manifest, and `flanneld cleanup` and `uninstall-cni` on each node.

use crate::{Cluster, report::step};
use std::{fs, time::Duration};
use tests::{Host, process::eventually};

const TIMEOUT: Duration = Duration::from_secs(90);
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/kube-flannel.yml");
const CLEANUP: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../deploy/kube-flannel-cleanup.yml"
);

pub(super) fn run(cluster: &Cluster<'_>) {
    delete_workload(cluster);
    cluster
        .control_plane
        .kubectl(&format!("delete -f {MANIFEST} --timeout=60s"));
    step("kubectl delete -f deploy/kube-flannel.yml");
    clean_nodes(cluster);
    for node in &cluster.nodes {
        assert_nothing_left(node.host);
        let plugins = node.host.sh("find /opt/cni/bin -mindepth 1");
        assert_eq!(plugins, "", "{}", node.name);
    }
    step("no device, route, rule, plugin or file of flannel is left on any node");
}

/// Deletes the pods of the test.
pub(super) fn delete_workload(cluster: &Cluster<'_>) {
    cluster
        .control_plane
        .kubectl("delete deployment,daemonset,service web host-port --ignore-not-found");
    eventually("the pods are gone", TIMEOUT, || {
        let pods = cluster.control_plane.kubectl("get pods -o name");
        pods.is_empty().then_some(())
    });
}

/// Runs the clean-up pod on each node.
pub(super) fn clean_nodes(cluster: &Cluster<'_>) {
    let cleanup = fs::read_to_string(CLEANUP).expect(CLEANUP);
    for node in &cluster.nodes {
        cluster
            .control_plane
            .apply(&cleanup.replace("NODE", &node.name));
    }
    for node in &cluster.nodes {
        clean(cluster, &node.name);
    }
}

/// Waits for the pod that cleans a node, prints what it did, and deletes it.
fn clean(cluster: &Cluster<'_>, node: &str) {
    let pod = format!("kube-flannel-cleanup-{node}");
    eventually(&format!("{pod} succeeds"), TIMEOUT, || {
        let object = cluster
            .control_plane
            .get(&format!("-n kube-system pod {pod}"));
        let phase = &object["status"]["phase"];
        assert_ne!(*phase, "Failed", "{}", object["status"]);
        (*phase == "Succeeded").then_some(())
    });
    let log = format!("-n kube-system logs {pod} --all-containers");
    for line in cluster.control_plane.kubectl(&log).lines() {
        step(&format!("{node}: {line}"));
    }
    cluster
        .control_plane
        .kubectl(&format!("-n kube-system delete pod {pod} --timeout=60s"));
}

#[track_caller]
pub(super) fn assert_nothing_left(host: &Host) {
    let links = host.sh("ip -o link | cut -d: -f2 | cut -d@ -f1 | xargs");
    assert_eq!(links, "lo eth0\n", "{}", host.name);
    let routes = host.sh("ip route && ip -6 route");
    assert!(!routes.contains("10.244."), "{}: {routes}", host.name);
    let tables = host.sh("nft list tables");
    assert!(
        !tables.contains("flannel") && !tables.contains("cni"),
        "{tables}"
    );
    let rules = host.sh("iptables-save");
    assert!(
        !rules.contains("FLANNEL") && !rules.contains("CNI"),
        "{rules}"
    );
    for folder in ["/etc/cni/net.d", "/run/flannel", "/var/lib/flannel"] {
        let files = host.sh(&format!("find {folder} -mindepth 1 2>/dev/null || true"));
        assert_eq!(files, "", "{}: {folder}", host.name);
    }
}
