//! Our cnitool with Debian's Go plugins, and upstream's cnitool with ours.

use super::{Runtime, failed, run, succeeded};
use serde_json::{Value, json};
use std::path::Path;
use tests::{
    Host, Pod, binaries,
    peers::{GO_PLUGINS, built_from_go, without_go_plugins},
    scenario,
};

/// A list that Go plugins since 1.0 and ours both know.
fn bridge_list(version: &str) -> Value {
    json!({
        "cniVersion": version, "name": "lan",
        "plugins": [
            {"type": "bridge", "bridge": "lan0", "isGateway": true, "ipam":
                {"type": "host-local", "ranges": [[{"subnet": "10.77.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}},
        ],
    })
}

fn attached(pod: &Pod<'_>) -> bool {
    pod.sh("ip -o -4 address").contains("10.77.0.")
}

fn store(host: &Host) -> Vec<String> {
    let names = host.sh("ls /var/lib/cni/networks/lan");
    names
        .lines()
        .filter(|name| name.starts_with("10."))
        .map(str::to_owned)
        .collect()
}

#[scenario(unless = without_go_plugins)]
fn our_cnitool_runs_go_plugins() {
    let runtime = Runtime::new("1.0.0");
    runtime.configure(&bridge_list("1.0.0"));
    let pod = runtime.host.pod("p");
    let tool = |words: &str| {
        let cnitool = binaries::program("cnitool");
        run(
            &runtime.host,
            &cnitool,
            GO_PLUGINS,
            &format!("{words} lan {}", pod.path()),
            &[],
        )
    };
    let result: Value = serde_json::from_str(&succeeded(tool("add"))).expect("result");
    assert_eq!(result["ips"][0]["address"], "10.77.0.2/24");
    assert!(attached(&pod));
    assert_eq!(pod.sh("cat /proc/sys/net/core/somaxconn").trim(), "500");
    succeeded(tool("check"));
    pod.sh("ip address flush dev eth0");
    assert!(failed(&tool("check")).contains("10.77.0.2"));
    succeeded(tool("del"));
    succeeded(tool("del"));
    assert!(!attached(&pod));
    assert!(store(&runtime.host).is_empty());
    assert!(runtime.cached().is_empty());
}

fn without_go_cnitool() -> Option<String> {
    built_from_go("cnitool").err()
}

#[scenario(unless = without_go_cnitool)]
fn go_and_our_cnitool_take_over_from_each_other() {
    let theirs = built_from_go("cnitool").expect("built").join("cnitool");
    let ours = binaries::program("cnitool");
    let runtime = Runtime::new("1.1.0");
    runtime
        .host
        .run(|| binaries::install_suite("/opt/cni/bin".as_ref()));
    runtime.configure(&bridge_list("1.1.0"));
    let pod = runtime.host.pod("p");
    let call = |tool: &Path, verb: &str| {
        run(
            &runtime.host,
            tool,
            "/opt/cni/bin",
            &format!("{verb} lan {}", pod.path()),
            &[],
        )
    };
    for (adds, takes_over) in [(&theirs, &ours), (&ours, &theirs), (&theirs, &theirs)] {
        succeeded(call(takes_over, "status"));
        let result: Value = serde_json::from_str(&succeeded(call(adds, "add"))).expect("result");
        assert_eq!(result["ips"].as_array().map(Vec::len), Some(1));
        assert!(attached(&pod));
        succeeded(call(takes_over, "check"));
        succeeded(call(adds, "check"));
        succeeded(call(takes_over, "del"));
        assert!(!attached(&pod) && store(&runtime.host).is_empty());
        // and what is still cached goes with a GC
        succeeded(call(adds, "add"));
        succeeded(call(takes_over, "gc"));
        assert!(!attached(&pod) && store(&runtime.host).is_empty());
        assert!(runtime.cached().is_empty());
    }
}
