//! A system call of ADD that fails with EIO: ADD succeeds without it, or fails and undoes what it
//! did.

use super::{
    CHAINED, IPTABLES, NFTABLES, Step, cannot_trace,
    node::{Chain, Node},
};
use tests::scenario;

/// Calls of the shell and of libc that start a process.
const PROCESS_CALLS: &[&str] = &["execve", "clone", "clone3", "vfork"];

#[scenario(unless = cannot_trace)]
fn a_failed_system_call_does_not_leave_half_an_add() {
    at_every_step(NFTABLES);
}

#[scenario(unless = cannot_trace)]
fn a_failed_system_call_does_not_leave_half_an_add_in_iptables() {
    at_every_step(IPTABLES);
}

#[scenario(unless = cannot_trace)]
fn a_failed_system_call_does_not_leave_half_an_add_of_chained_plugins() {
    at_every_step(CHAINED);
}

fn at_every_step(chain: Chain) {
    super::at_every_step(chain, false, refused_at);
}

fn refused_at(node: &Node, step: &Step) -> bool {
    let (plugin, name, count) = step;
    if PROCESS_CALLS.contains(&name.as_str()) {
        return true;
    }
    let before = node.snapshot();
    let previous = node.add_before(plugin);
    let attached = node.snapshot();
    let inject = format!("-e inject={name}:error=EIO:when={count}");
    let outcome = node.traced(plugin, "dies", previous.as_ref(), &inject);
    // strace counts per process, so the fault may hit a process of the undoing as well
    let refusals = node.host.sh("cat /run/trace").matches("(INJECTED)").count();
    match outcome.code {
        0 => {
            let result = outcome.json();
            assert!(result["ips"].is_array(), "after {step:?}: {result}");
        }
        // the failed call is the write to stdout
        1 if outcome.stdout.is_empty() => assert_eq!(name, "write", "{step:?}: {outcome:?}"),
        1 => {
            let (_, message) = outcome.error();
            assert!(!message.is_empty());
            if refusals == 1 {
                node.assert_as(&attached, step);
            }
            let links = node
                .host
                .sh("ip -n dies -br link show | grep -v ^lo || true");
            let before_it = if previous.is_some() { 1 } else { 0 };
            assert_eq!(
                links.lines().count(),
                before_it,
                "in the pod after {step:?}: {links}"
            );
        }
        // a thread that cannot return to its own namespace aborts: as after a kill
        -1 if name == "setns" => {}
        _ => panic!("after {step:?}: {outcome:?}"),
    }
    node.del();
    node.host.sh("ip netns del dies");
    node.assert_as(&before, step);
    refusals > 0
}
