//! What only ours does: undo, a way out of every state, cleaning by name.

use std::{collections::BTreeSet, thread};

use serde_json::{Value, json};
use tests::{Case, case};

use super::node::{Node, V4, V6, address, conf, ip_in};

pub fn cases() -> Vec<Case> {
    vec![
        case("bridge/undo/ipam", undo_ipam),
        case("bridge/undo/gateway", undo_gateway),
        case("bridge/undo/route", undo_route),
        case("bridge/other-address/replaced", other_address_replaced),
        case("bridge/other-address/in-use", other_address_in_use),
        case("bridge/two-ipv4-gateways", two_ipv4_gateways),
        case("bridge/parallel", parallel),
        case("bridge/leftover", leftover),
        case("bridge/del/namespace-unknown", del_without_namespace),
        case(
            "bridge/del/broken-configuration",
            del_with_broken_configuration,
        ),
        case("bridge/own-namespace", own_namespace),
        case("bridge/port", port),
        case("bridge/container-interface-left-down", left_down),
        case("bridge/dad", dad),
        case("bridge/sysctls", sysctls),
        case("bridge/result/1.1", result_1_1),
        case(
            "bridge/result/0.2-without-addresses",
            result_without_addresses,
        ),
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
    pod.sh("ping -c1 -W2 10.244.7.1");
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

fn two_ipv4_gateways() {
    let node = Node::ours();
    let conf = conf(&[V4, "10.9.0.0/24"], json!({}));
    for id in ["a", "b"] {
        let (pod, _) = node.attach(id, &conf);
        pod.sh("ping -c1 -W2 10.244.7.1 && ping -c1 -W2 10.9.0.1");
    }
}

/// 50 at once on a node without a bridge yet.
fn parallel() {
    let node = Node::ours();
    let conf = conf(&[V4, V6], json!({ "hairpinMode": true }));
    let ids: Vec<String> = (0..50).map(|n| format!("pod{n}")).collect();
    for id in &ids {
        node.host.pod(id);
    }
    let results: Vec<Value> = thread::scope(|scope| {
        let (node, conf) = (&node, &conf);
        let threads: Vec<_> = ids
            .iter()
            .map(|id| scope.spawn(move || node.call("ADD", id, conf).ok().json()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("ADD"))
            .collect()
    });
    for family in 0..2 {
        let addresses: BTreeSet<String> = results
            .iter()
            .map(|result| address(result, family))
            .collect();
        assert_eq!(addresses.len(), 50);
    }
    let bridge = &results[0]["interfaces"][0]["mac"];
    assert!(
        results
            .iter()
            .all(|result| &result["interfaces"][0]["mac"] == bridge)
    );
    assert_eq!(node.veths().len(), 50);
    thread::scope(|scope| {
        for id in &ids {
            let (node, conf) = (&node, &conf);
            scope.spawn(move || node.call("DEL", id, conf).ok());
        }
    });
    node.assert_clean();
}

/// An ADD that was killed leaves an interface that is not up: the next ADD of the same container replaces it.
fn leftover() {
    let node = Node::ours();
    let conf = conf(&[V4], json!({}));
    let (pod, _) = node.attach("a", &conf);
    pod.sh("ip link set eth0 down && ip addr flush dev eth0");
    node.call("ADD", "a", &conf).ok();
    pod.sh("ping -c1 -W2 10.244.7.1");
    assert_eq!((node.reservations().len(), node.veths().len()), (1, 1));

    // a stranger's interface of that name is not touched
    let other = node.host.pod("b");
    other.sh("ip link add eth0 type ifb");
    let (_, message) = node.call("ADD", "b", &conf).error();
    assert!(message.starts_with("container veth name (\"eth0\") peer provided (\"veth"));
    other.sh("ip link show eth0 type ifb");
    assert_eq!(node.reservations().len(), 1);
}

/// A runtime that has lost the namespace's path, while the namespace lives on.
fn del_without_namespace() {
    let node = Node::ours();
    let conf = conf(&[V4], json!({}));
    let (pod, _) = node.attach("a", &conf);
    node.cni("a")
        .with("CNI_NETNS", "")
        .call(&node.host, "DEL", "bridge", &conf.to_string())
        .ok();
    node.assert_clean();
    assert!(!pod.try_sh("ip link show eth0").status.success());
}

/// Keys that ADD refuses do not keep DEL from cleaning.
fn del_with_broken_configuration() {
    let node = Node::ours();
    node.attach("a", &conf(&[V4], json!({})));
    let broken = json!({ "vlan": 9999, "mtu": "many", "ipMasqBackend": 7, "args": 3 });
    let call = node.cni("a").with("CNI_ARGS", "nonsense");
    call.call(
        &node.host,
        "DEL",
        "bridge",
        &conf(&[V4], broken).to_string(),
    )
    .ok();
    node.assert_clean();
}

/// The plugin's own namespace is refused before anything is done.
fn own_namespace() {
    let node = Node::ours();
    let conf = conf(&[V4], json!({}));
    let call = node.cni("a").with("CNI_NETNS", "/proc/self/ns/net");
    let (code, _) = call
        .call(&node.host, "ADD", "bridge", &conf.to_string())
        .error();
    assert_eq!(code, 8);
    node.assert_clean();
    assert!(!node.host.try_sh("ip link show cni0").status.success());
}

/// Isolation, promiscuous mode, MTU.
fn port() {
    let node = Node::ours();
    let isolated = conf(
        &[V4],
        json!({ "portIsolation": true, "promiscMode": true, "mtu": 1400 }),
    );
    let (a, result) = node.attach("a", &isolated);
    let (_b, other) = node.attach("b", &isolated);
    let name = result["interfaces"][1]["name"].as_str().expect("name");
    let link = &node.ip(&format!("-d link show {name}"))[0];
    assert_eq!(link["linkinfo"]["info_slave_data"]["isolated"], true);
    assert_eq!(link["mtu"], 1400);
    assert_eq!(ip_in(&a, "link show eth0")[0]["mtu"], 1400);
    let bridge = &node.ip("-d link show cni0")[0];
    assert_eq!(bridge["mtu"], 1400);
    assert!(bridge["promiscuity"].as_u64().expect("promiscuity") > 0);
    a.sh("ping -c1 -W2 10.244.7.1");
    let ping = a.try_sh(&format!("ping -c1 -W1 {}", address(&other, 0)));
    assert!(!ping.status.success(), "isolated ports talk");
}

fn left_down() {
    let node = Node::ours();
    let conf = json!({ "cniVersion": "1.0.0", "name": "net", "type": "bridge", "disableContainerInterface": true });
    let (pod, result) = node.attach("a", &conf);
    assert_eq!(ip_in(&pod, "link show eth0")[0]["operstate"], "DOWN");
    assert_eq!(result["interfaces"].as_array().expect("list").len(), 3);
    let mut with_ipam = conf.clone();
    with_ipam["ipam"] = json!({ "type": "host-local", "ranges": [[{ "subnet": V4 }]] });
    assert_eq!(
        node.call("ADD", "a", &with_ipam).error().1,
        "cannot use IPAM when DisableContainerInterface flag is set"
    );
}

/// Without `enabledad` nothing waits; with it the addresses have been checked when ADD returns, and a duplicate is an error.
fn dad() {
    let node = Node::ours();
    let checked = conf(&[V6], json!({ "enabledad": true }));
    let (pod, _) = node.attach("a", &checked);
    let text = pod.sh("ip -6 addr show eth0; cat /proc/sys/net/ipv6/conf/eth0/accept_dad");
    assert!(
        !text.contains("tentative") && !text.contains("nodad"),
        "{text}"
    );
    assert!(text.trim().ends_with('1'), "{text}");
    pod.sh("ping -c1 -W2 fd00:7::1");

    let (stranger, _) = node.attach("b", &conf(&[V6], json!({})));
    stranger.sh("ip addr add fd00:7::4/64 dev eth0 nodad");
    node.host.pod("c");
    let (_, message) = node.call("ADD", "c", &checked).error();
    assert_eq!(
        message,
        "link eth0 has address fd00:7::4/64 in DADFAILED state"
    );
    assert_eq!((node.reservations().len(), node.veths().len()), (2, 2));
}

fn sysctls() {
    let node = Node::ours();
    node.host.sh(
        "echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding",
    );
    let pod = node.host.pod("a");
    pod.sh("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6");
    node.call("ADD", "a", &conf(&[V4, V6], json!({}))).ok();
    let read = |keys: &str| format!("cd /proc/sys/net && cat {keys} | tr '\\n' ' '");
    let inside = read(
        "ipv4/conf/eth0/arp_notify ipv6/conf/eth0/accept_dad ipv6/conf/eth0/disable_ipv6 ipv6/conf/lo/disable_ipv6 \
         ipv6/conf/eth0/keep_addr_on_down",
    );
    assert_eq!(pod.sh(&inside), "1 0 0 0 1 ");
    let outside = read("ipv4/ip_forward ipv6/conf/all/forwarding ipv6/conf/cni0/accept_ra");
    assert_eq!(node.host.sh(&outside), "1 1 0 ");
    // a port's MAC may be lower than the bridge's: it keeps its own
    let mac = |node: &Node| node.ip("link show cni0")[0]["address"].clone();
    let before = mac(&node);
    node.attach(
        "b",
        &conf(
            &[V4],
            json!({ "runtimeConfig": { "mac": "02:00:00:00:00:01" } }),
        ),
    );
    assert_eq!(mac(&node), before);
}

fn result_1_1() {
    let node = Node::ours();
    let new = conf(
        &[V4],
        json!({ "cniVersion": "1.1.0", "mtu": 1430, "dns": { "nameservers": ["10.0.0.10"] } }),
    );
    let (_, result) = node.attach("a", &new);
    for interface in result["interfaces"].as_array().expect("list") {
        assert_eq!(interface["mtu"], 1430);
    }
    assert_eq!(result["dns"]["nameservers"], json!(["10.0.0.10"]));
    let (_, result) = node.attach("b", &conf(&[V4], json!({})));
    assert!(result["interfaces"][0]["mtu"].is_null());
}

/// A result without addresses cannot be told before 0.3.0: refused before anything is made.
fn result_without_addresses() {
    let node = Node::ours();
    let pod = node.host.pod("a");
    let conf = json!({ "cniVersion": "0.2.0", "name": "net", "type": "bridge" });
    let (code, message) = node.call("ADD", "a", &conf).error();
    assert_eq!(
        (code, message.as_str()),
        (999, "cannot convert: no valid IP addresses")
    );
    assert!(!pod.try_sh("ip link show eth0").status.success());
    node.assert_clean();
}
