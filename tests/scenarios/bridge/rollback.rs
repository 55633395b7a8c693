//! A step of ADD fails: ADD is rolled back, and the error names the remedy.

use super::node::{Node, V4, conf};
use serde_json::json;
use tests::scenario;

#[scenario]
fn exhausted_range_leaves_nothing() {
    let node = Node::suite();
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

/// The bridge has another address that is in use.
#[scenario]
fn failed_gateway_address_is_rolled_back() {
    let node = Node::suite();
    node.attach("a", &conf(&["10.9.0.0/24"], json!({})));
    let pod = node.host.pod("b");
    let (_, message) = node.call("ADD", "b", &conf(&[V4], json!({}))).error();
    assert!(message.starts_with("failed to set bridge addr: "));
    assert!(!pod.try_sh("ip link show eth0").status.success());
    assert_eq!((node.reservations().len(), node.veths().len()), (1, 1));
}

/// The last step fails: the kernel refuses a route.
#[scenario]
fn failed_route_is_rolled_back() {
    let node = Node::suite();
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

/// The bridge has the address of an earlier lease.
#[scenario]
fn other_address_of_a_bridge_without_ports_is_replaced() {
    let node = Node::suite();
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

/// The bridge has a pod of an earlier lease. Each remedy of the error works.
#[scenario]
fn other_address_in_use_is_an_error_with_remedies() {
    let node = Node::suite();
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
    // without pods, the next ADD replaces the address
    node.host
        .sh("ip addr flush dev cni0 && ip addr add 10.244.3.1/24 dev cni0");
    node.call("ADD", "new", &new).ok();
}
