//! A step of ADD fails: nothing is left of it, and the error tells the way out.

use super::node::{Node, V4, conf};
use serde_json::json;
use tests::{Case, case};

pub fn cases() -> Vec<Case> {
    vec![
        case("bridge/undo/ipam", undo_ipam),
        case("bridge/undo/gateway", undo_gateway),
        case("bridge/undo/route", undo_route),
        case("bridge/other-address/replaced", other_address_replaced),
        case("bridge/other-address/in-use", other_address_in_use),
    ]
}

/// A range without free addresses: nothing is left, and the error is host-local's.
fn undo_ipam() {
    let node = Node::ours();
    let conf = conf(&["10.9.0.0/30"], json!({}));
    node.attach("a", &conf);
    let pod = node.host.pod("b");
    let (code, message) = node.call("ADD", "b", &conf).error();
    assert_eq!(code, 999);
    assert!(
        message.contains("no IP addresses available in range set"),
        "{message}"
    );
    assert!(!pod.try_sh("ip link show eth0").status.success());
    assert_eq!((node.reservations().len(), node.veths().len()), (1, 1));
}

/// The bridge cannot have its address: the pod's address and device go again.
fn undo_gateway() {
    let node = Node::ours();
    node.attach("a", &conf(&["10.9.0.0/24"], json!({})));
    let pod = node.host.pod("b");
    let (_, message) = node.call("ADD", "b", &conf(&[V4], json!({}))).error();
    assert!(message.starts_with("failed to set bridge addr: "));
    assert!(!pod.try_sh("ip link show eth0").status.success());
    assert_eq!((node.reservations().len(), node.veths().len()), (1, 1));
}

/// A route that the kernel refuses, which is the last step.
fn undo_route() {
    let node = Node::ours();
    node.host.pod("a");
    let mut conf = conf(
        &[V4],
        json!({ "ipMasq": true, "ipMasqBackend": "nftables" }),
    );
    conf["ipam"]["routes"] = json!([{ "dst": "10.0.0.0/8", "gw": "192.0.2.1" }]);
    let (_, message) = node.call("ADD", "a", &conf).error();
    assert!(
        message.starts_with("failed to add route '10.0.0.0/8 via 192.0.2.1 dev eth0 metric 0"),
        "{message}"
    );
    node.assert_clean();
    assert!(!node.host.sh("nft list ruleset").contains("id: a"));
}

/// cni0 has the address of an earlier lease and no ports: it gets the new one.
fn other_address_replaced() {
    let node = Node::ours();
    node.host.sh(
        "ip link add cni0 type bridge && ip link set cni0 up && ip addr add 10.244.3.1/24 dev cni0",
    );
    let (pod, _) = node.attach("a", &conf(&[V4], json!({})));
    let text = node.host.sh("ip -4 -o addr show cni0");
    assert!(
        text.contains("10.244.7.1/24") && !text.contains("10.244.3.1"),
        "{text}"
    );
    pod.sh("ping -c1 -W3 10.244.7.1");
}

/// With a pod of the earlier lease there: an error that tells the ways out, and each of them works.
fn other_address_in_use() {
    let node = Node::ours();
    let old = conf(&["10.244.3.0/24"], json!({}));
    let new = conf(&[V4], json!({}));
    let (_, result) = node.attach("old", &old);
    node.host.pod("new");
    let outcome = node.call("ADD", "new", &new);
    assert_eq!(
        outcome.error().1,
        "failed to set bridge addr: \"cni0\" already has an IP address different from 10.244.7.1/24"
    );
    let details = outcome.json()["details"]
        .as_str()
        .expect("details")
        .to_owned();
    let port = result["interfaces"][1]["name"].as_str().expect("name");
    for hint in [port, "10.244.3.1/24", "forceAddress", "ip link delete cni0"] {
        assert!(details.contains(hint), "{hint} is not in: {details}");
    }
    let forced = conf(&[V4], json!({ "forceAddress": true }));
    node.call("ADD", "new", &forced).ok();
    assert!(!node.host.sh("ip -o addr show cni0").contains("10.244.3.1"));
    for id in ["old", "new"] {
        node.call("DEL", id, &new).ok();
    }
    // once the pods are gone, it heals itself
    node.host
        .sh("ip addr flush dev cni0 && ip addr add 10.244.3.1/24 dev cni0");
    node.call("ADD", "new", &new).ok();
}
