//! A node with the plugins, and queries of its state.

use serde_json::{Value, json};
use tests::{
    Cni, Host, Outcome, Pod,
    binaries::BIN,
    peers::GO_PLUGINS,
    trace::{TRACED, trace_plugin},
};

/// Which plugins a node has.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Plugins {
    /// This project's.
    Suite,
    /// Debian's package containernetworking-plugins, written in Go.
    Debian,
}

pub(super) struct Node {
    pub(super) host: Host,
    path: &'static str,
}

impl Node {
    pub(super) fn new(plugins: Plugins) -> Node {
        let host = Host::with_suite("node");
        Node { host, path: "" }.with_plugins(plugins)
    }

    /// The same node with other plugins.
    pub(super) fn with_plugins(self, plugins: Plugins) -> Node {
        let path = match plugins {
            Plugins::Suite => BIN,
            Plugins::Debian => GO_PLUGINS,
        };
        Node { path, ..self }
    }

    pub(super) fn suite() -> Node {
        Node::new(Plugins::Suite)
    }

    /// A call for container `id`, whose namespace has the same name.
    pub(super) fn cni(&self, id: &str) -> Cni {
        Cni::new(self.path, id, &format!("/run/netns/{id}"))
    }

    pub(super) fn call(&self, verb: &str, id: &str, conf: &Value) -> Outcome {
        self.cni(id)
            .call(&self.host, verb, "bridge", &conf.to_string())
    }

    /// A call under strace, which writes the system calls to /run/trace.
    pub(super) fn traced_call(&self, verb: &str, id: &str, conf: &Value) -> Outcome {
        trace_plugin(&self.host, "bridge", "");
        let path = format!("{TRACED}:{}", self.path);
        Cni::new(&path, id, &format!("/run/netns/{id}")).call(
            &self.host,
            verb,
            "bridge",
            &conf.to_string(),
        )
    }

    /// Creates a pod and attaches it. Returns the result of ADD too.
    #[track_caller]
    pub(super) fn attach(&self, id: &str, conf: &Value) -> (Pod<'_>, Value) {
        let pod = self.host.pod(id);
        let result = self.call("ADD", id, conf).ok().json();
        (pod, result)
    }

    /// `ip -j ...` on the host.
    #[track_caller]
    pub(super) fn ip(&self, arguments: &str) -> Value {
        json_of(&self.host.sh(&format!("ip -j {arguments}")))
    }

    /// The reserved addresses of the network `net`.
    pub(super) fn reservations(&self) -> Vec<String> {
        let names = self
            .host
            .sh("ls /var/lib/cni/networks/net 2>/dev/null || true");
        names
            .lines()
            .filter(|name| name.parse::<std::net::IpAddr>().is_ok())
            .map(str::to_owned)
            .collect()
    }

    /// The names of the pods' veths on the host.
    pub(super) fn veths(&self) -> Vec<String> {
        let links = self.ip("link show type veth");
        let names = links.as_array().expect("links").iter();
        names
            .map(|link| link["ifname"].as_str().expect("name").to_owned())
            .filter(|name| name.starts_with("veth"))
            .collect()
    }

    /// The node has no reservation and no veth.
    #[track_caller]
    pub(super) fn assert_clean(&self) {
        assert_eq!(self.reservations(), [""; 0]);
        assert_eq!(self.veths(), [""; 0]);
    }
}

/// Parses the output of `ip -j`, which is empty for an empty list.
pub(super) fn json_of(text: &str) -> Value {
    if text.trim().is_empty() {
        return json!([]);
    }
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// `ip -j ...` in a pod.
#[track_caller]
pub(super) fn ip_in(pod: &Pod<'_>, arguments: &str) -> Value {
    json_of(&pod.sh(&format!("ip -j {arguments}")))
}

pub(super) const V4: &str = "10.244.7.0/24";
pub(super) const V6: &str = "fd00:7::/64";

/// A bridge configuration with a range for each subnet and the keys `more`.
pub(super) fn conf(subnets: &[&str], more: Value) -> Value {
    let ranges: Vec<Value> = subnets
        .iter()
        .map(|net| json!([{ "subnet": net }]))
        .collect();
    let mut conf = json!({
        "cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "cni0", "isDefaultGateway": true,
        "ipam": { "type": "host-local", "ranges": ranges },
    });
    for (key, value) in more.as_object().expect("object") {
        conf[key] = value.clone();
    }
    conf
}

/// The address of the n-th entry of `ips`, without its prefix length.
pub(super) fn address(result: &Value, n: usize) -> String {
    let address = result["ips"][n]["address"].as_str().expect("address");
    address.split('/').next().expect("address").to_owned()
}
