//! The `host-local` plugin: beside Debian's Go one, on one store with it, and through what reboots and crashes leave behind.

mod cost;
mod crash;
mod recovery;
mod same_as_go;
mod store;
mod together;

use serde_json::{Value, json};
use tests::{Case, Cni, Host, Outcome, binaries, case};

const OURS: &str = "/opt/cni/bin";
const GO: &str = "/usr/lib/cni";
const STORE: &str = "/var/lib/cni/networks/n";

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("host-local/results-same-as-go", same_as_go::results),
        case("host-local/refusals-same-as-go", same_as_go::refusals),
        case("host-local/order-same-as-go", same_as_go::order),
        case("host-local/one-store-with-go", together::in_turns),
        case("host-local/one-store-with-go-at-once", together::at_once),
        case("host-local/exhausted", store::exhausted),
        case(
            "host-local/empty-and-foreign-files",
            store::empty_and_foreign_files,
        ),
        case("host-local/del-needs-no-ranges", store::del_needs_no_ranges),
        case("host-local/gc", store::gc),
        case("host-local/legacy-files", store::legacy_files),
        case("host-local/status", store::status),
        case("host-local/add-again", recovery::add_again),
        case("host-local/lost-del", recovery::lost_del),
        case("host-local/reboot", recovery::reboot),
        case("host-local/killed", crash::killed),
        case("host-local/cost-with-60000-reservations", cost::flat),
    ]
}

/// A host with both plugins.
fn host() -> Host {
    let host = Host::new("node");
    host.run(|| binaries::install_suite(OURS.as_ref()));
    host
}

/// A configuration of network `n` with these keys in `ipam`.
fn config(version: &str, ipam: Value) -> String {
    json!({"cniVersion": version, "name": "n", "type": "bridge", "ipam": ipam}).to_string()
}

/// One range from the first to the last address.
fn range(start: &str, end: &str) -> Value {
    json!({"type": "host-local", "ranges": [[{"subnet": "10.77.0.0/16", "rangeStart": start, "rangeEnd": end}]]})
}

fn add(host: &Host, path: &str, id: &str, config: &str) -> Outcome {
    Cni::new(path, id, "/none").call(host, "ADD", "host-local", config)
}

fn del(host: &Host, path: &str, id: &str, config: &str) -> Outcome {
    Cni::new(path, id, "/none").call(host, "DEL", "host-local", config)
}

/// The first address of a result, without its length.
#[track_caller]
fn address(outcome: Outcome) -> String {
    let result = outcome.ok().json();
    let address = result["ips"][0]["address"].as_str().expect("address");
    address.split('/').next().expect("address").to_owned()
}

/// The addresses that are taken.
fn taken(host: &Host) -> Vec<String> {
    let names = host.sh(&format!("ls {STORE} | grep -e '[.:].*[.:]' || true"));
    names.lines().map(str::to_owned).collect()
}
