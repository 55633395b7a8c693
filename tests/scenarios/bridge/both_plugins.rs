//! Behaviour that the suite and the Go plugin have in common.

use super::node::{Node, Plugins, V4, V6, address, conf, ip_in};
use serde_json::json;
use std::time::Duration;
use tests::{Case, Pod, case, process::eventually, scenarios};

#[scenarios]
fn both_plugins() -> Vec<Case> {
    let mut cases = Vec::new();
    for (label, plugins) in [("suite", Plugins::Suite), ("debian", Plugins::Debian)] {
        let mut both = |name: &str, run: fn(Plugins)| {
            cases.push(case(&format!("{name}/{label}"), move || run(plugins)));
        };
        both("ipv4_pods_reach_each_other_and_the_gateway", |plugins| {
            attach_and_ping(plugins, &[V4])
        });
        both("ipv6_pods_reach_each_other_and_the_gateway", |plugins| {
            attach_and_ping(plugins, &[V6])
        });
        both(
            "dual_stack_pods_reach_each_other_and_the_gateways",
            |plugins| attach_and_ping(plugins, &[V4, V6]),
        );
        both("hairpin_mode_is_set_on_the_port", hairpin);
        both("interface_name_in_use_is_refused", interface_in_use);
        both("other_link_with_the_bridges_name_is_refused", not_a_bridge);
        both("missing_namespace_fails_add_but_not_del", namespace_gone);
        both("contradictory_configurations_are_refused", refused);
        both("pod_without_ipam_has_an_interface_that_is_up", layer2);
        both("mac_of_runtime_config_wins_over_args_and_cni_args", macs);
    }
    cases
}

/// Two pods: addresses, default route, result, ping, and a clean node after two DELs each.
fn attach_and_ping(plugins: Plugins, subnets: &[&str]) {
    let node = Node::new(plugins);
    let conf = conf(subnets, json!({}));
    let (a, result) = node.attach("a", &conf);
    let (_b, other) = node.attach("b", &conf);

    let interfaces = result["interfaces"].as_array().expect("interfaces");
    assert_eq!(interfaces.len(), 3);
    let bridge = &node.ip("link show cni0")[0];
    assert_eq!(interfaces[0]["name"], "cni0");
    assert_eq!(interfaces[0]["mac"], bridge["address"]);
    let host_end = interfaces[1]["name"].as_str().expect("name");
    let port = &node.ip(&format!("link show {host_end}"))[0];
    assert_eq!(port["master"], "cni0");
    assert_eq!(port["operstate"], "UP");
    assert_eq!(port["address"], interfaces[1]["mac"]);
    let eth0 = &ip_in(&a, "addr show eth0")[0];
    assert_eq!(interfaces[2]["name"], "eth0");
    assert_eq!(interfaces[2]["mac"], eth0["address"]);
    assert_eq!(interfaces[2]["sandbox"], a.path());

    for (n, subnet) in subnets.iter().enumerate() {
        assert_eq!(result["ips"][n]["interface"], 2);
        let ip = address(&result, n);
        let own = eth0["addr_info"].as_array().expect("addresses");
        let own = own.iter().find(|info| info["local"] == ip.as_str());
        assert_ne!(own.expect("address")["tentative"], true);
        let (family, gateway) = match subnet.contains(':') {
            true => ("-6", subnet.replace("/64", "1")),
            false => ("-4", subnet.replace(".0/24", ".1")),
        };
        assert_eq!(result["ips"][n]["gateway"], gateway.as_str());
        let default = &ip_in(&a, &format!("{family} route show default"))[0];
        assert_eq!(default["gateway"], gateway.as_str());
        assert_eq!(default["dev"], "eth0");
        ping(plugins, &a, &address(&other, n));
        ping(plugins, &a, &gateway);
    }
    assert_eq!(node.reservations().len(), 2 * subnets.len());

    for id in ["a", "b"] {
        for _ in 0..2 {
            assert_eq!(node.call("DEL", id, &conf).ok().stdout, "");
        }
    }
    node.assert_clean();
}

/// The Go plugin leaves the bridge's IPv6 address tentative for one to two seconds.
fn ping(plugins: Plugins, pod: &Pod<'_>, address: &str) {
    let command = format!("ping -c1 -W3 {address}");
    match plugins {
        Plugins::Suite => drop(pod.sh(&command)),
        Plugins::Debian => eventually(&command, Duration::from_secs(9), || {
            pod.try_sh(&command).status.success().then_some(())
        }),
    }
}

fn hairpin(plugins: Plugins) {
    let node = Node::new(plugins);
    for (id, on) in [("a", true), ("b", false)] {
        let (_pod, result) = node.attach(id, &conf(&[V4], json!({ "hairpinMode": on })));
        let name = result["interfaces"][1]["name"].as_str().expect("name");
        let port = &node.ip(&format!("-d link show {name}"))[0];
        assert_eq!(port["linkinfo"]["info_slave_data"]["hairpin"], on);
    }
}

fn interface_in_use(plugins: Plugins) {
    let node = Node::new(plugins);
    let (pod, result) = node.attach("a", &conf(&[V4], json!({})));
    let (code, message) = node.call("ADD", "a", &conf(&[V4], json!({}))).error();
    assert_eq!(code, 999);
    assert!(message.contains("already exists"), "{message}");
    // the existing attachment keeps its address and interface
    assert_eq!(node.reservations(), [address(&result, 0)]);
    pod.sh("ip link show eth0 && ping -c1 -W3 10.244.7.1");
}

fn not_a_bridge(plugins: Plugins) {
    let node = Node::new(plugins);
    node.host.sh("ip link add cni0 type ifb");
    node.host.pod("a");
    let (code, message) = node.call("ADD", "a", &conf(&[V4], json!({}))).error();
    assert_eq!(code, 999);
    assert!(message.starts_with("failed to create bridge \"cni0\": "));
    assert!(message.ends_with("\"cni0\" already exists but is not a bridge"));
    node.assert_clean();
}

fn namespace_gone(plugins: Plugins) {
    let node = Node::new(plugins);
    let conf = conf(&[V4], json!({}));
    let (code, message) = node.call("ADD", "a", &conf).error();
    assert_eq!(code, 999);
    assert_eq!(
        message,
        "failed to open netns \"/run/netns/a\": failed to Statfs \"/run/netns/a\": no such file or directory"
    );
    node.call("DEL", "a", &conf).ok();
    let (pod, _) = node.attach("a", &conf);
    pod.delete();
    node.call("DEL", "a", &conf).ok();
    let nowhere = node.cni("a").with("CNI_NETNS", "");
    nowhere
        .call(&node.host, "DEL", "bridge", &conf.to_string())
        .ok();
    assert_eq!(node.reservations(), [""; 0]);
}

fn refused(plugins: Plugins) {
    let node = Node::new(plugins);
    node.host.pod("a");
    for (more, wanted) in [
        (
            json!({ "hairpinMode": true, "promiscMode": true }),
            "cannot set hairpin mode and promiscuous mode at the same time",
        ),
        (
            json!({ "vlan": 4095 }),
            "invalid VLAN ID 4095 (must be between 0 and 4094)",
        ),
    ] {
        let (code, message) = node.call("ADD", "a", &conf(&[V4], more)).error();
        // older releases of the Go plugin end the first with a full stop
        assert_eq!((code, message.trim_end_matches('.')), (999, wanted));
    }
    node.assert_clean();
}

fn layer2(plugins: Plugins) {
    let node = Node::new(plugins);
    let conf = json!({ "cniVersion": "1.0.0", "name": "net", "type": "bridge" });
    let (pod, result) = node.attach("a", &conf);
    assert!(result["ips"].is_null());
    let eth0 = &ip_in(&pod, "addr show eth0")[0];
    assert_eq!(eth0["operstate"], "UP");
    let v4 = |info: &serde_json::Value| info["family"] == "inet";
    assert!(!eth0["addr_info"].as_array().expect("list").iter().any(v4));
    node.call("DEL", "a", &conf).ok();
    node.assert_clean();
}

fn macs(plugins: Plugins) {
    let node = Node::new(plugins);
    let mac = |n: u8| format!("02:00:00:00:00:{n:02x}");
    let by_args = json!({ "args": { "cni": { "mac": mac(2) } } });
    let by_runtime =
        json!({ "args": { "cni": { "mac": mac(2) } }, "runtimeConfig": { "mac": mac(3) } });
    for (id, more, wanted) in [
        ("a", json!({}), mac(1)),
        ("b", by_args, mac(2)),
        ("c", by_runtime, mac(3)),
    ] {
        let pod = node.host.pod(id);
        let args = format!("IgnoreUnknown=1;MAC={}", mac(1));
        let result = node
            .cni(id)
            .with("CNI_ARGS", &args)
            .call(&node.host, "ADD", "bridge", &conf(&[V4], more).to_string())
            .ok()
            .json();
        assert_eq!(result["interfaces"][2]["mac"], wanted.as_str());
        assert_eq!(ip_in(&pod, "link show eth0")[0]["address"], wanted.as_str());
    }
}
