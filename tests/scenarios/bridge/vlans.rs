//! VLANs, which need a kernel with VLAN filtering on bridges.

use super::node::{Node, V4, address, conf};
use serde_json::{Value, json};
use tests::{Host, kernel::without_vlan_filtering, scenario};

fn with_filtering() -> Option<String> {
    let probe = "ip link add name br type bridge vlan_filtering 1";
    let filters = Host::new("probe").try_sh(probe).status.success();
    filters.then(|| "this kernel has VLAN filtering on bridges".to_owned())
}

/// A configuration without a gateway.
fn in_vlan(more: Value) -> Value {
    let mut conf = conf(&[V4], more);
    conf["isDefaultGateway"] = json!(false);
    conf
}

/// The VLANs of a pod's port: (ID, flags).
fn vlans(node: &Node, result: &Value) -> Vec<(u64, Vec<String>)> {
    let port = result["interfaces"][1]["name"].as_str().expect("name");
    let shown = node.host.sh(&format!("bridge -j vlan show dev {port}"));
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let list = shown[0]["vlans"].as_array().expect("vlans").iter();
    list.map(|vlan| {
        let flags = vlan["flags"].as_array().into_iter().flatten();
        let flags = flags.map(|flag| flag.as_str().expect("flag").to_owned());
        (vlan["vlan"].as_u64().expect("id"), flags.collect())
    })
    .collect()
}

fn access_flags() -> Vec<String> {
    ["PVID", "Egress Untagged"].map(str::to_owned).into()
}

#[scenario(unless = without_vlan_filtering)]
fn pods_of_different_vlans_are_separated() {
    let node = Node::suite();
    let (a, result) = node.attach("a", &in_vlan(json!({ "vlan": 100 })));
    let (_b, same) = node.attach("b", &in_vlan(json!({ "vlan": 100 })));
    let (_c, other) = node.attach("c", &in_vlan(json!({ "vlan": 200 })));
    assert_eq!(vlans(&node, &result), [(100, access_flags())]);
    a.sh(&format!("ping -c1 -W3 {}", address(&same, 0)));
    let ping = a.try_sh(&format!("ping -c1 -W1 {}", address(&other, 0)));
    assert!(!ping.status.success());

    let mut checked = in_vlan(json!({ "vlan": 100 }));
    checked["prevResult"] = result.clone();
    node.call("CHECK", "a", &checked).ok();
    let port = result["interfaces"][1]["name"].as_str().expect("name");
    node.host.sh(&format!("bridge vlan add dev {port} vid 7"));
    let (_, message) = node.call("CHECK", "a", &checked).error();
    assert!(message.contains("is not in the configured VLANs"));
    for id in ["a", "b", "c"] {
        node.call("DEL", id, &checked).ok();
    }
    node.assert_clean();
}

#[scenario(unless = without_vlan_filtering)]
fn trunk_vlans_are_tagged() {
    let node = Node::suite();
    let spans = json!([{ "minID": 10, "maxID": 12 }, { "id": 20 }]);
    let (_, result) = node.attach("a", &in_vlan(json!({ "vlan": 100, "vlanTrunk": spans })));
    let tagged = |id| (id, Vec::new());
    let wanted = [
        tagged(10),
        tagged(11),
        tagged(12),
        tagged(20),
        (100, access_flags()),
    ];
    assert_eq!(vlans(&node, &result), wanted);
    let (_, result) = node.attach("b", &in_vlan(json!({ "vlanTrunk": [{ "id": 20 }] })));
    assert_eq!(vlans(&node, &result), [(1, access_flags()), tagged(20)]);
    let keeps = json!({ "vlan": 100, "preserveDefaultVlan": true });
    let (_, result) = node.attach("c", &in_vlan(keeps));
    let ids: Vec<u64> = vlans(&node, &result)
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    assert_eq!(ids, [1, 100]);
}

/// Pods of other VLANs cannot reach it.
#[scenario(unless = without_vlan_filtering)]
fn gateway_address_is_on_the_vlans_interface() {
    let node = Node::suite();
    let (a, result) = node.attach("a", &conf(&[V4], json!({ "vlan": 100 })));
    assert_eq!(result["interfaces"][3]["name"], "cni0.100");
    a.sh("ping -c1 -W3 10.244.7.1");
    let other = conf(&["10.9.0.0/24"], json!({ "vlan": 200 }));
    let (b, _) = node.attach("b", &other);
    b.sh("ping -c1 -W3 10.9.0.1");
    let addresses = node.host.sh("ip -4 -o addr show");
    assert!(!addresses.contains(" cni0 "), "{addresses}");
    // a second pod uses the same interface
    let (c, result) = node.attach("c", &conf(&[V4], json!({ "vlan": 100 })));
    assert_eq!(result["interfaces"][3]["name"], "cni0.100");
    c.sh("ping -c1 -W3 10.244.7.1");
}

#[scenario(unless = with_filtering)]
fn kernel_without_vlan_filtering_is_named_as_the_cause() {
    let node = Node::suite();
    node.host.pod("a");
    let (_, message) = node
        .call("ADD", "a", &conf(&[V4], json!({ "vlan": 100 })))
        .error();
    assert!(message.starts_with("failed to create bridge \"cni0\": could not add \"cni0\": "));
    assert!(
        message.ends_with("need a kernel with CONFIG_BRIDGE_VLAN_FILTERING"),
        "{message}"
    );
    node.assert_clean();
}
