//! The lifecycles that are compared.

use super::lifecycle::Lifecycle;
use serde_json::{Value, json};

/// Every lifecycle.
pub(super) fn all() -> Vec<Lifecycle> {
    let mut all = bridges();
    all.extend(chains());
    all
}

const V4: &str = "10.88.1.0/24";
const V6: &str = "fd00:88:1::/64";

fn ipam(subnets: &[&str]) -> Value {
    let ranges: Vec<_> = subnets
        .iter()
        .map(|subnet| json!([{"subnet": subnet}]))
        .collect();
    json!({"type": "host-local", "ranges": ranges})
}

fn bridge(subnets: &[&str], more: Value) -> (&'static str, Value) {
    let mut keys = json!({"bridge": "cni0", "isGateway": true, "ipam": ipam(subnets)});
    for (key, value) in more.as_object().expect("object") {
        keys[key] = value.clone();
    }
    ("bridge", keys)
}

fn lifecycle(
    name: &'static str,
    version: &'static str,
    plugins: Vec<(&'static str, Value)>,
) -> Lifecycle {
    Lifecycle {
        name,
        version,
        plugins,
        args: "",
    }
}

fn bridges() -> Vec<Lifecycle> {
    let plain = || vec![bridge(&[V4], json!({}))];
    let args = |args, lifecycle| Lifecycle { args, ..lifecycle };
    vec![
        lifecycle("bridge-0.1.0", "0.1.0", plain()),
        lifecycle(
            "bridge-0.2.0",
            "0.2.0",
            vec![bridge(&[V4, V6], json!({"isDefaultGateway": true}))],
        ),
        lifecycle("bridge-0.3.0", "0.3.0", plain()),
        lifecycle(
            "bridge-0.3.1",
            "0.3.1",
            vec![bridge(
                &[V4],
                json!({"isDefaultGateway": true, "hairpinMode": true, "mtu": 1400}),
            )],
        ),
        lifecycle(
            "bridge-0.4.0",
            "0.4.0",
            vec![bridge(&[V4, V6], json!({"isDefaultGateway": true}))],
        ),
        lifecycle(
            "bridge-1.0.0",
            "1.0.0",
            vec![bridge(&[V6], json!({"isDefaultGateway": true}))],
        ),
        lifecycle(
            "bridge-no-gateway",
            "0.4.0",
            vec![bridge(&[V4], json!({"isGateway": false}))],
        ),
        lifecycle(
            "bridge-promiscuous",
            "0.4.0",
            vec![bridge(&[V4], json!({"promiscMode": true}))],
        ),
        lifecycle(
            "bridge-masquerade",
            "0.4.0",
            vec![bridge(
                &[V4, V6],
                json!({"ipMasq": true, "ipMasqBackend": "iptables"}),
            )],
        ),
        lifecycle(
            "bridge-dns",
            "0.4.0",
            vec![bridge(
                &[V4],
                json!({"dns": {"nameservers": ["10.9.9.9"], "search": ["a", "b"]}}),
            )],
        ),
        args(
            "MAC=02:00:00:aa:bb:cc;IgnoreUnknown=1",
            lifecycle("bridge-mac", "0.4.0", plain()),
        ),
        args(
            "IP=10.88.1.77;IgnoreUnknown=1",
            lifecycle("bridge-ip", "0.4.0", plain()),
        ),
        args("IP=10.88.1.77", lifecycle("bridge-args", "0.4.0", plain())),
        lifecycle(
            "bridge-static",
            "0.4.0",
            vec![bridge(
                &[],
                json!({"ipam": {"type": "static", "addresses": [
            {"address": "10.88.1.5/24", "gateway": "10.88.1.1"}], "routes": [{"dst": "10.99.0.0/16"}, {"dst": "0.0.0.0/0", "gw": "10.88.1.1"}]}}),
            )],
        ),
        lifecycle(
            "bridge-layer2",
            "0.4.0",
            vec![bridge(&[], json!({"isGateway": false, "ipam": {}}))],
        ),
        lifecycle(
            "bridge-routes",
            "1.0.0",
            vec![bridge(
                &[],
                json!({"ipam": {"type": "host-local", "subnet": V4,
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.99.0.0/16", "gw": "10.88.1.9"}]}}),
            )],
        ),
    ]
}

fn chains() -> Vec<Lifecycle> {
    let base = || bridge(&[V4, V6], json!({"isDefaultGateway": true}));
    let chained =
        |name, version, plugin, keys| lifecycle(name, version, vec![base(), (plugin, keys)]);
    let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 8053, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1"}]);
    let port_map = |more: Value| {
        let mut keys = json!({"capabilities": {"portMappings": true}, "backend": "iptables", "runtimeConfig": {"portMappings": ports}});
        for (key, value) in more.as_object().expect("object") {
            keys[key] = value.clone();
        }
        keys
    };
    vec![
        lifecycle("loopback-0.4.0", "0.4.0", vec![("loopback", json!({}))]),
        lifecycle("loopback-1.0.0", "1.0.0", vec![("loopback", json!({}))]),
        chained(
            "portmap-nothing",
            "0.4.0",
            "portmap",
            json!({"capabilities": {"portMappings": true}}),
        ),
        chained("portmap-snat", "0.4.0", "portmap", port_map(json!({}))),
        chained(
            "portmap-no-snat",
            "1.0.0",
            "portmap",
            port_map(json!({"snat": false})),
        ),
        chained(
            "portmap-conditions",
            "0.3.1",
            "portmap",
            port_map(
                json!({"conditionsV4": ["-s", "10.0.0.0/8"], "conditionsV6": ["!", "-s", "fd00::/8"], "markMasqBit": 9}),
            ),
        ),
        chained(
            "tuning",
            "0.4.0",
            "tuning",
            json!({"sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}, "mtu": 1300, "promisc": true, "dataDir": "/run/cni/tuning"}),
        ),
        chained(
            "bandwidth",
            "0.4.0",
            "bandwidth",
            json!({"ingressRate": 1_000_000, "ingressBurst": 500_000, "egressRate": 2_000_000, "egressBurst": 600_000}),
        ),
        chained(
            "firewall",
            "0.4.0",
            "firewall",
            json!({"backend": "iptables"}),
        ),
        chained(
            "firewall-1.0.0",
            "1.0.0",
            "firewall",
            json!({"backend": "iptables", "ingressPolicy": "same-bridge"}),
        ),
    ]
}
