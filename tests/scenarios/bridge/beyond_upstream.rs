//! Behaviour beyond the Go plugin's older releases: concurrent calls, leftovers of killed calls,
//! clean-up by name, and newer keys.

use super::node::{Node, Plugins, V4, V6, address, conf, ip_in};
use serde_json::{Value, json};
use std::{collections::BTreeSet, thread, time::Duration};
use tests::{Outcome, process::eventually, scenario};

#[scenario]
fn two_ipv4_gateways_answer() {
    let node = Node::suite();
    let conf = conf(&[V4, "10.9.0.0/24"], json!({}));
    for id in ["a", "b"] {
        let (pod, _) = node.attach(id, &conf);
        pod.sh("ping -c1 -W3 10.244.7.1 && ping -c1 -W3 10.9.0.1");
    }
}

/// Runs a verb for all containers concurrently.
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

/// On a node without a bridge.
#[scenario]
fn concurrent_adds_create_one_bridge_and_distinct_addresses() {
    let node = Node::suite();
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

/// On a node without rules, with both backends of `ipMasq`.
#[scenario]
fn concurrent_adds_and_dels_leave_the_right_rules() {
    for backend in ["nftables", "iptables"] {
        let node = Node::suite();
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

/// CNI does not limit the length of an id, but the kernel limits names.
#[scenario]
fn long_container_id_works() {
    let node = Node::suite();
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

/// The keys of CNI 1.1, and a destination with host bits.
#[scenario]
fn route_keys_reach_the_kernel() {
    let node = Node::suite();
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

/// A node changes from the Go plugins to the suite and back while pods run.
#[scenario]
fn suite_and_go_plugins_check_and_delete_each_others_attachments() {
    let node = Node::new(Plugins::Debian);
    let conf = conf(&[V4, V6], json!({ "hairpinMode": true, "ipMasq": true }));
    let checked = |result: &Value| {
        let mut conf = conf.clone();
        conf["prevResult"] = result.clone();
        conf
    };
    let (_, old) = node.attach("old", &conf);
    let node = node.with_plugins(Plugins::Suite);
    let (pod, new) = node.attach("new", &conf);
    for family in 0..2 {
        pod.sh(&format!("ping -c1 -W3 {}", address(&old, family)));
    }
    node.call("CHECK", "old", &checked(&old)).ok();
    node.call("CHECK", "new", &checked(&new)).ok();
    node.call("DEL", "old", &checked(&old)).ok();
    let node = node.with_plugins(Plugins::Debian);
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

/// A killed ADD leaves an interface that is down.
#[scenario]
fn next_add_replaces_the_leftover_of_a_killed_one() {
    let node = Node::suite();
    let conf = conf(&[V4], json!({}));
    let (pod, _) = node.attach("a", &conf);
    pod.sh("ip link set eth0 down && ip addr flush dev eth0");
    node.call("ADD", "a", &conf).ok();
    pod.sh("ping -c1 -W3 10.244.7.1");
    assert_eq!((node.reservations().len(), node.veths().len()), (1, 1));

    // another program's interface of that name stays
    let other = node.host.pod("b");
    other.sh("ip link add eth0 type ifb");
    let (_, message) = node.call("ADD", "b", &conf).error();
    assert!(message.starts_with("container veth name (\"eth0\") peer provided (\"veth"));
    other.sh("ip link show eth0 type ifb");
    assert_eq!(node.reservations().len(), 1);
}

/// With an IPAM plugin that has a store, and with one that has none.
#[scenario]
fn an_id_and_interface_of_a_pod_that_exists_are_refused() {
    let static_ipam = json!({ "type": "static", "addresses": [{ "address": "10.244.7.9/24" }] });
    for ipam in [conf(&[V4], json!({}))["ipam"].clone(), static_ipam] {
        let node = Node::suite();
        let conf = conf(&[V4], json!({ "ipam": ipam }));
        let (first, _) = node.attach("a", &conf);
        let other = node.host.pod("other");
        let add = || {
            let cni = node.cni("a").with("CNI_NETNS", &other.path());
            cni.call(&node.host, "ADD", "bridge", &conf.to_string())
        };
        let (code, message) = add().error();
        assert_eq!(code, 999, "{message}");
        let reservations = node.reservations();
        assert_eq!(node.veths().len(), 1);
        first.sh("ping -c1 -W3 10.244.7.1");
        // the runtime lost the pod
        first.delete();
        let taken_over = || (add().code == 0).then_some(());
        eventually("the first pod is gone", Duration::from_secs(20), taken_over);
        other.sh("ping -c1 -W3 10.244.7.1");
        assert_eq!(node.reservations(), reservations);
    }
}

/// The namespace still exists.
#[scenario]
fn del_without_the_namespaces_path_cleans_up() {
    let node = Node::suite();
    let conf = conf(&[V4], json!({}));
    let (pod, _) = node.attach("a", &conf);
    node.cni("a")
        .with("CNI_NETNS", "")
        .call(&node.host, "DEL", "bridge", &conf.to_string())
        .ok();
    node.assert_clean();
    assert!(!pod.try_sh("ip link show eth0").status.success());
}

#[scenario]
fn del_cleans_up_with_keys_that_add_refuses() {
    let node = Node::suite();
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

#[scenario]
fn own_namespace_is_refused_before_any_change() {
    let node = Node::suite();
    let conf = conf(&[V4], json!({}));
    let call = node.cni("a").with("CNI_NETNS", "/proc/self/ns/net");
    let (code, _) = call
        .call(&node.host, "ADD", "bridge", &conf.to_string())
        .error();
    assert_eq!(code, 8);
    node.assert_clean();
    assert!(!node.host.try_sh("ip link show cni0").status.success());
}

#[scenario]
fn isolation_promiscuous_mode_and_mtu_are_set() {
    let node = Node::suite();
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
    assert!(!ping.status.success(), "isolated ports reach each other");
}

#[scenario]
fn container_interface_stays_down_on_request() {
    let node = Node::suite();
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

#[scenario]
fn add_waits_for_duplicate_address_detection_on_request() {
    let node = Node::suite();
    let checked = conf(&[V6], json!({ "enabledad": true }));
    let (pod, _) = node.attach("a", &checked);
    let text = pod.sh("ip -6 addr show eth0; cat /proc/sys/net/ipv6/conf/eth0/accept_dad");
    assert!(
        !text.contains("tentative") && !text.contains("nodad"),
        "{text}"
    );
    assert!(text.trim().ends_with('1'), "{text}");
    pod.sh("ping -c1 -W3 fd00:7::1");

    let (other_pod, _) = node.attach("b", &conf(&[V6], json!({})));
    other_pod.sh("ip addr add fd00:7::4/64 dev eth0 nodad");
    node.host.pod("c");
    let (_, message) = node.call("ADD", "c", &checked).error();
    assert_eq!(
        message,
        "link eth0 has address fd00:7::4/64 in DADFAILED state"
    );
    assert_eq!((node.reservations().len(), node.veths().len()), (2, 2));
}

#[scenario]
fn sysctls_are_set_in_the_pod_and_on_the_node() {
    let node = Node::suite();
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
    // a bridge without a fixed MAC would take the lower MAC of this port
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

#[scenario]
fn result_of_version_1_1_shows_the_mtu() {
    let node = Node::suite();
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

/// Results before 0.3.0 need an address.
#[scenario]
fn pod_without_ipam_is_refused_before_version_0_3_0() {
    let node = Node::suite();
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
