//! Rules in iptables (`EnableNFTables` false), in both flavours.

mod changes;
mod filter_switch;
mod leftovers;
mod text;

use super::cluster::Cluster;
use std::time::Duration;
use tests::{Host, process::eventually};

/// Upstream's default: iptables.
const V4: &str = r#"{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}"#;
const DUAL: &str = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","Backend":{"Type":"vxlan"}}"#;
/// The limit of the slow look at rules of the legacy flavour, for a test.
const RESYNC: &str = "-iptables-resync=1";
const TIMEOUT: Duration = Duration::from_secs(15);

const NFT: &str = "nft";
const LEGACY: &str = "legacy";

/// A rule of another program in one flavour only: the flavour is the one in use.
fn use_flavour(host: &Host, flavour: &str) {
    host.sh(&format!(
        "iptables-{flavour} -A INPUT -s 192.0.2.9 -j ACCEPT"
    ));
}

/// What a program of both families lists, without comments and counters.
fn saved(host: &Host, flavour: &str) -> String {
    host.sh(&format!(
        "for family in iptables ip6tables; do $family-{flavour}-save | sed '/^#/d; s/ \\[[0-9:]*\\]//'; done"
    ))
}

/// The lines of [`saved`] that are flannel's, or that are not.
fn lines(saved: &str, of_flannel: bool) -> Vec<&str> {
    let lines = saved.lines();
    lines
        .filter(|line| line.contains("FLANNEL") == of_flannel)
        .collect()
}

/// Starts the nodes of a cluster whose hosts use a flavour.
fn cluster(nodes: usize, net_conf: &str, flavour: &str) -> Cluster {
    let mut cluster = Cluster::idle(nodes, net_conf);
    for node in 1..=nodes {
        use_flavour(cluster.host(node), flavour);
        cluster.start(node, &[RESYNC]);
    }
    for node in 1..=nodes {
        cluster.wait_ready(node);
    }
    cluster.wait_for_peers();
    cluster
}

/// Waits until the rules of a flavour are as before.
#[track_caller]
fn is_restored(host: &Host, flavour: &str, before: &str, what: &str) {
    eventually(&format!("restored after `{what}`"), TIMEOUT, || {
        (lines(&saved(host, flavour), true) == lines(before, true)).then_some(())
    });
}
