//! Error messages for configurations that are refused.

use super::{Release, known, normalize::normalize, without_pinned_plugins};
use serde_json::{Value, json};
use tests::{Cni, Host, binaries::BIN, peers::without_go_plugins, scenario};

/// Plugin, CNI_ARGS, and the keys beside name, type and cniVersion.
fn refused() -> Vec<(&'static str, &'static str, Value)> {
    let ipam = json!({"type": "host-local", "subnet": "10.88.1.0/24"});
    let bridge = |more: Value| {
        let mut keys = json!({"ipam": ipam});
        for (key, value) in more.as_object().expect("object") {
            keys[key] = value.clone();
        }
        ("bridge", "", keys)
    };
    let result = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/pod"}],
        "ips": [{"address": "10.88.1.2/24", "interface": 0}]});
    let chained = |plugin, more: Value| {
        let mut keys = json!({"prevResult": result});
        for (key, value) in more.as_object().expect("object") {
            keys[key] = value.clone();
        }
        (plugin, "", keys)
    };
    let ports = |mapping: Value| json!({"runtimeConfig": {"portMappings": [mapping]}});
    vec![
        bridge(json!({"vlan": 4095})),
        bridge(json!({"vlan": -1})),
        bridge(json!({"hairpinMode": true, "promiscMode": true})),
        bridge(json!({"ipam": {"type": "nowhere"}})),
        bridge(json!({"ipam": {"type": "host-local"}})),
        bridge(json!({"ipam": {"type": "../host-local"}})),
        bridge(json!({"runtimeConfig": {"mac": "zz"}})),
        bridge(json!({"mtu": 10})),
        bridge(json!({"bridge": "lo"})),
        bridge(json!({"bridge": "a-name-that-is-too-long"})),
        ("bridge", "MAC=zz", json!({"ipam": ipam})),
        ("bridge", "FOO=1", json!({"ipam": ipam})),
        ("bridge", "FOO", json!({"ipam": ipam})),
        (
            "bridge",
            "",
            json!({"ipam": ipam, "prevResult": {"cniVersion": "0.2.0", "ip4": {}}}),
        ),
        ("portmap", "", json!({})),
        chained(
            "portmap",
            json!({"markMasqBit": 32, "runtimeConfig": {"portMappings": []}}),
        ),
        chained(
            "portmap",
            json!({"markMasqBit": 5, "externalSetMarkChain": "X"}),
        ),
        chained(
            "portmap",
            ports(json!({"hostPort": 0, "containerPort": 80, "protocol": "tcp"})),
        ),
        chained(
            "portmap",
            ports(json!({"hostPort": 80, "containerPort": -1, "protocol": "tcp"})),
        ),
        (
            "bandwidth",
            "",
            json!({"ingressRate": 1000, "ingressBurst": 1000}),
        ),
        chained("bandwidth", json!({"ingressRate": 1000})),
        chained("bandwidth", json!({"egressBurst": 1000})),
        chained(
            "bandwidth",
            json!({"ingressRate": -1, "ingressBurst": 1000}),
        ),
        chained(
            "bandwidth",
            json!({"ingressRate": 1000, "ingressBurst": 40_000_000_000u64}),
        ),
        ("tuning", "", json!({"mtu": 1400})),
        chained("tuning", json!({"sysctl": {"kernel.hostname": "x"}})),
        chained("tuning", json!({"sysctl": {"net.ipv4.../../../x": "1"}})),
        chained("tuning", json!({"mac": "zz"})),
        ("static", "", json!({})),
        (
            "static",
            "",
            json!({"ipam": {"addresses": [{"address": "10.0.0.1"}]}}),
        ),
        ("static", "IP=10.0.0.1", json!({"ipam": {}})),
        ("static", "GATEWAY=zz", json!({"ipam": {}})),
    ]
}

#[scenario(unless = without_go_plugins)]
fn go_and_ours_refuse_the_same_configurations() {
    compare(Release::Debian);
}

#[scenario(unless = without_pinned_plugins)]
fn the_pinned_release_and_ours_refuse_the_same_configurations() {
    compare(Release::Pinned);
}

fn compare(release: Release) {
    let folder = release.folder();
    let go = folder.to_str().expect("UTF-8");
    let host = Host::with_suite("node");
    let mut unexpected = String::new();
    for (plugin, args, keys) in refused() {
        let mut config = keys.clone();
        config["name"] = "net".into();
        config["type"] = plugin.into();
        config["cniVersion"] = "1.0.0".into();
        let [ours, go] = [BIN, go].map(|path| {
            // each starts on a node without a bridge and without state
            host.sh("ip netns del pod; ip link del cni0; rm -rf /var/lib/cni; ip netns add pod; ip -n pod link add eth9 type bridge; true");
            if plugin != "bridge" {
                host.sh("ip -n pod link add eth0 type bridge");
            }
            let cni = Cni::new(path, "c1", "/run/netns/pod").with("CNI_ARGS", args);
            let outcome = cni.call(&host, "ADD", plugin, &config.to_string());
            if outcome.code == 0 {
                return "accepted".to_owned();
            }
            let (code, msg) = outcome.error();
            // CNI_PATH differs
            normalize(&format!("{code} {msg}")).replace(path, "CNI_PATH")
        });
        let label = format!("{plugin} {args} {keys}");
        let go = known::expected(release, "refusals", &label, &go);
        if ours != go {
            unexpected += &format!("--- {label}\nours: {ours}\ngo:   {go}\n");
        }
    }
    assert!(unexpected.is_empty(), "unknown differences:\n{unexpected}");
}
