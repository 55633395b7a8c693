//! Upper bounds for ADD and DEL in numbers that do not depend on the machine's speed. A change that
//! exceeds one raises it in the same commit and says why, or is a mistake.

use std::{collections::BTreeMap, process::Command};
use tests::{
    Cni, Host,
    binaries::{self, BIN},
    scenario,
    trace::{TRACED, trace_plugin},
};

const CONF: &str = r#"{"cniVersion":"1.0.0","name":"cbr0","type":"flannel","delegate":{"hairpinMode":true,"isDefaultGateway":true}}"#;
const SUBNET_ENV: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
/// Size of the release build of the suite, in bytes.
const SIZE: u64 = 5_000_000;
/// Number of crates that the suite links, without those of this workspace.
const CRATES: usize = 29;

#[scenario]
fn an_add_of_flannel_stays_within_its_budget() {
    Cost::of("ADD").within(
        "ADD",
        &[
            ("processes", 1),
            ("netlink requests", 16),
            ("system calls", 250),
        ],
    );
}

#[scenario]
fn a_del_of_flannel_stays_within_its_budget() {
    Cost::of("DEL").within(
        "DEL",
        &[
            ("processes", 1),
            ("netlink requests", 6),
            ("system calls", 200),
        ],
    );
}

/// How often an execution does each kind of thing.
struct Cost(BTreeMap<&'static str, usize>);

impl Cost {
    /// The cost of `verb` for a pod, through flannel, bridge and host-local, on a node that already
    /// has a pod.
    fn of(verb: &str) -> Cost {
        let host = Host::with_suite("node");
        host.write("/run/flannel/subnet.env", SUBNET_ENV);
        let (first, pod) = (host.pod("first"), host.pod("pod"));
        Cni::new(BIN, "first", &first.path())
            .call(&host, "ADD", "flannel", CONF)
            .ok();
        let cni = Cni::new(BIN, "pod", &pod.path());
        if verb == "DEL" {
            cni.call(&host, "ADD", "flannel", CONF).ok();
        }
        trace_plugin(&host, "flannel", "");
        Cni {
            path: TRACED.into(),
            ..cni
        }
        .call(&host, verb, "flannel", CONF)
        .ok();
        Cost::read(&host.sh("cat /run/trace"))
    }

    fn read(trace: &str) -> Cost {
        let count =
            |wanted: &dyn Fn(&str) -> bool| trace.lines().filter(|line| wanted(line)).count();
        let sent = |line: &str| {
            (line.contains("sendto(") || line.contains("sendmsg(")) && line.contains("nlmsg")
                || line.contains("nl_groups")
        };
        Cost(BTreeMap::from([
            (
                "processes",
                count(&|line| line.contains("execve(") && line.ends_with("= 0")),
            ),
            (
                "netlink requests",
                count(&|line| sent(line) && line.contains("send")),
            ),
            (
                "system calls",
                count(&|line| line.contains('(') && !line.contains("resumed>")),
            ),
        ]))
    }

    #[track_caller]
    fn within(&self, verb: &str, budget: &[(&str, usize)]) {
        println!("{verb}: {:?}", self.0);
        for (what, limit) in budget {
            let count = self.0[what];
            assert!(count > 0, "{what} were not counted");
            assert!(
                count <= *limit,
                "{verb} takes {count} {what}, its budget is {limit}"
            );
        }
    }
}

#[scenario]
fn the_suite_links_few_crates_of_others() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "-p",
            "cni-suite",
            "--edges",
            "normal,no-proc-macro",
            "--prefix",
            "none",
            "--no-dedupe",
        ])
        .current_dir(root)
        .output()
        .expect("cargo tree");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    // cargo prints the path of a crate of this workspace
    let mut crates: Vec<_> = text
        .lines()
        .filter(|line| !line.contains(" (/"))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    crates.sort_unstable();
    crates.dedup();
    println!("{} crates: {}", crates.len(), crates.join(" "));
    assert!(
        crates.len() <= CRATES,
        "the suite links {} crates, its budget is {CRATES}: {crates:?}",
        crates.len()
    );
    for forbidden in [
        "tokio",
        "futures",
        "regex",
        "log4rs",
        "tracing",
        "env_logger",
    ] {
        assert!(
            !crates.contains(&forbidden),
            "a plugin must not link {forbidden}"
        );
    }
}

fn debug_build() -> Option<String> {
    let debug = binaries::folder().ends_with("debug");
    debug.then(|| {
        "this is a debug build of the suite: `make test` measures the release build".into()
    })
}

#[scenario(unless = debug_build)]
fn the_suite_is_small() {
    let size = std::fs::metadata(binaries::program("cni-suite"))
        .expect("suite")
        .len();
    println!("{size} bytes");
    assert!(
        size <= SIZE,
        "the suite has {size} bytes, its budget is {SIZE}"
    );
}
