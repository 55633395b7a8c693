//! The `host-local` plugin: compared with Debian's Go plugin, in one store with it, and after
//! reboots and crashes.

mod cost;
mod crash;
mod recovery;
mod same_as_go;
mod shared_store;
mod store;

use serde_json::{Value, json};
use tests::{Cni, Host, Outcome, binaries::BIN, peers::GO_PLUGINS};

const SUITE: &str = BIN;
const UPSTREAM: &str = GO_PLUGINS;
const STORE: &str = "/var/lib/cni/networks/n";

fn host() -> Host {
    Host::with_suite("node")
}

/// A configuration of network `n` with the keys of `ipam`.
fn config(version: &str, ipam: Value) -> String {
    json!({"cniVersion": version, "name": "n", "type": "bridge", "ipam": ipam}).to_string()
}

/// IPAM keys with one range.
fn range(start: &str, end: &str) -> Value {
    json!({"type": "host-local", "ranges": [[{"subnet": "10.77.0.0/16", "rangeStart": start, "rangeEnd": end}]]})
}

fn add(host: &Host, path: &str, id: &str, config: &str) -> Outcome {
    Cni::new(path, id, "/none").call(host, "ADD", "host-local", config)
}

fn del(host: &Host, path: &str, id: &str, config: &str) -> Outcome {
    Cni::new(path, id, "/none").call(host, "DEL", "host-local", config)
}

/// The first address of a result, without its prefix length.
#[track_caller]
fn address(outcome: Outcome) -> String {
    let result = outcome.ok().json();
    let address = result["ips"][0]["address"].as_str().expect("address");
    address.split('/').next().expect("address").to_owned()
}

/// The reserved addresses.
fn taken(host: &Host) -> Vec<String> {
    let names = host.sh(&format!("ls {STORE} | grep -e '[.:].*[.:]' || true"));
    names.lines().map(str::to_owned).collect()
}
