//! Delegation in process and by execution give the same bytes, exit codes and kernel state.

use serde_json::{Value, json};
use std::{fs, io::Write, os::unix::fs::PermissionsExt, path::Path};
use tests::{Cni, Host, Outcome, binaries, scenario};

/// Links to the suite: delegates are this executable.
const TOGETHER: &str = "/opt/cni/bin";
/// Copies of the suite with different lengths: delegates are other executables.
const APART: &str = "/opt/cni/apart";
const CHAIN: [&str; 3] = ["flannel", "bridge", "host-local"];
const VERSIONS: [&str; 7] = [
    "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
];
const SUBNET_ENV: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/29\n\
    FLANNEL_IPV6_NETWORK=fd00:10:244::/48\nFLANNEL_IPV6_SUBNET=fd00:10:244:3::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

fn host() -> Host {
    let host = Host::new("node");
    host.run(|| {
        binaries::install_suite(TOGETHER.as_ref());
        fs::create_dir_all(APART).expect("folder");
        for (index, name) in CHAIN.iter().enumerate() {
            let file = Path::new(APART).join(name);
            fs::copy(binaries::program("cni-suite"), &file).expect("copy");
            let mut file = fs::File::options().append(true).open(&file).expect("copy");
            file.write_all(&vec![0; index + 1]).expect("copy");
        }
        fs::create_dir_all("/run/flannel").expect("folder");
        fs::write("/run/flannel/subnet.env", SUBNET_ENV).expect("subnet.env");
    });
    host
}

fn flannel(version: &str) -> Value {
    json!({
        "cniVersion": version, "name": "cbr0", "type": "flannel",
        "delegate": {"hairpinMode": true, "isDefaultGateway": true},
    })
}

/// Exit code and stdout, with MAC addresses and veth names, which are random, replaced by `*`.
fn scrubbed(outcome: &Outcome) -> (i32, String) {
    let mut text = String::new();
    let mut rest = outcome.stdout.as_str();
    while let Some(next) = rest.chars().next() {
        let skip = match rest {
            _ if is_mac(rest) => 17,
            _ if is_veth(rest) => 12,
            _ => 0,
        };
        match skip {
            0 => text.push(next),
            _ => text.push('*'),
        }
        rest = &rest[skip.max(next.len_utf8())..];
    }
    (outcome.code, text)
}

fn is_mac(text: &str) -> bool {
    text.len() >= 17
        && text
            .bytes()
            .take(17)
            .enumerate()
            .all(|(index, byte)| match index % 3 {
                2 => byte == b':',
                _ => byte.is_ascii_hexdigit(),
            })
}

fn is_veth(text: &str) -> bool {
    let hex = text.strip_prefix("veth").and_then(|rest| rest.get(..8));
    hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Runs every verb for a pod in one version; returns all outputs and the kernel state after ADD.
fn life(host: &Host, path: &str, version: &str) -> Vec<(i32, String)> {
    let mut outcomes = Vec::new();
    let pod = host.pod("pod");
    let cni = Cni::new(path, "c1", &pod.path());
    let mut config = flannel(version);
    let mut call = |verb: &str, config: &Value| {
        let outcome = cni.call(host, verb, "flannel", &config.to_string());
        outcomes.push(scrubbed(&outcome));
        outcome
    };
    call("STATUS", &config);
    let added = call("ADD", &config).ok();
    let shown = |what: &str| {
        let text = pod.sh(what);
        scrubbed(&Outcome {
            code: 0,
            stdout: text,
            stderr: String::new(),
        })
    };
    let kernel = [
        shown("ip -o address show scope global"),
        shown("ip route"),
        shown("ip -6 route"),
    ];
    // the interface exists now
    call("ADD", &config);
    config["prevResult"] = added.json();
    call("CHECK", &config);
    call("DEL", &config).ok();
    call("DEL", &config).ok();
    call("CHECK", &config);
    config["cni.dev/valid-attachments"] = json!([]);
    call("GC", &config);
    outcomes.extend(kernel);
    pod.delete();
    outcomes
}

#[scenario]
fn in_process_and_executed_delegates_print_the_same() {
    let (one, other) = (host(), host());
    for version in VERSIONS {
        let (together, apart) = (life(&one, TOGETHER, version), life(&other, APART, version));
        assert_eq!(together, apart, "{version}");
    }
    let store = |host: &Host| {
        host.sh("cd /var/lib/cni && find . -type f -name '10.*' && find . -path './flannel/*'")
    };
    assert_eq!(store(&one), store(&other));
    assert_eq!(store(&one), "");
}

#[scenario]
fn in_process_and_executed_delegates_fail_the_same() {
    let (one, other) = (host(), host());
    let both = |verb: &str, config: &Value| {
        let outcomes = [(&one, TOGETHER), (&other, APART)].map(|(host, path)| {
            let pod = host.pod("pod");
            let outcome =
                Cni::new(path, "c1", &pod.path()).call(host, verb, "flannel", &config.to_string());
            Cni::new(path, "c1", "").call(host, "DEL", "flannel", &config.to_string());
            pod.delete();
            outcome
        });
        let [together, mut apart] = outcomes;
        apart.stdout = apart.stdout.replace(APART, TOGETHER);
        assert_eq!(scrubbed(&together), scrubbed(&apart), "{config}");
        together.error()
    };
    let with = |delegate: Value| {
        let mut config = flannel("1.0.0");
        config["delegate"] = delegate;
        config
    };
    let (_, msg) = both("ADD", &with(json!({"type": "absent"})));
    assert!(
        msg.starts_with("failed to find plugin \"absent\" in path ["),
        "{msg}"
    );
    let (_, msg) = both("ADD", &with(json!({"type": "a/b"})));
    assert_eq!(msg, "invalid plugin name: a/b");
    let (_, msg) = both(
        "ADD",
        &with(json!({"hairpinMode": true, "promiscMode": true})),
    );
    assert!(msg.contains("hairpin"), "{msg}");
    let (_, msg) = both("ADD", &with(json!({"vlan": 9999})));
    assert!(msg.contains("invalid VLAN ID 9999"), "{msg}");
    let (_, msg) = both("ADD", &with(json!({"isGateway": "yes"})));
    assert!(msg.contains("failed to load netconf"), "{msg}");
    let (_, msg) = both("ADD", &with(json!({"cniVersion": "1.0.0", "mtu": "1450"})));
    assert!(!msg.is_empty());
    let mut unversioned = flannel("");
    unversioned["delegate"] = json!({"cniVersion": "9.9.9"});
    assert_eq!(both("ADD", &unversioned).0, 1);
}

/// The programs that one ADD executes, according to strace.
fn executed(host: &Host, path: &str) -> Vec<String> {
    let pod = host.pod("pod");
    let script = format!(
        "printf '%s' '{}' | CNI_COMMAND=$VERB CNI_CONTAINERID=c1 CNI_NETNS={} CNI_IFNAME=eth0 CNI_PATH={path} \
         strace -f -qq -e trace=execve -o /run/trace {path}/flannel",
        flannel("1.0.0"),
        pod.path()
    );
    host.sh(&format!("VERB=ADD; {script}"));
    let trace = host.sh("cat /run/trace");
    host.sh(&format!("VERB=DEL; {script}"));
    pod.delete();
    let lines = trace
        .lines()
        .filter(|line| line.contains("execve(") && line.ends_with("= 0"));
    lines
        .map(|line| line.split('"').nth(1).expect("program").to_owned())
        .collect()
}

#[scenario]
fn delegates_of_this_executable_run_in_process() {
    let host = host();
    assert_eq!(executed(&host, TOGETHER), ["/opt/cni/bin/flannel"]);
    let apart = CHAIN.map(|name| format!("{APART}/{name}"));
    assert_eq!(executed(&host, APART), apart);
}

/// An image that copies instead of linking has several files of one build.
#[scenario]
fn copies_of_one_build_run_in_process() {
    let host = host();
    host.run(|| {
        fs::create_dir_all("/opt/cni/copies").expect("folder");
        for name in CHAIN {
            let file = Path::new("/opt/cni/copies").join(name);
            fs::copy(binaries::program("cni-suite"), file).expect("copy");
        }
    });
    assert_eq!(
        executed(&host, "/opt/cni/copies"),
        ["/opt/cni/copies/flannel"]
    );
}

#[scenario]
fn other_executable_of_the_same_name_is_executed() {
    const SCRIPT: &str = r#"#!/bin/sh
echo "$CNI_COMMAND $CNI_PATH $OTHER" >>/run/calls
cat >/run/config.$CNI_COMMAND
echo a message on stderr >&2
[ $CNI_COMMAND != ADD ] || echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.7/24"}]}'
"#;
    let host = host();
    host.run(|| {
        fs::create_dir_all("/opt/cni/first").expect("folder");
        let file = "/opt/cni/first/host-local";
        fs::write(file, SCRIPT).expect("plugin");
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("mode");
    });
    let path = format!("/opt/cni/first:{TOGETHER}");
    let pod = host.pod("pod");
    let config = r#"{"cniVersion":"1.0.0","name":"lan","type":"bridge","bridge":"lan0","ipam":{"type":"host-local","a":[1]}}"#;
    let cni = Cni::new(&path, "c1", &pod.path()).with("OTHER", "kept");
    let added = cni.call(&host, "ADD", "bridge", config).ok();
    assert_eq!(added.json()["ips"][0]["address"], "10.9.0.7/24");
    assert!(added.stderr.contains("a message on stderr"), "{added:?}");
    cni.call(&host, "DEL", "bridge", config).ok();
    assert_eq!(
        host.sh("cat /run/calls"),
        format!("ADD {path} kept\nDEL {path} kept\n")
    );
    assert_eq!(host.sh("cat /run/config.ADD"), config, "the same bytes");
}

/// Each verb ends with an error, in process and with a process for each plugin.
#[scenario]
fn endless_delegation_is_refused() {
    let bridge = json!({ "cniVersion": "1.1.0", "name": "lan", "type": "bridge", "bridge": "lan0",
        "ipam": { "type": "bridge" }, "cni.dev/valid-attachments": [] });
    let mut flannel = flannel("1.1.0");
    flannel["delegate"] = json!({ "type": "flannel", "delegate": { "type": "flannel" } });
    let mut through_flannel = bridge.clone();
    through_flannel["ipam"] = json!({ "type": "flannel" });
    through_flannel["delegate"] = json!({ "type": "bridge" });
    for path in [TOGETHER, APART] {
        let host = host();
        let pod = host.pod("pod");
        let cni = Cni::new(path, "c1", &pod.path());
        let error = |verb: &str, plugin: &str, config: &Value| {
            cni.call(&host, verb, plugin, &config.to_string()).error()
        };
        let (code, msg) = error("ADD", "bridge", &bridge);
        assert_eq!(code, 7, "{msg}");
        assert!(msg.contains("its own IPAM plugin"), "{msg}");
        assert_eq!(
            host.sh("ip -o link show type bridge"),
            "",
            "before any change"
        );
        for verb in ["DEL", "GC", "STATUS"] {
            let (code, msg) = error(verb, "bridge", &bridge);
            assert_eq!(code, 7, "{verb}: {msg}");
            assert!(msg.contains("delegate more than 8 deep"), "{verb}: {msg}");
        }
        for verb in ["ADD", "STATUS"] {
            let (code, msg) = error(verb, "flannel", &flannel);
            assert_eq!(code, 7, "{verb}: {msg}");
            assert!(msg.contains("cannot delegate to itself"), "{verb}: {msg}");
        }
        cni.call(&host, "DEL", "flannel", &flannel.to_string()).ok();
        host.run(|| {
            let saved = "{\"name\":\"cbr0\",\"type\":\"flannel\"}";
            fs::create_dir_all("/var/lib/cni/flannel").expect("folder");
            fs::write("/var/lib/cni/flannel/c1", saved).expect("state");
        });
        assert_eq!(error("DEL", "flannel", &flannel).0, 7);
        for verb in ["ADD", "STATUS"] {
            error(verb, "bridge", &through_flannel);
        }
        assert_eq!(host.sh("ls /var/lib/cni/networks 2>/dev/null || true"), "");
        assert_eq!(host.sh("ip -o link show type veth"), "");
        pod.delete();
    }
}
