//! DEL depends on nothing but the container: whatever else the runtime passes, it succeeds.

use serde_json::{Value, json};
use tests::{Cni, Host, binaries::BIN, scenario};

const PLUGINS: [&str; 9] = [
    "bandwidth",
    "bridge",
    "firewall",
    "flannel",
    "host-local",
    "loopback",
    "portmap",
    "static",
    "tuning",
];

/// A configuration of network `net` with these keys.
fn config(plugin: &str, keys: &Value) -> Value {
    let mut config = json!({ "cniVersion": "1.0.0", "name": "net", "type": plugin });
    for (key, value) in keys.as_object().expect("object") {
        config[key] = value.clone();
    }
    config
}

/// Configurations with what DEL does not need in a wrong form, as text.
fn configurations(plugin: &str) -> Vec<String> {
    let wrong = [
        json!({ "bridge": 5, "mtu": "x", "vlan": [], "ipMasq": "maybe", "isGateway": {} }),
        json!({ "ipam": 5, "dns": "x", "capabilities": [1], "prevResult": "x", "args": 5 }),
        json!({ "ipam": { "type": "host-local", "ranges": "x", "dataDir": [], "routes": 5 } }),
        json!({ "ipam": { "type": [], "subnet": 5 }, "runtimeConfig": 5, "cniVersion": 5 }),
        json!({ "runtimeConfig": { "portMappings": [{ "hostPort": "x" }], "mac": 5 } }),
        json!({ "delegate": 5, "subnetFile": 5, "dataDir": [], "type": 5 }),
        json!({ "delegate": { "type": 5 }, "backend": 5, "snat": "x", "markMasqBit": 1.5 }),
        json!({ "sysctl": 5, "ingressRate": "x", "conditionsV4": 5, "ingressPolicy": "x" }),
        json!({ "cni.dev/valid-attachments": 5, "cni.dev/attachments": [5] }),
    ];
    let mut all: Vec<String> = wrong
        .iter()
        .map(|keys| config(plugin, keys).to_string())
        .collect();
    let deep = format!("{}{}", "[".repeat(9000), "]".repeat(9000));
    let unknown = [
        "1e999",
        "\"\\ud800\"",
        "[-1e999,{\"a\":123456789012345678901234567890}]",
        &deep,
    ];
    let text = config(plugin, &json!({ "x": "@" })).to_string();
    all.extend(unknown.map(|value| text.replace("\"@\"", value)));
    all
}

#[scenario]
fn del_succeeds_whatever_else_is_passed() {
    let host = Host::with_suite("node");
    let pod = host.pod("pod");
    let paths = [
        pod.path().as_str(),
        "",
        "/none",
        "/etc/passwd",
        "/etc/passwd/x",
    ]
    .map(String::from);
    for plugin in PLUGINS {
        for (index, config) in configurations(plugin).iter().enumerate() {
            let netns = &paths[index % paths.len()];
            let cni = Cni::new(BIN, "c1", netns).with("CNI_ARGS", "no pair;=;MAC=x");
            let del = cni.call(&host, "DEL", plugin, config);
            let head: String = config.chars().take(200).collect();
            assert_eq!(
                (del.code, del.stdout.as_str()),
                (0, ""),
                "{plugin} {netns} {head}"
            );
        }
        let keys = json!({ "ipam": { "type": "host-local" },
            "prevResult": { "ips": [{ "address": "10.0.0.2/8" }] } });
        let config = config(plugin, &keys).to_string();
        for length in [250, 256, 4096, 5000] {
            let cni = Cni::new(BIN, &"a".repeat(length), "");
            let del = cni.call(&host, "DEL", plugin, &config);
            assert_eq!(
                (del.code, del.stdout.as_str()),
                (0, ""),
                "{plugin} {length}"
            );
        }
        let cni = Cni::new(BIN, &"a".repeat(4097), &pod.path());
        let refused = cni.call(&host, "ADD", plugin, &config).error();
        assert_eq!(refused, (4, "containerID is too long".into()), "{plugin}");
    }
}

/// The same for a pod that exists: nothing of it is left.
#[scenario]
fn del_with_a_wrong_configuration_removes_everything() {
    let host = Host::with_suite("node");
    let good = config(
        "bridge",
        &json!({ "bridge": "lan0", "isGateway": true, "ipMasq": true, "ipMasqBackend": "nftables",
            "ipam": { "type": "host-local", "subnet": "10.5.0.0/24" } }),
    );
    let mut wrong = good.clone();
    for key in [
        "bridge",
        "isGateway",
        "ipMasq",
        "dns",
        "capabilities",
        "runtimeConfig",
    ] {
        wrong[key] = json!("wrong");
    }
    wrong["ipam"]["subnet"] = json!(["wrong"]);
    wrong["prevResult"] = json!({ "ips": 5 });
    let reservations = || host.sh("ls /var/lib/cni/networks/net | grep 10.5 || true");
    // an id in the comment of a rule has at most 128 bytes, so the long one has no rule
    for (id, masquerade) in [("c1".to_owned(), true), ("a".repeat(4096), false)] {
        let mut good = good.clone();
        good["ipMasq"] = json!(masquerade);
        let pod = host.pod("pod");
        let cni = Cni::new(BIN, &id, &pod.path());
        cni.call(&host, "ADD", "bridge", &good.to_string()).ok();
        assert_ne!(reservations(), "");
        cni.call(&host, "DEL", "bridge", &wrong.to_string()).ok();
        assert_eq!(reservations(), "");
        assert_eq!(host.sh("ip -o link show type veth"), "");
        assert!(!host.sh("nft list ruleset").contains("10.5.0"));
        pod.delete();
    }
}

/// Where it cannot be found out what there is, DEL fails, and succeeds when it is repeated.
#[scenario]
fn del_fails_if_the_packet_filter_cannot_be_read() {
    let host = Host::with_suite("node");
    let pod = host.pod("pod");
    let ips = json!({ "ips": [{ "address": "10.5.0.2/24" }] });
    let mapping = json!([{ "hostPort": 80, "containerPort": 80, "protocol": "tcp" }]);
    let cases = [
        (
            "bridge",
            json!({ "bridge": "lan0", "isGateway": true, "ipMasq": true, "ipMasqBackend": "iptables",
                "ipam": { "type": "host-local", "subnet": "10.5.0.0/24" } }),
        ),
        (
            "portmap",
            json!({ "backend": "iptables", "runtimeConfig": { "portMappings": mapping },
                "prevResult": ips }),
        ),
        (
            "firewall",
            json!({ "backend": "iptables", "prevResult": ips }),
        ),
    ];
    let cni = Cni::new(BIN, "c1", &pod.path());
    let run = |verb: &str, plugin: &str, keys: &Value| {
        cni.call(&host, verb, plugin, &config(plugin, keys).to_string())
    };
    for (plugin, keys) in &cases {
        run("ADD", plugin, keys).ok();
    }
    let rules = || host.sh("iptables-save | grep -v '^[#:]'");
    let before = rules();
    assert!(before.contains("10.5.0.2"), "{before}");
    host.sh(
        "printf '#!/bin/sh\\necho broken >&2\\nexit 4\\n' >/run/broken && chmod 755 /run/broken && \
         mount --bind /run/broken $(readlink -f $(command -v iptables-save))",
    );
    for (plugin, keys) in cases.iter().rev() {
        let del = run("DEL", plugin, keys);
        assert_eq!(del.code, 1, "{plugin}: {del:?}");
    }
    host.sh("umount $(readlink -f $(command -v iptables-save))");
    for (plugin, keys) in cases.iter().rev() {
        run("DEL", plugin, keys).ok();
    }
    assert!(!rules().contains("10.5.0.2"));
}
