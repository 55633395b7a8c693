//! The whole chain: flannel, bridge, host-local.

use super::node::{DUAL, Node, SUBNET_ENV, conf, recorder};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};
use tests::{
    Case,
    binaries::BIN,
    case,
    peers::{GO_PLUGINS, without_go_plugins},
    scenario, scenarios,
};

#[scenarios]
fn pods_reach_each_other() -> Vec<Case> {
    [("ipv4", &[0][..]), ("ipv6", &[1]), ("dual_stack", &[0, 1])]
        .map(|(name, families)| {
            let name = format!("pods_reach_each_other_with_{name}");
            case(&name, move || family(families))
        })
        .into()
}

const FAMILIES: [(&str, &str); 2] = [
    ("10.244.3.", "10.244.3.1"),
    ("fd00:10:244:3::", "fd00:10:244:3::1"),
];

/// subnet.env with the lines of these families.
fn lease(families: &[usize]) -> String {
    DUAL.lines()
        .filter(|line| {
            let (network, ipv6) = (
                line.contains("NETWORK") || line.contains("SUBNET"),
                line.contains("IPV6"),
            );
            !network || families.contains(&usize::from(ipv6))
        })
        .map(|line| format!("{line}\n"))
        .collect()
}

fn family(families: &[usize]) {
    let node = Node::new();
    node.write(SUBNET_ENV, &lease(families));
    let conf = conf("0.3.1", json!({}));
    let (a, result) = node.attach("a", &conf);
    let (_b, other) = node.attach("b", &conf);
    let ips = result["ips"].as_array().expect("ips");
    assert_eq!(ips.len(), families.len());
    for (index, family) in families.iter().enumerate() {
        let (prefix, gateway) = FAMILIES[*family];
        assert_eq!(ips[index]["gateway"], gateway);
        let peer = other["ips"][index]["address"].as_str().expect("address");
        assert!(peer.starts_with(prefix), "{peer}");
        let peer = peer.split('/').next().expect("ip");
        a.sh(&format!("ping -c1 -W2 {peer} && ping -c1 -W2 {gateway}"));
    }
    assert!(a.sh("ip link show eth0").contains("mtu 1450"));
    assert_eq!(node.reservations().len(), 2 * families.len());

    let saved: Value = serde_json::from_str(&node.read("/var/lib/cni/flannel/a")).expect("state");
    assert_eq!(
        saved["ipam"]["ranges"].as_array().expect("ranges").len(),
        families.len()
    );
    assert_eq!(
        (&saved["ipMasq"], &saved["mtu"]),
        (&json!(false), &json!(1450))
    );
    for id in ["a", "b", "a", "b"] {
        assert_eq!(node.call("DEL", id, &conf).ok().stdout, "");
    }
    node.assert_clean();
}

#[scenario]
fn check_compares_with_the_state_of_add() {
    let node = Node::new();
    let mut conf = conf("1.0.0", json!({}));
    let (pod, result) = node.attach("a", &conf);
    assert_eq!(
        node.call("CHECK", "a", &conf).error(),
        (999, "Required prevResult missing".into())
    );
    conf["prevResult"] = result;
    assert_eq!(node.call("CHECK", "a", &conf).ok().stdout, "");
    // the current lease does not matter
    node.remove(SUBNET_ENV);
    node.call("CHECK", "a", &conf).ok();
    pod.sh("ip route del default");
    let (code, message) = node.call("CHECK", "a", &conf).error();
    assert_eq!(
        (code, message.as_str()),
        (
            999,
            "Expected Route 0.0.0.0/0 via 10.244.3.1 not found in routing table"
        )
    );
    let (_, message) = node.call("CHECK", "b", &conf).error();
    assert!(
        message.contains("/var/lib/cni/flannel/b@eth0 is missing"),
        "{message}"
    );
}

#[scenario]
fn gc_removes_only_invalid_attachments_of_its_network() {
    let node = Node::new();
    let mut conf = conf("1.1.0", json!({}));
    let (a, _) = node.attach("a", &conf);
    node.attach("b", &conf);
    node.attach("c", &conf);
    node.host.sh("ip netns del b; ip netns del c");
    node.write(
        "/var/lib/cni/flannel/other-network",
        r#"{"name":"other","type":"bridge"}"#,
    );
    node.write("/var/lib/cni/flannel/.d@eth0.tmp", "{");
    // without a list every attachment stays
    node.call("GC", "", &conf).ok();
    assert_eq!(node.reservations().len(), 6);

    conf["cni.dev/valid-attachments"] = json!([{ "containerID": "a", "ifname": "eth0" }]);
    assert_eq!(node.call("GC", "", &conf).ok().stdout, "");
    assert_eq!(node.states(), ["a", "a@eth0", "other-network"]);
    assert_eq!(node.reservations().len(), 2);
    a.sh("ping -c1 -W2 10.244.3.1");
    conf["cni.dev/valid-attachments"] = json!([]);
    node.remove(SUBNET_ENV);
    node.call("GC", "", &conf).ok();
    assert_eq!(node.states(), ["other-network"]);
    assert_eq!(node.reservations(), [""; 0]);
}

/// A runtime calls no GC during an ADD, but another runtime, or `cni-suite prune`, may.
#[scenario]
fn gc_leaves_the_files_that_an_add_writes_meanwhile() {
    let node = Node::new();
    let recorder = recorder("1.1.0", json!({}));
    let mut other = recorder.clone();
    other["name"] = json!("other");
    other["cni.dev/valid-attachments"] = json!([]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    node.call("GC", "", &other).ok();
                }
            });
        }
        let failed: Vec<_> = (0..100)
            .map(|n| node.call("ADD", &format!("p{n}"), &recorder))
            .filter(|outcome| outcome.code != 0)
            .collect();
        done.store(true, Ordering::Relaxed);
        assert!(failed.is_empty(), "{failed:?}");
    });
    assert_eq!(node.states().len(), 200);
}

#[scenario(unless = without_go_plugins)]
fn gos_delegates_get_and_print_the_same() {
    let node = Node::new();
    node.host.sh(&format!(
        "rm {BIN}/bridge {BIN}/host-local && cp {GO_PLUGINS}/bridge {GO_PLUGINS}/host-local {BIN}/"
    ));
    let conf = conf("1.0.0", json!({}));
    let (a, result) = node.attach("a", &conf);
    assert_eq!(result["ips"][0]["address"], "10.244.3.2/24");
    a.sh("ping -c1 -W2 10.244.3.1");
    // DEL with ours again, while the pod runs
    node.host.sh(&format!("rm {BIN}/bridge {BIN}/host-local && cd {BIN} && cp -d flannel bridge && cp -d flannel host-local"));
    node.call("DEL", "a", &conf).ok();
    node.assert_clean();
}
