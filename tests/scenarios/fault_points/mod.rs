//! ADD is disturbed at every step: killed, and then DEL alone, or GC alone, leaves the node as it was; or refused by the kernel, and
//! then it undoes what it did, or comes to its end nevertheless.
//!
//! strace does it: at each of the system calls that can change anything outside of the process, one after the other. A kill in between
//! is the kill at the next one of these.

mod killed;
mod node;
mod refused;

use killed::Cleaning;
use node::{Chain, Node};
use std::{
    collections::BTreeMap,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};
use tests::{Case, case, scenarios};

const NFTABLES: Chain = Chain {
    plugins: &["flannel", "portmap"],
    disturbed: &["flannel", "portmap"],
    filter: "nftables",
};
/// With processes of their own, any of which is killed in its turn.
const IPTABLES: Chain = Chain {
    plugins: &["flannel", "portmap"],
    disturbed: &["flannel", "portmap"],
    filter: "iptables",
};
/// What clusters chain besides.
const COMPANIONS: Chain = Chain {
    plugins: &["flannel", "tuning", "bandwidth", "firewall"],
    disturbed: &["tuning", "bandwidth", "firewall"],
    filter: "nftables",
};

#[scenarios(unless = cannot_trace)]
fn disturbed_adds() -> Vec<Case> {
    let killed =
        |name: &str, chain, cleaning| case(name, move || killed::at_every_step(chain, cleaning));
    let refused = |name: &str, chain| case(name, move || refused::at_every_step(chain));
    vec![
        killed("del", NFTABLES, Cleaning::Del),
        killed(
            "del-without-namespace",
            NFTABLES,
            Cleaning::DelWithoutNamespace,
        ),
        killed("gc", NFTABLES, Cleaning::Gc),
        killed("first-add", NFTABLES, Cleaning::FirstAdd),
        killed("iptables-del", IPTABLES, Cleaning::DelWithoutNamespace),
        killed("iptables-gc", IPTABLES, Cleaning::Gc),
        killed("companions-del", COMPANIONS, Cleaning::Del),
        killed(
            "companions-del-without-namespace",
            COMPANIONS,
            Cleaning::DelWithoutNamespace,
        ),
        killed("companions-gc", COMPANIONS, Cleaning::Gc),
        refused("refused", NFTABLES),
        refused("iptables-refused", IPTABLES),
        refused("companions-refused", COMPANIONS),
    ]
}

fn cannot_trace() -> Option<String> {
    let traced = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .output();
    match traced {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!(
            "strace may not trace here: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Some(format!("strace (Debian package strace): {error}")),
    }
}

/// A plugin of the chain, and a system call of its ADD: the how-manieth of that name in one process.
type Step = (&'static str, String, usize);

/// Does something to ADD at every step, on a node that has a pod already unless it is `fresh`. `at` tells whether the step was reached.
fn at_every_step(chain: Chain, fresh: bool, at: impl Fn(&Node, &Step) -> bool + Sync) {
    let node = || {
        let node = Node::new(chain);
        if !fresh {
            node.add("stays");
        }
        node
    };
    let steps = steps(chain, &node());
    let (next, reached) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        let node = node();
        while let Some(step) = steps.get(next.fetch_add(1, Ordering::Relaxed)) {
            reached.fetch_add(usize::from(at(&node, step)), Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..3).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    // a call more or less is made where the store has seen a disturbance before
    let (reached, all) = (reached.into_inner(), steps.len());
    assert!(
        reached * 10 >= all * 9,
        "only {reached} of {all} steps were reached"
    );
}

/// Every step of an ADD that nobody disturbs.
fn steps(chain: Chain, node: &Node) -> Vec<Step> {
    node.host.pod("dies");
    let mut steps = Vec::new();
    let mut previous = None;
    for plugin in chain.plugins.iter().copied() {
        let result = node.traced(plugin, "dies", previous.as_ref(), "").ok();
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let trace = node.host.sh("cat /run/trace");
        for line in trace.lines() {
            // 123 openat(AT_FDCWD, ...
            let reads_only = line.contains("openat(") && !line.contains("O_CREAT");
            let Some((pid, name)) =
                (line.split_once('(')).and_then(|(call, _)| call.split_once(' '))
            else {
                continue;
            };
            let name = name.trim();
            let count = counts.entry((pid, name)).or_default();
            *count += 1;
            let step = (plugin, name.to_owned(), *count);
            if !reads_only && chain.disturbed.contains(&plugin) && !steps.contains(&step) {
                steps.push(step);
            }
        }
        previous = Some(result.json());
    }
    assert!(
        steps.len() > 30,
        "{} steps are too few to be true",
        steps.len()
    );
    steps
}
