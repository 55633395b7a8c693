//! Each value of Go flannel's chart, set to something else than its default.

use serde_json::{Value, json};

/// What both charts get before a case's own values: where the defaults differ on purpose.
pub(super) fn common() -> Value {
    let image = json!({"repository": "registry.example.com/flannel", "tag": "v9"});
    json!({"flannel": {
        "image": image,
        "flannel_cni": {"image": image},
        "resources": {"limits": {"memory": "64Mi"}},
        "enableNFTables": false,
        "cniConf": r#"{"name": "cbr0", "cniVersion": "1.0.0", "plugins": [{"type": "flannel"}]}"#,
    }})
}

/// Name and values of each case.
pub(super) fn cases() -> Vec<(&'static str, Value)> {
    let mut cases = vec![
        ("defaults", json!({})),
        ("podCidr", json!({"podCidr": "10.42.0.0/16"})),
        ("podCidrv6", json!({"podCidrv6": "fd00:10:244::/56"})),
        (
            "IPv6 only",
            json!({"podCidr": "", "podCidrv6": "fd00:10:244::/56"}),
        ),
        (
            "global.imagePullSecrets",
            json!({"global": {"imagePullSecrets": [{"name": "a"}, {"name": "b"}]}}),
        ),
    ];
    cases.extend(flannel().map(|(name, values)| (name, json!({"flannel": values}))));
    cases.extend(backends().map(|(name, values)| (name, json!({"flannel": values}))));
    cases.extend(netpol().map(|(name, values)| (name, json!({"netpol": values}))));
    cases
}

fn flannel() -> impl Iterator<Item = (&'static str, Value)> {
    [
        ("image", json!({"image": {"repository": "localhost/other", "tag": "latest"},
            "flannel_cni": {"image": {"repository": "localhost/other", "tag": "latest"}}})),
        ("cniBinDir", json!({"cniBinDir": "/var/lib/rancher/k3s/data/cni"})),
        ("cniConfDir", json!({"cniConfDir": "/var/snap/microk8s/current/args/cni-network"})),
        ("skipCNIConfigInstallation", json!({"skipCNIConfigInstallation": true})),
        ("enableNFTables", json!({"enableNFTables": true})),
        ("args", json!({"args": ["--kube-subnet-mgr", "--iface=eth1", "--v=1"]})),
        ("cniConf", json!({"cniConf": "{\n  \"name\": \"a\\\"b\",\n  \"plugins\": [{\"type\": \"flannel\"}]\n}\n"})),
        ("resources", json!({"resources": {"requests": {"memory": "70Mi"}, "limits": {"cpu": "1"}}})),
        ("healthz.port", json!({"healthz": {"port": 9090}})),
        ("healthz.port 0", json!({"healthz": {"port": 0}})),
        ("healthz.livenessProbe", json!({"healthz": {"livenessProbe": {"failureThreshold": 7}}})),
        ("healthz.readinessProbe", json!({"healthz": {"readinessProbe": {"periodSeconds": 3}}})),
        ("tolerations", json!({"tolerations": [{"key": "a", "operator": "Exists"}]})),
        ("no tolerations", json!({"tolerations": []})),
        ("nodeSelector", json!({"nodeSelector": {"example.com/pool": "a", "b": "true"}})),
    ]
    .into_iter()
}

fn backends() -> impl Iterator<Item = (&'static str, Value)> {
    [
        (
            "backend host-gw",
            json!({"backend": "host-gw", "mtu": 1400, "backendPort": 1}),
        ),
        ("backend ipip", json!({"backend": "ipip"})),
        ("backend alloc", json!({"backend": "alloc"})),
        (
            "backend udp",
            json!({"backend": "udp", "backendPort": 8286, "mtu": 1400}),
        ),
        ("backendPort", json!({"backendPort": 4789})),
        ("mtu", json!({"mtu": 1400})),
        ("vni", json!({"vni": 4096})),
        ("GBP", json!({"GBP": true})),
        ("directRouting", json!({"directRouting": true})),
        ("macPrefix", json!({"macPrefix": "0E-2A"})),
        (
            "backend wireguard",
            json!({"backend": "wireguard", "vni": 2, "GBP": true, "directRouting": true}),
        ),
        (
            "wireguard's ports",
            json!({"backend": "wireguard", "backendPort": 51000, "backendPortv6": 51001}),
        ),
        ("psk", json!({"backend": "wireguard", "psk": "a\"b\\c="})),
        (
            "wireguard's mtu",
            json!({"backend": "wireguard", "mtu": 1300}),
        ),
        (
            "keepaliveInterval",
            json!({"backend": "wireguard", "keepaliveInterval": 25}),
        ),
    ]
    .into_iter()
}

fn netpol() -> impl Iterator<Item = (&'static str, Value)> {
    [
        ("netpol.enabled", json!({"enabled": true})),
        ("netpol.args", json!({"enabled": true, "args": ["--v=5"]})),
        (
            "netpol.image",
            json!({"enabled": true, "image": {"repository": "localhost/netpol", "tag": "v1"}}),
        ),
        ("netpol.args disabled", json!({"args": ["--v=5"]})),
    ]
    .into_iter()
}
