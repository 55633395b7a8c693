//! CHECK, GC and STATUS.

use super::node::{Node, V4, V6, conf, json_of};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};
use tests::scenario;

fn with_result(conf: &Value, result: &Value) -> Value {
    let mut conf = conf.clone();
    conf["prevResult"] = result.clone();
    conf
}

/// Each object that ADD created is removed and restored.
#[scenario]
fn check_names_each_missing_object() {
    let node = Node::suite();
    let conf = conf(
        &[V4, V6],
        json!({ "ipMasq": true, "ipMasqBackend": "nftables", "macspoofchk": true, "hairpinMode": true,
                "portIsolation": true }),
    );
    let (_pod, result) = node.attach("a", &conf);
    let port = result["interfaces"][1]["name"].as_str().expect("name");
    let checked = with_result(&conf, &result);
    node.call("CHECK", "a", &checked).ok();

    let pod = |command: &str| format!("ip -n a {command}");
    let losses = [
        (
            pod("addr del 10.244.7.2/24 dev eth0"),
            "Failed to match addr 10.244.7.2/24 on interface eth0".to_owned(),
            pod("addr add 10.244.7.2/24 dev eth0") + " && ip -n a route add default via 10.244.7.1",
        ),
        (
            pod("route del default"),
            "Expected Route 0.0.0.0/0 via 10.244.7.1 not found in routing table".to_owned(),
            pod("route add default via 10.244.7.1"),
        ),
        (
            format!("ip link set {port} type bridge_slave hairpin off"),
            format!("Bridge port {port} configured hairpin mode true doesn't match current state: false"),
            format!("ip link set {port} type bridge_slave hairpin on"),
        ),
        (
            format!("ip link set {port} type bridge_slave isolated off"),
            format!("Bridge port {port} configured port isolation true doesn't match current state: false"),
            format!("ip link set {port} type bridge_slave isolated on"),
        ),
        (
            format!("ip link set {port} nomaster"),
            "CNI veth created for bridge cni0 was not found".to_owned(),
            format!("ip link set {port} master cni0 && ip link set {port} type bridge_slave hairpin on isolated on"),
        ),
        (
            "ip link set cni0 promisc on".to_owned(),
            "Bridge interface cni0 configured Promisc Mode false doesn't match current state: true ".to_owned(),
            "ip link set cni0 promisc off".to_owned(),
        ),
        (
            "ip addr del 10.244.7.1/24 dev cni0".to_owned(),
            "Bridge interface cni0 does not have the gateway address 10.244.7.1".to_owned(),
            "ip addr add 10.244.7.1/24 dev cni0".to_owned(),
        ),
        (
            "echo 0 > /proc/sys/net/ipv4/ip_forward".to_owned(),
            "net.ipv4.ip_forward is 0: the node does not forward what pods send (sysctl -w net.ipv4.ip_forward=1)"
                .to_owned(),
            "echo 1 > /proc/sys/net/ipv4/ip_forward".to_owned(),
        ),
        (
            "nft flush chain bridge nat PREROUTING".to_owned(),
            "spoof check rules of container a are missing or changed".to_owned(),
            format!(
                "nft 'add rule bridge nat PREROUTING iifname {port} jump cni-br-iface-a-eth0 comment \"macspoofchk-a-eth0\"'"
            ),
        ),
        (
            "nft flush chain inet cni_plugins_masquerade masq_checks".to_owned(),
            "masquerade rules of container a are missing or changed".to_owned(),
            "true".to_owned(),
        ),
    ];
    for (loss, message, repair) in losses {
        node.host.sh(&loss);
        assert_eq!(
            node.call("CHECK", "a", &checked).error(),
            (999, message),
            "{loss}"
        );
        node.host.sh(&repair);
    }
}

#[scenario]
fn check_works_without_ipam() {
    let node = Node::suite();
    let conf = json!({ "cniVersion": "1.0.0", "name": "net", "type": "bridge" });
    let (_pod, result) = node.attach("a", &conf);
    node.call("CHECK", "a", &with_result(&conf, &result)).ok();
    node.host.sh("ip link set cni0 down && ip link delete cni0");
    assert_eq!(
        node.call("CHECK", "a", &with_result(&conf, &result))
            .error()
            .1,
        "Interface name cni0 not found"
    );
}

#[scenario]
fn check_compares_each_claim_of_prev_result() {
    let node = Node::suite();
    let conf = conf(&[V4], json!({}));
    let (_pod, result) = node.attach("a", &conf);
    assert_eq!(
        node.call("CHECK", "a", &conf).error().1,
        "Required prevResult missing"
    );
    let claim = |path: &str, value: &str| {
        let mut result = result.clone();
        *result.pointer_mut(path).expect("path") = json!(value);
        node.call("CHECK", "a", &with_result(&conf, &result))
            .error()
            .1
    };
    let mac = "02:00:00:00:00:99";
    assert_eq!(
        claim("/interfaces/0/mac", mac),
        format!("Bridge interface cni0 Mac doesn't match: {mac}")
    );
    assert!(
        claim("/interfaces/2/mac", mac)
            .starts_with("Interface eth0 Mac 02:00:00:00:00:99 doesn't match")
    );
    assert_eq!(
        claim("/interfaces/2/sandbox", "/run/netns/other"),
        "Sandbox in prevResult /run/netns/other doesn't match configured netns: /run/netns/a"
    );
    assert_eq!(
        claim("/interfaces/1/name", "veth00000000"),
        "CNI veth created for bridge cni0 was not found"
    );
    assert_eq!(
        claim("/ips/0/address", "10.244.7.99/24"),
        "Failed to match addr 10.244.7.99/24 on interface eth0"
    );
}

fn gc_call(node: &Node, conf: &Value, valid: Option<Value>) {
    let mut conf = conf.clone();
    conf["cniVersion"] = json!("1.1.0");
    if let Some(valid) = valid {
        conf["cni.dev/valid-attachments"] = valid;
    }
    node.cni("")
        .with("CNI_NETNS", "")
        .with("CNI_IFNAME", "")
        .call(&node.host, "GC", "bridge", &conf.to_string())
        .ok();
}

/// Valid attachments, other networks' attachments and other programs' links stay.
#[scenario]
fn gc_removes_all_objects_of_stale_attachments() {
    let node = Node::suite();
    let more = json!({ "ipMasq": true, "ipMasqBackend": "nftables", "macspoofchk": true });
    let conf = conf(&[V4], more);
    let mut other = conf.clone();
    other["name"] = json!("other");
    for id in ["stays", "goes1", "goes2"] {
        node.attach(id, &conf);
    }
    node.attach("foreign", &other);
    node.host
        .sh("ip link add vethother type veth peer name peer && ip link set vethother master cni0");
    gc_call(
        &node,
        &conf,
        Some(json!([{ "containerID": "stays", "ifname": "eth0" }])),
    );

    let aliases: Vec<String> = json_of(&node.host.sh("ip -j link show master cni0"))
        .as_array()
        .expect("links")
        .iter()
        .map(|link| link["ifalias"].as_str().unwrap_or("other").to_owned())
        .collect();
    assert_eq!(
        aliases,
        [
            "cni-bridge net stays eth0",
            "cni-bridge other foreign eth0",
            "other"
        ]
    );
    let rules = node.host.sh("nft list ruleset");
    assert!(!rules.contains("goes"), "{rules}");
    for expected in ["id: stays", "id: foreign", "-stays-eth0", "-foreign-eth0"] {
        assert!(rules.contains(expected), "{expected} is not in {rules}");
    }
    node.call("ADD", "goes1", &conf).ok();
}

/// GC of one network while pods of another are added: a rule that is newer than GC's list of links
/// is not an orphan.
#[scenario]
fn gc_leaves_the_spoof_checks_of_pods_that_are_added_meanwhile() {
    let node = Node::suite();
    let checked = conf(&[V4], json!({ "macspoofchk": true }));
    let mut other = conf(&[], json!({}));
    other["name"] = json!("other");
    let ids: Vec<String> = (0..20).map(|n| format!("p{n}")).collect();
    for id in &ids {
        node.host.pod(id);
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    gc_call(&node, &other, Some(json!([])));
                }
            });
        }
        for id in &ids {
            node.call("ADD", id, &checked).ok();
        }
        done.store(true, Ordering::Relaxed);
    });
    let rules = node.host.sh("nft list chain bridge nat PREROUTING");
    for id in &ids {
        let comment = format!("\"macspoofchk-{id}-eth0\"");
        assert!(rules.contains(&comment), "{comment} is not in {rules}");
    }
    for id in &ids {
        node.call("DEL", id, &checked).ok();
    }
    let rules = node.host.sh("nft list ruleset");
    assert!(!rules.contains("cni-br-iface"), "{rules}");
}

#[scenario]
fn gc_without_a_list_removes_nothing() {
    let node = Node::suite();
    let conf = conf(&[V4], json!({}));
    node.attach("a", &conf);
    gc_call(&node, &conf, None);
    assert_eq!((node.reservations().len(), node.veths().len()), (1, 1));
    gc_call(&node, &conf, Some(json!([])));
    node.assert_clean();
}

#[scenario]
fn status_fails_where_another_link_has_the_bridges_name() {
    let node = Node::suite();
    let mut conf = conf(&[V4], json!({}));
    conf["cniVersion"] = json!("1.1.0");
    let status = || {
        node.cni("")
            .with("CNI_NETNS", "")
            .with("CNI_IFNAME", "")
            .call(&node.host, "STATUS", "bridge", &conf.to_string())
    };
    status().ok();
    node.host.sh("ip link add cni0 type ifb");
    assert_eq!(
        status().error(),
        (50, "\"cni0\" already exists but is not a bridge".to_owned())
    );
}
