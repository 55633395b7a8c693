//! What only ours does: many at once, leftovers, cleaning by name, and each key that the Go plugin's older releases lack.

use super::node::{Node, V4, V6, Whose, address, conf, ip_in};
use serde_json::{Value, json};
use std::{collections::BTreeSet, thread};
use tests::{Case, Outcome, case};

pub fn cases() -> Vec<Case> {
    vec![
        case("bridge/two-ipv4-gateways", two_ipv4_gateways),
        case("bridge/parallel", parallel),
        case("bridge/parallel/with-rules", parallel_rules),
        case("bridge/changeover", changeover),
        case("bridge/leftover", leftover),
        case("bridge/long-id", long_id),
        case("bridge/route-keys", route_keys),
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

fn two_ipv4_gateways() {
    let node = Node::ours();
    let conf = conf(&[V4, "10.9.0.0/24"], json!({}));
    for id in ["a", "b"] {
        let (pod, _) = node.attach(id, &conf);
        pod.sh("ping -c1 -W3 10.244.7.1 && ping -c1 -W3 10.9.0.1");
    }
}

/// Runs a verb for all containers at once.
fn all(node: &Node, verb: &str, ids: &[String], conf: &Value) -> Vec<Outcome> {
    thread::scope(|scope| {
        let threads: Vec<_> = ids
            .iter()
            .map(|id| scope.spawn(move || node.call(verb, id, conf).ok()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("call"))
            .collect()
    })
}

fn pods(node: &Node, count: usize) -> Vec<String> {
    let ids: Vec<String> = (0..count).map(|n| format!("pod{n}")).collect();
    for id in &ids {
        node.host.pod(id);
    }
    ids
}

/// 50 at once on a node without a bridge yet.
fn parallel() {
    let node = Node::ours();
    let conf = conf(&[V4, V6], json!({ "hairpinMode": true }));
    let ids = pods(&node, 50);
    let results: Vec<Value> = all(&node, "ADD", &ids, &conf)
        .iter()
        .map(Outcome::json)
        .collect();
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
    all(&node, "DEL", &ids, &conf);
    node.assert_clean();
}

/// 16 at once on a node without any rule yet, with both back ends.
fn parallel_rules() {
    for backend in ["nftables", "iptables"] {
        let node = Node::ours();
        let more = json!({ "ipMasq": true, "ipMasqBackend": backend, "macspoofchk": true });
        let conf = conf(&[V4, V6], more);
        let ids = pods(&node, 16);
        let results = all(&node, "ADD", &ids, &conf);
        for (id, result) in ids.iter().zip(&results) {
            let mut checked = conf.clone();
            checked["prevResult"] = result.json();
            node.call("CHECK", id, &checked).ok();
        }
        all(&node, "DEL", &ids, &conf);
        node.assert_clean();
        let rules = node
            .host
            .sh("nft list ruleset; iptables-save -t nat; ip6tables-save -t nat");
        assert!(!rules.contains("pod"), "{rules}");
    }
}

/// Ids have no limit of their own; the kernel's names have.
fn long_id() {
    let node = Node::ours();
    let conf = conf(
        &[V4],
        json!({ "ipMasq": true, "ipMasqBackend": "nftables" }),
    );
    let id = "a".repeat(250);
    let pod = node.host.pod("a");
    let call = |verb: &str| {
        node.cni(&id).with("CNI_NETNS", "/run/netns/a").call(
            &node.host,
            verb,
            "bridge",
            &conf.to_string(),
        )
    };
    call("ADD").ok();
    pod.sh("ping -c1 -W3 10.244.7.1");
    call("DEL").ok();
    node.assert_clean();
    assert!(!node.host.sh("nft list ruleset").contains("aaaa"));
}

/// What a route of a 1.1 configuration can say, and a destination with host bits.
fn route_keys() {
    let node = Node::ours();
    let mut conf = conf(&[V4], json!({ "cniVersion": "1.1.0" }));
    conf["ipam"]["routes"] = json!([
        { "dst": "10.1.2.3/8", "mtu": 1300, "advmss": 1200, "priority": 50 },
        { "dst": "192.0.2.0/24", "table": 99, "scope": 0 },
    ]);
    let (pod, result) = node.attach("a", &conf);
    let route = pod.sh("ip route show 10.0.0.0/8");
    assert_eq!(
        route.trim(),
        "10.0.0.0/8 via 10.244.7.1 dev eth0 metric 50 mtu 1300 advmss 1200"
    );
    let route = pod.sh("ip route show table 99");
    assert_eq!(route.trim(), "192.0.2.0/24 via 10.244.7.1 dev eth0");
    conf["prevResult"] = result;
    node.call("CHECK", "a", &conf).ok();
}

/// A node goes from the Go plugins to ours and back with pods running: they talk, and each side checks and removes what the other
/// made.
fn changeover() {
    let node = Node::new(Whose::Debian);
    let conf = conf(&[V4, V6], json!({ "hairpinMode": true, "ipMasq": true }));
    let checked = |result: &Value| {
        let mut conf = conf.clone();
        conf["prevResult"] = result.clone();
        conf
    };
    let (_, old) = node.attach("old", &conf);
    let node = node.with_plugins_of(Whose::Ours);
    let (pod, new) = node.attach("new", &conf);
    for family in 0..2 {
        pod.sh(&format!("ping -c1 -W3 {}", address(&old, family)));
    }
    node.call("CHECK", "old", &checked(&old)).ok();
    node.call("CHECK", "new", &checked(&new)).ok();
    node.call("DEL", "old", &checked(&old)).ok();
    let node = node.with_plugins_of(Whose::Debian);
    node.call("CHECK", "new", &checked(&new)).ok();
    node.attach("newer", &conf);
    for id in ["new", "newer"] {
        node.call("DEL", id, &conf).ok();
    }
    node.assert_clean();
    let rules = node
        .host
        .sh("nft list ruleset; iptables-save -t nat; ip6tables-save -t nat");
    assert!(!rules.contains("CNI-"), "{rules}");
}

/// An ADD that was killed leaves an interface that is not up: the next ADD of the same container replaces it.
fn leftover() {
    let node = Node::ours();
    let conf = conf(&[V4], json!({}));
    let (pod, _) = node.attach("a", &conf);
    pod.sh("ip link set eth0 down && ip addr flush dev eth0");
    node.call("ADD", "a", &conf).ok();
    pod.sh("ping -c1 -W3 10.244.7.1");
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
    a.sh("ping -c1 -W3 10.244.7.1");
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
    pod.sh("ping -c1 -W3 fd00:7::1");

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
