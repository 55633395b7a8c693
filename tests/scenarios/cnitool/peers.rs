//! Our cnitool with Debian's Go plugins, and the field's own cnitool with ours.

use super::{GO_PLUGINS, Runtime, failed, run, succeeded};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tests::{Host, Pod, binaries};

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

pub(super) fn with_go_plugins() {
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

/// The field's own cnitool, built from the module that is on this machine.
pub(super) struct GoCnitool;

impl GoCnitool {
    /// The folder of containernetworking/cni in Go's module cache, or why there is none.
    pub(super) fn source() -> Result<PathBuf, String> {
        let cache = Command::new("go").args(["env", "GOMODCACHE"]).output();
        let cache = cache.map_err(|_| "Go is not installed".to_owned())?;
        let cache = PathBuf::from(String::from_utf8_lossy(&cache.stdout).trim());
        let modules = fs::read_dir(cache.join("github.com/containernetworking"));
        let mut versions: Vec<_> = (modules.into_iter().flatten().flatten())
            .map(|entry| entry.path())
            .filter(|path| {
                path.to_string_lossy().contains("/cni@v1.") && path.join("cnitool").exists()
            })
            .collect();
        versions.sort();
        versions.pop().ok_or_else(|| {
            "Go's module cache has no github.com/containernetworking/cni (go mod download)"
                .to_owned()
        })
    }

    fn build(folder: &Path) -> PathBuf {
        let program = folder.join("cnitool");
        let output = Command::new("go")
            .args(["build", "-o"])
            .arg(&program)
            .arg("./cnitool")
            .current_dir(GoCnitool::source().expect("source"))
            .env("GOPROXY", "off")
            .env("GOFLAGS", "-mod=mod")
            .output()
            .expect("go");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        program
    }
}

/// Each of the two takes over what the other has begun.
pub(super) fn upstream() {
    let folder = tempfile::tempdir_in("/dev/shm").expect("folder");
    let theirs = GoCnitool::build(folder.path());
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
