//! `kubectl apply` of the manifest, and what `kubectl describe node` shows before and after.

use crate::{Cluster, report::step};
use std::{path::Path, time::Duration};
use tests::process::eventually;

pub(super) const MANIFEST: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/kube-flannel.yml");
const TIMEOUT: Duration = Duration::from_secs(90);
/// The condition that a cloud's controllers set on a new node; kubelet does not.
const UNAVAILABLE: &str = r#"{"status": {"conditions": [{"type": "NetworkUnavailable",
    "status": "True", "reason": "NoRouteCreated", "message": "Node created without a route"}]}}"#;

/// Before the manifest, and while flanneld waits for a podCIDR, which nobody allocates yet.
pub(super) fn not_ready(cluster: &Cluster<'_>) {
    for node in &cluster.nodes {
        wait_described(cluster, &node.name, "cni plugin not initialized");
        let patch = [
            "patch",
            "node",
            &node.name,
            "--subresource=status",
            "-p",
            UNAVAILABLE,
        ];
        let output = cluster.control_plane.try_kubectl(&patch, "");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    step("without a network: cni plugin not initialized");
    let manifest = Path::new(MANIFEST).canonicalize().expect(MANIFEST);
    cluster
        .control_plane
        .kubectl(&format!("apply -f {}", manifest.display()));
    step("kubectl apply -f deploy/kube-flannel.yml");
    let node = &cluster.nodes[0];
    let line = wait_described(cluster, &node.name, "subnet.env");
    let message = line
        .split_once("message:")
        .map_or(&*line, |(_, message)| message);
    step(&format!("kubectl describe node: Ready is False: {message}"));
    eventually("readyz names the podCIDR", TIMEOUT, || {
        let get = "exec 3<>/dev/tcp/127.0.0.1/8081; printf 'GET /readyz?verbose HTTP/1.0\r\n\r\n' >&3; cat <&3";
        let answer = node.host.try_sh(&format!("bash -c \"{get}\""));
        let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
        let waits = answer
            .lines()
            .find(|line| line.contains("podCIDR"))?
            .to_owned();
        step(&format!("/readyz?verbose: {waits}"));
        Some(())
    });
}

/// With podCIDRs.
pub(super) fn ready(cluster: &mut Cluster<'_>) {
    cluster.control_plane.start_controller_manager(true);
    wait_rolled_out(cluster);
    step("every pod of kube-flannel-ds is ready");
    for node in &cluster.nodes {
        wait_ready(cluster, &node.name);
        let subnet = node.host.sh("cat /run/flannel/subnet.env");
        let subnet = subnet
            .lines()
            .find(|line| line.starts_with("FLANNEL_SUBNET"));
        step(&format!(
            "{}: Ready, NetworkUnavailable False, without taints, {}",
            node.name,
            subnet.expect("FLANNEL_SUBNET")
        ));
    }
}

/// Waits until the daemon set's pods are ready.
#[track_caller]
pub(super) fn wait_rolled_out(cluster: &Cluster<'_>) {
    let status = "-n kube-flannel rollout status daemonset/kube-flannel-ds --timeout=90s";
    cluster.control_plane.kubectl(status);
}

/// Waits until a node is Ready with its network, and pods may be scheduled to it.
#[track_caller]
pub(super) fn wait_ready(cluster: &Cluster<'_>, name: &str) {
    eventually(&format!("{name} is ready"), TIMEOUT, || {
        let node = cluster.control_plane.get(&format!("node {name}"));
        let conditions = node["status"]["conditions"].as_array()?;
        let is = |kind: &str, status: &str| {
            conditions
                .iter()
                .any(|condition| condition["type"] == kind && condition["status"] == status)
        };
        let ready = is("Ready", "True") && is("NetworkUnavailable", "False");
        (ready && node["spec"]["taints"].is_null()).then_some(())
    });
}

/// The line of `kubectl describe node` with a text, once it is there.
#[track_caller]
fn wait_described(cluster: &Cluster<'_>, node: &str, text: &str) -> String {
    eventually(&format!("describe node {node}: {text}"), TIMEOUT, || {
        let words = ["describe", "node", node];
        let output = cluster.control_plane.try_kubectl(&words, "");
        let description = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = description.lines().find(|line| line.contains(text))?;
        Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
    })
}
