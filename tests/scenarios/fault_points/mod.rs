//! Fault injection at every step of ADD. After a kill, DEL alone or GC alone restores the node.
//! After an error of a system call, ADD succeeds without it, or fails and undoes what it did.
//!
//! A step is a system call that can change something outside of the process; strace injects the
//! fault. A kill between two steps has the effect of a kill at the second.

mod killed;
mod node;
mod refused;

use node::{Chain, Node};
use std::{
    collections::BTreeMap,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

const NFTABLES: Chain = Chain {
    plugins: &["flannel", "portmap"],
    faulty: &["flannel", "portmap"],
    filter: "nftables",
};
/// The iptables processes are steps too.
const IPTABLES: Chain = Chain {
    plugins: &["flannel", "portmap"],
    faulty: &["flannel", "portmap"],
    filter: "iptables",
};
/// The other chained plugins.
const CHAINED: Chain = Chain {
    plugins: &["flannel", "tuning", "bandwidth", "firewall"],
    faulty: &["tuning", "bandwidth", "firewall"],
    filter: "nftables",
};

/// The reason to skip where strace is missing or may not trace.
pub(crate) fn cannot_trace() -> Option<String> {
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

/// A plugin of the chain, a system call of its ADD, and which call of that name in one process
/// (from 1).
type Step = (&'static str, String, usize);

/// Calls `inject` for every step of ADD, on a node that has a pod unless it is `fresh`. `inject`
/// returns whether the step was reached.
fn at_every_step(chain: Chain, fresh: bool, inject: impl Fn(&Node, &Step) -> bool + Sync) {
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
            reached.fetch_add(usize::from(inject(&node, step)), Ordering::Relaxed);
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
    // host-local makes a call more or less after a fault
    let (reached, all) = (reached.into_inner(), steps.len());
    assert!(
        reached * 10 >= all * 9,
        "only {reached} of {all} steps were reached"
    );
}

/// The steps of an ADD without faults.
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
            if !reads_only && chain.faulty.contains(&plugin) && !steps.contains(&step) {
                steps.push(step);
            }
        }
        previous = Some(result.json());
    }
    assert!(steps.len() > 30, "only {} steps were traced", steps.len());
    steps
}
