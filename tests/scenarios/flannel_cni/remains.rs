//! DEL finds its way from whatever is left.

use super::node::{Node, SUBNET_ENV, conf};
use serde_json::json;
use tests::{Case, case};

pub fn cases() -> Vec<Case> {
    vec![
        case("flannel/state/two-attachments", two_attachments),
        case("flannel/state/in-use", in_use),
        case("flannel/state/damaged", damaged),
        case("flannel/state/left-by-go", left_by_go),
        case("flannel/state/no-lease", no_lease),
    ]
}

/// Two interfaces of one container: deleting the one, twice, leaves the other alone.
fn two_attachments() {
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

/// A second ADD of a living attachment fails and harms nothing.
fn in_use() {
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

/// What a power loss leaves, with and without a lease, by name and by upstream's.
fn damaged() {
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

/// The file that upstream writes: one name, one inode.
fn left_by_go() {
    let node = Node::new();
    let conf = conf("0.3.1", json!({}));
    node.attach("a", &conf);
    node.host
        .sh("cd /var/lib/cni/flannel && cp a copy && rm a a@eth0 && mv copy a");
    node.call("DEL", "a", &conf).ok();
    node.assert_clean();
}

/// DEL on a node whose flanneld has not come back, of a pod whose namespace has not either.
fn no_lease() {
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
