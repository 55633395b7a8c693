//! The backend ipsec beside Go flannel's, and ours in its place and back.

use super::cluster::{Cluster, TIMEOUT};
use std::process::Command;
use tests::{
    Case, Host,
    binaries::program,
    case,
    charon::{EndCharon, Wire, without_charon},
    go_flanneld::without_etcd_and_go_flanneld,
    kernel::without_esp,
    process::eventually,
    scenarios, subnet_env, underlay,
};

/// The configuration socket of Go's charon: that of every charon which has no other settings.
const GO_SOCKET: &str = "unix:///var/run/charon.vici";
const OUR_SOCKET: &str = "unix:///run/flannel/charon/charon.vici";

fn without_esp_and_go() -> Option<String> {
    without_charon()
        .or_else(without_esp)
        .or_else(without_etcd_and_go_flanneld)
}

#[scenarios(unless = without_esp_and_go)]
fn ipsec() -> Vec<Case> {
    let makes = |name: &str, keys: &'static str, kind: &'static str| {
        let name = format!("ipsec_nodes_of_both_makes_reach_each_other_{name}");
        case(&name, move || both_makes(keys, kind))
    };
    let other = r#","ESPProposal":"aes256-sha256-modp2048""#;
    vec![
        makes("by_esp", "", "encrypted"),
        makes("by_esp_in_udp", r#","UDPEncap":true"#, "encrypted_in_udp"),
        makes("with_another_proposal", other, "encrypted"),
    ]
}

/// Node 1 runs the Go flanneld, node 2 ours, each with a charon of its own; both publish the same,
/// and ask kernel and charon for the same. Ours restarts and loses nothing; Go ends its charon with
/// itself, so that new keys are made. Then ours takes node 1 over, and Go takes it back.
fn both_makes(keys: &str, kind: &str) {
    let psk = "0123456789abcdef".repeat(6);
    let backend = format!(r#"{{"Type":"ipsec","PSK":"{psk}"{keys}}}"#);
    let net_conf =
        format!(r#"{{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{backend}}}"#);
    let mut cluster = Cluster::beside_go(2, &net_conf);
    let _end = EndCharon::of(&cluster.underlay.hosts);
    encrypted_only(&cluster, kind);
    assert_eq!(cluster.published(1), cluster.published(2));
    assert_eq!(cluster.env(1, "FLANNEL_MTU"), cluster.env(2, "FLANNEL_MTU"));
    assert_eq!(policies(&cluster, 1), policies(&cluster, 2));
    assert_eq!(
        connections(&cluster, 1, GO_SOCKET),
        connections(&cluster, 2, OUR_SOCKET)
    );
    let (leases, subnet) = (cluster.leases(), cluster.env(1, "FLANNEL_SUBNET"));

    let pings = [cluster.ping(1, 2), cluster.ping(2, 1)];
    cluster.stop(2);
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    pings.into_iter().for_each(|pings| pings.lose_nothing());

    cluster.stop(1);
    cluster.start_go(1);
    cluster.wait_ready(1);
    cluster.all_ping(&[1, 2]);

    cluster.stop(1);
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    cluster.all_ping(&[1, 2]);

    // our charon outlives flanneld, and Go needs its port
    cluster.stop(1);
    let mut cleanup = Command::new(program("flanneld"));
    cleanup.arg("cleanup");
    let output = cluster.host(1).output(cleanup, "");
    assert!(output.status.success(), "{output:?}");
    cluster.start_go(1);
    cluster.wait_ready(1);
    cluster.all_ping(&[1, 2]);
    encrypted_only(&cluster, kind);
    assert_eq!(cluster.leases(), leases);
    assert_eq!(cluster.env(1, "FLANNEL_SUBNET"), subnet);
}

/// Both ends get packets of that kind, and none of a pod in clear text.
fn encrypted_only(cluster: &Cluster, kind: &str) {
    let wires = [1, 2].map(|node| Wire::watch(cluster.host(node)));
    let before = wires.each_ref().map(|wire| wire.packets(kind));
    let pod = subnet_env::pod_addresses(cluster.host(2));
    let ping = format!("ip netns exec pod ping -n -c 5 -i 0.1 -W 2 {}", pod[0]);
    cluster.host(1).sh(&ping);
    for (wire, before) in wires.iter().zip(before) {
        let carried = wire.packets(kind) - before;
        assert!(carried >= 5, "{carried} packets {kind}");
        assert_eq!(wire.packets("clear_text"), 0);
    }
}

/// Replaces the node's own values and those of the other node by names, so that the text is that of
/// the other node too.
fn with_names(cluster: &Cluster, node: usize, text: &str) -> String {
    let peer = 3 - node;
    let subnet = |node| {
        cluster
            .env(node, "FLANNEL_SUBNET")
            .replace(".1/24", ".0/24")
    };
    text.replace(&subnet(node), "OWN-SUBNET")
        .replace(&subnet(peer), "PEER-SUBNET")
        .replace(&underlay::ip(node), "OWN")
        .replace(&underlay::ip(peer), "PEER")
}

/// Each policy with its template in one line, as `ip` shows them.
fn policies(cluster: &Cluster, node: usize) -> Vec<String> {
    let text = with_names(cluster, node, &cluster.host(node).sh("ip xfrm policy"));
    let policies = text.replace("\n\t", " ").replace('\t', "");
    // those of charon's sockets have no direction
    let policies = policies.lines().filter(|policy| policy.contains(" dir "));
    let mut policies: Vec<_> = policies.map(str::to_owned).collect();
    policies.sort();
    assert_eq!(policies.len(), 3, "{text}");
    policies
}

/// What charon knows about the other node, except how often it asks whether that is alive.
fn connections(cluster: &Cluster, node: usize, socket: &str) -> Vec<String> {
    let list = format!("swanctl --list-conns --uri {socket}");
    let host: &Host = cluster.host(node);
    let text = eventually("charon has a connection", TIMEOUT, || {
        let output = host.try_sh(&list);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (!text.trim().is_empty()).then_some(text)
    });
    let text = with_names(cluster, node, &text);
    let lines = text.lines().map(|line| {
        let line = line
            .split_once(", dpd delay")
            .map_or(line, |(line, _)| line);
        line.trim().to_owned()
    });
    // what Go says and ours leaves out: any identity, which is charon's default
    let lines = lines.filter(|line| line != "id: %any");
    lines.collect()
}
