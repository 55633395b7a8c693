//! `cnitool` and the runtime crate behind it: chains, prevResult, the cache, GC; also with Debian's
//! Go plugins, and upstream's cnitool with our plugins.

mod peers;

use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tests::{Host, binaries, scenario};

const NET_DIR: &str = "/run/net.d";
const RESULTS: &str = "/var/lib/cni/results";

/// A plugin that records its calls; `FAIL-<verb>` in its configuration makes it fail.
const RECORDER: &str = r#"#!/bin/sh
config=$(cat)
echo "$CNI_COMMAND|$CNI_CONTAINERID|$CNI_NETNS|$CNI_IFNAME|$CNI_ARGS|$CNI_PATH|$config" >> /run/calls
case "$config" in *"FAIL-$CNI_COMMAND"*)
    echo '{"code": 111, "msg": "requested failure", "details": "of the test"}'; exit 1;;
esac
[ "$CNI_COMMAND" != VERSION ] || echo '{"supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]}'
[ "$CNI_COMMAND" != ADD ] || echo '{"ips": [{"version": "4", "address": "10.9.8.7/24"}], "dns": {}}'
"#;

/// One recorded call.
struct Recorded {
    verb: String,
    container: String,
    netns: String,
    ifname: String,
    args: String,
    config: Value,
}

/// A host with the recorder as `first` and `second` and a network that chains them.
struct Runtime {
    host: Host,
}

impl Runtime {
    fn new(version: &str) -> Runtime {
        let host = Host::new("node");
        host.run(|| {
            fs::create_dir_all("/opt/cni/bin").expect("bin");
            for name in ["first", "second"] {
                let file = format!("/opt/cni/bin/{name}");
                fs::write(&file, RECORDER).expect("plugin");
                fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("mode");
            }
        });
        let runtime = Runtime { host };
        runtime.configure(&json!({
            "cniVersion": version, "name": "net",
            "plugins": [{"type": "first", "capabilities": {"bandwidth": true, "aliases": false}}, {"type": "second"}],
        }));
        runtime
    }

    fn configure(&self, list: &Value) {
        self.host.run(|| {
            fs::create_dir_all(NET_DIR).expect("net.d");
            fs::write(format!("{NET_DIR}/10-net.conflist"), list.to_string()).expect("conf list");
        });
    }

    /// `cnitool WORDS`.
    fn tool(&self, words: &str) -> Output {
        self.tool_with(words, &[])
    }

    fn tool_with(&self, words: &str, variables: &[(&str, &str)]) -> Output {
        run(
            &self.host,
            &binaries::program("cnitool"),
            "/opt/cni/bin",
            words,
            variables,
        )
    }

    fn ok(&self, words: &str) -> String {
        succeeded(self.tool(words))
    }

    fn error(&self, words: &str) -> String {
        failed(&self.tool(words))
    }

    /// The calls since the last time.
    fn calls(&self) -> Vec<Recorded> {
        let text = self.host.run(|| {
            let text = fs::read_to_string("/run/calls").unwrap_or_default();
            fs::write("/run/calls", "").expect("calls");
            text
        });
        text.lines().map(Recorded::parse).collect()
    }

    fn cached(&self) -> Vec<PathBuf> {
        self.host.run(|| match fs::read_dir(RESULTS) {
            Ok(entries) => entries.map(|entry| entry.expect("entry").path()).collect(),
            Err(_) => Vec::new(),
        })
    }
}

impl Recorded {
    fn parse(line: &str) -> Recorded {
        let fields: Vec<&str> = line.splitn(7, '|').collect();
        let field = |index: usize| fields[index].to_owned();
        assert_eq!(field(5), "/opt/cni/bin");
        Recorded {
            verb: field(0),
            container: field(1),
            netns: field(2),
            ifname: field(3),
            args: field(4),
            config: serde_json::from_str(fields[6]).expect("configuration"),
        }
    }

    /// `ADD first`
    fn what(&self) -> String {
        format!(
            "{} {}",
            self.verb,
            self.config["type"].as_str().expect("type")
        )
    }
}

fn run(host: &Host, program: &Path, path: &str, words: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(program);
    command
        .args(words.split_whitespace())
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("CNI_PATH", path)
        .env("NETCONFPATH", NET_DIR)
        .envs(variables.iter().copied())
        .current_dir("/");
    host.run(move || command.output().expect("cnitool"))
}

#[track_caller]
fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[track_caller]
fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

fn what(calls: &[Recorded]) -> Vec<String> {
    calls.iter().map(Recorded::what).collect()
}

#[scenario]
fn chain_passes_results_capabilities_and_arguments_on() {
    let runtime = Runtime::new("1.0.0");
    let variables = [
        ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=a"),
        ("CNI_IFNAME", "net1"),
        (
            "CAP_ARGS",
            r#"{"bandwidth":{"ingressRate":8},"aliases":["a"],"ips":["10.1.1.1"]}"#,
        ),
    ];
    let printed = succeeded(runtime.tool_with("add net /run/netns/a", &variables));
    let printed: Value = serde_json::from_str(&printed).expect("result");
    let result = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.9.8.7/24"}]});
    assert_eq!(printed, result);

    let calls = runtime.calls();
    assert_eq!(what(&calls), ["ADD first", "ADD second"]);
    for call in &calls {
        // the id that upstream gives /run/netns/a
        assert_eq!(call.container, "cnitool-a145bc1ace582bff43bd");
        assert_eq!(call.netns, "/run/netns/a");
        assert_eq!(call.ifname, "net1");
        assert_eq!(call.args, "IgnoreUnknown=1;K8S_POD_NAME=a");
        assert_eq!(call.config["name"], "net");
        assert_eq!(call.config["cniVersion"], "1.0.0");
    }
    // only declared capabilities
    assert_eq!(
        calls[0].config["runtimeConfig"],
        json!({"bandwidth": {"ingressRate": 8}})
    );
    assert_eq!(calls[1].config.get("runtimeConfig"), None);
    assert_eq!(calls[0].config.get("prevResult"), None);
    assert_eq!(calls[1].config["prevResult"], result);

    succeeded(runtime.tool_with("check net /run/netns/a", &variables));
    succeeded(runtime.tool_with("del net /run/netns/a", &variables));
    let calls = runtime.calls();
    assert_eq!(
        what(&calls),
        ["CHECK first", "CHECK second", "DEL second", "DEL first"]
    );
    for call in &calls {
        assert_eq!(call.config["prevResult"], result, "{}", call.what());
    }
    // once more, without the cached result
    succeeded(runtime.tool_with("del net /run/netns/a", &variables));
    assert!(
        runtime
            .calls()
            .iter()
            .all(|call| call.config.get("prevResult").is_none())
    );
}

#[scenario]
fn del_before_0_4_0_has_no_prev_result() {
    let runtime = Runtime::new("0.3.1");
    runtime.ok("add net /run/netns/a");
    runtime.ok("del net /run/netns/a");
    let calls = runtime.calls();
    assert_eq!(
        what(&calls),
        ["ADD first", "ADD second", "DEL second", "DEL first"]
    );
    assert_eq!(calls[1].config["prevResult"]["ips"][0]["version"], "4");
    assert_eq!(calls[2].config.get("prevResult"), None);
    assert!(runtime.cached().is_empty());
    assert_eq!(
        runtime.error("check net /run/netns/a"),
        "configuration version \"0.3.1\" does not support CHECK"
    );
}

#[scenario]
fn result_is_cached_until_del_succeeds() {
    let runtime = Runtime::new("1.0.0");
    let variables = [("CNI_ARGS", "A=1"), ("CAP_ARGS", r#"{"ips":["10.1.1.1"]}"#)];
    succeeded(runtime.tool_with("add net /run/netns/a", &variables));
    let file = format!("{RESULTS}/net-cnitool-a145bc1ace582bff43bd-eth0");
    assert_eq!(runtime.cached(), [PathBuf::from(&file)]);
    let (text, mode) = runtime.host.run(|| {
        let mode = fs::metadata(&file).expect("cached").permissions().mode();
        (fs::read_to_string(&file).expect("cached"), mode)
    });
    assert_eq!(mode & 0o777, 0o600);
    let cached: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(cached["kind"], "cniCacheV1");
    assert_eq!(cached["containerId"], "cnitool-a145bc1ace582bff43bd");
    assert_eq!(cached["ifName"], "eth0");
    assert_eq!(cached["networkName"], "net");
    assert_eq!(cached["netns"], "/run/netns/a");
    assert_eq!(cached["cniArgs"], json!([["A", "1"]]));
    assert_eq!(cached["capabilityArgs"], json!({"ips": ["10.1.1.1"]}));
    assert_eq!(cached["result"]["ips"][0]["address"], "10.9.8.7/24");

    // a file that a power loss damaged does not prevent DEL
    for left in ["", "{", "\0\0\0\0"] {
        runtime.calls();
        runtime.host.run(|| fs::write(&file, left).expect("cached"));
        assert!(
            runtime
                .error("check net /run/netns/a")
                .contains("cached result")
        );
        runtime.ok("del net /run/netns/a");
        assert_eq!(what(&runtime.calls()), ["DEL second", "DEL first"]);
        assert!(runtime.cached().is_empty());
    }
    // a failed DEL keeps the result for the next one
    runtime.ok("add net /run/netns/a");
    runtime.configure(&json!({
        "cniVersion": "1.0.0", "name": "net",
        "plugins": [{"type": "first", "x": "FAIL-DEL"}, {"type": "second"}],
    }));
    assert_eq!(
        runtime.error("del net /run/netns/a"),
        "plugin type=\"first\" failed (delete): requested failure; of the test"
    );
    assert_eq!(runtime.cached(), [PathBuf::from(&file)]);
}

#[scenario]
fn gc_removes_all_but_valid_attachments() {
    let runtime = Runtime::new("1.1.0");
    for netns in ["a", "b", "c"] {
        runtime.ok(&format!("add net /run/netns/{netns}"));
    }
    let adds = runtime.calls();
    let valid_id = adds[0].container.clone();
    let valid = json!([{"containerID": valid_id, "ifname": "eth0"}]);
    runtime.ok(&format!("gc net --valid {valid}"));
    let calls = runtime.calls();
    let mut stale: Vec<_> = [&adds[2], &adds[4]].map(|add| add.container.clone()).into();
    stale.sort();
    assert_eq!(
        what(&calls),
        [
            "DEL second",
            "DEL first",
            "DEL second",
            "DEL first",
            "GC first",
            "GC second"
        ]
    );
    assert_eq!(
        [&calls[0].container, &calls[2].container],
        [&stale[0], &stale[1]]
    );
    assert!(calls[0].config["prevResult"].is_object());
    for call in &calls[4..] {
        assert_eq!(call.config["cni.dev/valid-attachments"], valid);
        assert_eq!(call.config["cni.dev/attachments"], valid);
        assert_eq!([&call.container, &call.netns, &call.ifname], ["", "", ""]);
    }
    assert_eq!(runtime.cached().len(), 1);
    // results of other networks stay
    runtime.host.run(|| {
        let other = json!({"kind": "cniCacheV1", "networkName": "other", "containerId": "x", "ifName": "eth0"});
        fs::write(format!("{RESULTS}/other-x-eth0"), other.to_string()).expect("cached");
    });
    runtime.ok("gc net");
    let calls = runtime.calls();
    assert_eq!(
        what(&calls),
        ["DEL second", "DEL first", "GC first", "GC second"]
    );
    assert_eq!(calls[2].config.get("cni.dev/valid-attachments"), None);
    assert_eq!(runtime.cached().len(), 1);
    // after a failure, the rest is done
    runtime.ok("add net /run/netns/a");
    runtime.configure(&json!({
        "cniVersion": "1.1.0", "name": "net",
        "plugins": [{"type": "first", "x": "FAIL-GC"}, {"type": "second", "x": "FAIL-DEL"}],
    }));
    runtime.calls();
    let errors = runtime.error("gc net");
    assert!(
        errors.contains("failed to delete stale attachment cnitool-a145bc1ace582bff43bd eth0: ")
    );
    assert!(
        errors.contains("failed to GC plugin first: requested failure"),
        "{errors}"
    );
    assert_eq!(
        what(&runtime.calls()),
        ["DEL second", "GC first", "GC second"]
    );
}

#[scenario]
fn status_stops_at_the_first_error() {
    let runtime = Runtime::new("0.3.1");
    let printed = runtime.ok("status net");
    assert!(
        printed.contains("cniVersion 0.3.1, which is too old to tell"),
        "{printed}"
    );
    assert_eq!(what(&runtime.calls()), ["VERSION first", "VERSION second"]);
    // what can be checked without STATUS
    let second = r#"echo '{"supportedVersions":["0.4.0"]}'"#;
    runtime.host.sh(&format!(
        "printf '%s\n' '#!/bin/sh' {second:?} >/opt/cni/bin/second"
    ));
    let refused = runtime.error("status net");
    assert!(
        refused.contains("plugin \"second\" does not support cniVersion 0.3.1"),
        "{refused}"
    );
    runtime.host.sh("rm /opt/cni/bin/second");
    let absent = runtime.error("status net");
    assert!(
        absent.contains("failed to find plugin \"second\""),
        "{absent}"
    );
    let runtime = Runtime::new("1.1.0");
    runtime.ok("status net /run/netns/a");
    assert_eq!(what(&runtime.calls()), ["STATUS first", "STATUS second"]);
    runtime.configure(&json!({
        "cniVersion": "1.1.0", "name": "net",
        "plugins": [{"type": "first", "x": "FAIL-STATUS"}, {"type": "second"}],
    }));
    assert_eq!(
        runtime.error("status net"),
        "requested failure; of the test"
    );
    assert_eq!(what(&runtime.calls()), ["STATUS first"]);
}

#[scenario]
fn errors_name_the_cause() {
    let runtime = Runtime::new("1.0.0");
    let message = runtime.error("add other /run/netns/a");
    assert!(
        message.starts_with("no net configuration with name \"other\" in /run/net.d"),
        "{message}"
    );
    for (words, variables, error) in [
        (
            "attach net /run/netns/a",
            [("CNI_ARGS", "")],
            "unknown command \"attach\"\nusage: ",
        ),
        ("add net", [("CNI_ARGS", "")], "the namespace is missing"),
        (
            "add net /run/netns/a",
            [("CNI_ARGS", "x")],
            "invalid CNI_ARGS pair \"x\"",
        ),
        (
            "add net /run/netns/a",
            [("CNI_PATH", "")],
            "CNI_PATH is not set",
        ),
    ] {
        let output = runtime.tool_with(words, &variables);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.starts_with(error), "{message}");
    }
    let help = succeeded(runtime.tool("--help"));
    for known in [
        "CNI_PATH",
        "NETCONFPATH",
        "CAP_ARGS",
        "CNI_ARGS",
        "CNI_IFNAME",
    ] {
        assert!(help.contains(known));
    }
    let bad = runtime.tool_with("add net /run/netns/a", &[("CNI_IFNAME", "../x")]);
    assert!(failed(&bad).contains("interface name contains /"));
    runtime.configure(&json!({
        "cniVersion": "1.0.0", "name": "net",
        "plugins": [{"type": "first"}, {"type": "second", "x": "FAIL-ADD"}],
    }));
    assert_eq!(
        runtime.error("add net /run/netns/a"),
        "plugin type=\"second\" failed (add): requested failure; of the test"
    );
    assert!(runtime.cached().is_empty());
    runtime
        .configure(&json!({"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "absent"}]}));
    assert_eq!(
        runtime.error("add net /run/netns/a"),
        "plugin type=\"absent\" failed (add): failed to find plugin \"absent\" in path [/opt/cni/bin]"
    );
    runtime
        .configure(&json!({"cniVersion": "7.0.0", "name": "net", "plugins": [{"type": "first"}]}));
    assert!(
        runtime
            .error("add net /run/netns/a")
            .starts_with("incompatible CNI versions")
    );
}
