//! The backend `extension`: networks that commands make, and what becomes of commands that fail,
//! hang, or ran before.

mod commands;
mod examples;
mod leave;

use super::cluster::{Cluster, TIMEOUT};
use serde_json::{Value, json};
use tests::process::eventually;

/// A cluster of which no daemon runs yet, with this value of `Backend`.
fn idle(nodes: usize, backend: &Value) -> Cluster {
    let cluster = Cluster::idle(nodes, "");
    write(&cluster, backend, false);
    cluster
}

/// The same with two families.
fn idle_dual(nodes: usize, backend: &Value) -> Cluster {
    let cluster = Cluster::idle(nodes, "");
    write(&cluster, backend, true);
    cluster
}

fn write(cluster: &Cluster, backend: &Value, dual: bool) {
    let mut config =
        json!({"Network": "10.244.0.0/16", "EnableNFTables": true, "Backend": backend});
    config["Backend"]["Type"] = "extension".into();
    if dual {
        config["EnableIPv6"] = true.into();
        config["IPv6Network"] = "fd00:10:244::/48".into();
    }
    cluster
        .host(1)
        .write("/run/net-conf.json", &config.to_string());
}

fn start_all(cluster: &mut Cluster, nodes: usize) {
    for node in 1..=nodes {
        cluster.start(node, &[]);
    }
    for node in 1..=nodes {
        cluster.wait_ready(node);
    }
}

/// The lines that commands wrote to a file of the node, sorted.
fn lines(cluster: &Cluster, node: usize, file: &str) -> Vec<String> {
    let text = cluster
        .host(node)
        .sh(&format!("cat {file} 2>/dev/null || true"));
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Waits until a file of the node has these lines, in any order.
#[track_caller]
fn eventually_has(cluster: &Cluster, node: usize, file: &str, expected: &[String]) {
    let mut expected = expected.to_vec();
    expected.sort();
    eventually(
        &format!("{file} of node {node} has {expected:?}"),
        TIMEOUT,
        || (lines(cluster, node, file) == expected).then_some(()),
    );
}
