//! flannel -> bridge -> host-local, whole.

use super::node::{BIN, DUAL, Node, SUBNET_ENV, conf};
use serde_json::{Value, json};
use tests::{Case, case};

pub fn cases() -> Vec<Case> {
    vec![
        case("flannel/v4", || family(&[0])),
        case("flannel/v6", || family(&[1])),
        case("flannel/dual", || family(&[0, 1])),
        case("flannel/check", check),
        case("flannel/gc", gc),
        case("flannel/debian-delegates", debian_delegates),
    ]
}

const FAMILIES: [(&str, &str); 2] = [
    ("10.244.3.", "10.244.3.1"),
    ("fd00:10:244:3::", "fd00:10:244:3::1"),
];

/// The lines of one family, or both, and the rest.
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

fn check() {
    let node = Node::new();
    let mut conf = conf("1.0.0", json!({}));
    let (pod, result) = node.attach("a", &conf);
    assert_eq!(
        node.call("CHECK", "a", &conf).error(),
        (999, "Required prevResult missing".into())
    );
    conf["prevResult"] = result;
    assert_eq!(node.call("CHECK", "a", &conf).ok().stdout, "");
    // a lease that has changed since does not matter
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

/// Of three attachments one is valid; a state of another network is none of ours.
fn gc() {
    let node = Node::new();
    let mut conf = conf("1.1.0", json!({}));
    let (a, _) = node.attach("a", &conf);
    node.attach("b", &conf);
    node.attach("c", &conf);
    node.host.sh("ip netns del b; ip netns del c");
    node.write(
        "/var/lib/cni/flannel/stranger",
        r#"{"name":"other","type":"bridge"}"#,
    );
    node.write("/var/lib/cni/flannel/.d@eth0.tmp", "{");
    // without a list nothing is known to be gone
    node.call("GC", "", &conf).ok();
    assert_eq!(node.reservations().len(), 6);

    conf["cni.dev/valid-attachments"] = json!([{ "containerID": "a", "ifname": "eth0" }]);
    assert_eq!(node.call("GC", "", &conf).ok().stdout, "");
    assert_eq!(node.states(), ["a", "a@eth0", "stranger"]);
    assert_eq!(node.reservations().len(), 2);
    a.sh("ping -c1 -W2 10.244.3.1");
    conf["cni.dev/valid-attachments"] = json!([]);
    node.remove(SUBNET_ENV);
    node.call("GC", "", &conf).ok();
    assert_eq!(node.states(), ["stranger"]);
    assert_eq!(node.reservations(), [""; 0]);
}

/// Delegates that are Go programs get the same and give the same.
fn debian_delegates() {
    let node = Node::new();
    node.host.sh(&format!(
        "rm {BIN}/bridge {BIN}/host-local && cp /usr/lib/cni/bridge /usr/lib/cni/host-local {BIN}/"
    ));
    let conf = conf("1.0.0", json!({}));
    let (a, result) = node.attach("a", &conf);
    assert_eq!(result["ips"][0]["address"], "10.244.3.2/24");
    a.sh("ping -c1 -W2 10.244.3.1");
    // and back to ours with the pod running
    node.host.sh(&format!("rm {BIN}/bridge {BIN}/host-local && cd {BIN} && cp -d flannel bridge && cp -d flannel host-local"));
    node.call("DEL", "a", &conf).ok();
    node.assert_clean();
}
