//! State files that are shared, damaged, of Go's plugin, or without a lease.

use super::node::{Node, SUBNET_ENV, conf};
use serde_json::json;
use tests::scenario;

#[scenario]
fn attachments_of_one_container_are_independent() {
    let node = Node::new();
    let conf = conf("0.3.1", json!({ "delegate": {} }));
    let (pod, _) = node.attach("a", &conf);
    let net1 = node.cni("a").with("CNI_IFNAME", "net1");
    let of_net1 = |verb| net1.call(&node.host, verb, "flannel", &conf.to_string());
    of_net1("ADD").ok();
    assert_eq!(node.states(), ["a", "a@eth0", "a@net1"]);
    assert_eq!(node.reservations().len(), 4);
    for _ in 0..2 {
        of_net1("DEL").ok();
    }
    assert_eq!(node.states(), ["a", "a@eth0"]);
    assert_eq!(node.reservations().len(), 2);
    pod.sh("ping -c1 -W2 10.244.3.1");
    node.call("DEL", "a", &conf).ok();
    node.assert_clean();
}

#[scenario]
fn second_add_fails_and_changes_nothing() {
    let node = Node::new();
    let conf = conf("0.3.1", json!({}));
    let (pod, _) = node.attach("a", &conf);
    let (_, message) = node.call("ADD", "a", &conf).error();
    assert!(message.contains("already exists"), "{message}");
    pod.sh("ping -c1 -W2 10.244.3.1");
    assert_eq!(node.reservations().len(), 2);
    node.call("DEL", "a", &conf).ok();
    node.assert_clean();
}

/// With the contents that a power loss leaves, with and without subnet.env.
#[scenario]
fn del_works_with_a_damaged_state() {
    let node = Node::new();
    let conf = conf("0.3.1", json!({}));
    for (index, bytes) in ["", "{\"cniVersion\":\"0.3.1\",\"hairp", "\0\0\0\0"]
        .iter()
        .enumerate()
    {
        let id = format!("c{index}");
        node.attach(&id, &conf);
        node.write(&format!("/var/lib/cni/flannel/{id}"), bytes);
        if index > 0 {
            node.host.sh(&format!("rm -f {SUBNET_ENV}"));
        }
        let del = node.call("DEL", &id, &conf).ok();
        assert!(del.stderr.contains("is damaged"), "{}", del.stderr);
        node.assert_clean();
        node.write(SUBNET_ENV, super::node::DUAL);
    }
}

/// What no plugin wrote has the name of the state file: DEL neither reads it nor waits for it.
#[scenario]
fn del_works_with_what_is_no_state_file() {
    let node = Node::new();
    let conf = conf("0.3.1", json!({}));
    for (id, command, reason) in [
        ("a", "truncate -s 40M", "it is larger than 33554432 bytes"),
        ("b", "mkfifo", "it is not a regular file"),
    ] {
        node.attach(id, &conf);
        let file = format!("/var/lib/cni/flannel/{id}@eth0");
        node.host.sh(&format!(
            "cd /var/lib/cni/flannel && rm {id} {id}@eth0 && {command} {file}"
        ));
        let del = node.call("DEL", id, &conf).ok();
        let says = format!("{file}: {reason}");
        assert!(del.stderr.contains(&says), "{}", del.stderr);
        node.assert_clean();
    }
}

/// Upstream's file has one name and one inode.
#[scenario]
fn state_of_gos_plugin_is_used() {
    let node = Node::new();
    let conf = conf("0.3.1", json!({}));
    node.attach("a", &conf);
    node.host
        .sh("cd /var/lib/cni/flannel && cp a copy && rm a a@eth0 && mv copy a");
    node.call("DEL", "a", &conf).ok();
    node.assert_clean();
}

/// As after a reboot, before flanneld runs.
#[scenario]
fn del_needs_neither_subnet_env_nor_namespace() {
    let node = Node::new();
    let conf = conf("0.3.1", json!({}));
    let (pod, _) = node.attach("a", &conf);
    node.remove(SUBNET_ENV);
    pod.delete();
    node.cni("a")
        .with("CNI_NETNS", "")
        .call(&node.host, "DEL", "flannel", &conf.to_string())
        .ok();
    assert_eq!(node.states(), [""; 0]);
    assert_eq!(node.reservations(), [""; 0]);
}
