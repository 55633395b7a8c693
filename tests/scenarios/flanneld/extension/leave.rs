//! A node that leaves the backend for another one: what the commands did is taken back.

use super::{eventually_has, idle, lines, start_all};
use crate::flanneld::cluster::{Cluster, TIMEOUT};
use serde_json::{Value, json};
use tests::{process::eventually, scenario, subnet_env::eventually_pings};

const RECORD: &str = "/var/lib/flannel/node.commands.json";

/// Routes by commands, each of which leaves a line in /run/ran. Nothing removes the peer 172.31.0.3
/// once the file /run/stuck is there.
fn routes() -> Value {
    json!({
        "PreStartupCommand": "echo data",
        "SubnetAddCommand": "ip route add $SUBNET via $PUBLIC_IP && echo add $SUBNET >> /run/ran",
        "SubnetRemoveCommand": "test $PUBLIC_IP != 172.31.0.3 || test ! -e /run/stuck || exit 7; \
            ip route del $SUBNET; echo remove $SUBNET $PUBLIC_IP $(cat) >> /run/ran",
        "ShutdownCommand": "echo shut down $SUBNET of $NETWORK >> /run/ran",
    })
}

/// Three nodes with the routes, of which the others go over to vxlan while the last is away.
fn left() -> Cluster {
    let mut cluster = idle(3, &routes());
    start_all(&mut cluster, 3);
    for node in 1..=3 {
        let peers = (1..=3).filter(|peer| *peer != node);
        let added: Vec<_> = peers.map(|peer| added(&cluster, peer)).collect();
        eventually_has(&cluster, node, "/run/ran", &added);
    }
    // not by a signal that has ShutdownCommand run
    cluster.kill(3);
    let vxlan = r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;
    cluster.host(1).write("/run/net-conf.json", vxlan);
    cluster
}

fn added(cluster: &Cluster, peer: usize) -> String {
    format!("add {}", cluster.subnet(peer))
}

fn removed(cluster: &Cluster, peer: usize) -> String {
    let subnet = cluster.subnet(peer);
    format!("remove {subnet} 172.31.0.{peer} data")
}

fn shut_down(cluster: &Cluster, node: usize) -> String {
    format!("shut down {} of 10.244.0.0/16", cluster.subnet(node))
}

/// Waits until the commands of these peers are taken back, ShutdownCommand after them.
#[track_caller]
fn wait_until_taken_back(cluster: &Cluster, node: usize, peers: &[usize]) {
    let last = shut_down(cluster, node);
    eventually("ShutdownCommand ran", TIMEOUT, || {
        let ran = cluster.host(node).sh("tail -n 1 /run/ran");
        (ran.trim() == last).then_some(())
    });
    let ran = lines(cluster, node, "/run/ran");
    let of = |word: &str| ran.iter().filter(|line| line.starts_with(word)).count();
    assert_eq!((of("remove"), of("shut")), (peers.len(), 1), "{ran:?}");
    for peer in peers {
        let line = removed(cluster, *peer);
        assert!(ran.contains(&line), "{line}: {ran:?}");
    }
    eventually("the record is gone", TIMEOUT, || {
        let there = cluster
            .host(node)
            .sh(&format!("test ! -e {RECORD} || echo there"));
        there.is_empty().then_some(())
    });
}

/// While it runs, and at a start; not again at the next one, nor at the end.
#[scenario]
fn extension_is_taken_back_when_the_backend_changes() {
    let mut cluster = left();
    wait_until_taken_back(&cluster, 1, &[2, 3]);
    wait_until_taken_back(&cluster, 2, &[1, 3]);
    cluster.start(3, &[]);
    cluster.wait_ready(3);
    wait_until_taken_back(&cluster, 3, &[1, 2]);
    cluster.wait_for_peers();
    let pods: Vec<_> = (1..=3).map(|node| (node, cluster.pod(node))).collect();
    for (node, pod) in &pods {
        for peer in (1..=3).filter(|peer| peer != node) {
            eventually_pings(pod, cluster.host(peer));
        }
    }
    drop(pods);
    let before = lines(&cluster, 2, "/run/ran");
    cluster.stop(2);
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    assert_eq!(lines(&cluster, 2, "/run/ran"), before);
}

/// A command that fails again and again does not keep ShutdownCommand from running, nor is it run
/// for ever.
#[scenario]
fn extension_is_left_although_a_command_fails() {
    let mut cluster = idle(3, &routes());
    start_all(&mut cluster, 3);
    let both = [added(&cluster, 2), added(&cluster, 3)];
    eventually_has(&cluster, 1, "/run/ran", &both);
    cluster.host(1).sh("touch /run/stuck");
    let vxlan = r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;
    cluster.host(1).write("/run/net-conf.json", vxlan);
    wait_until_taken_back(&cluster, 1, &[2]);
    let log = cluster.daemon(1).output();
    let line = "SubnetRemoveCommand failed 5 times for 1 peer: what SubnetAddCommand made stays";
    assert!(log.contains(line), "{log}");
}
