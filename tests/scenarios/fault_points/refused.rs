//! The kernel refuses one of ADD's calls. Then ADD comes to its end without it, or says what is wrong and has undone all it did.

use super::{
    Step,
    node::{Chain, Node},
};

/// Not the plugin's own work: to execute it, and to start its processes.
const OTHERS: &[&str] = &["execve", "clone", "clone3", "vfork"];

pub fn at_every_step(chain: Chain) {
    super::at_every_step(chain, false, refused_at);
}

fn refused_at(node: &Node, step: &Step) -> bool {
    let (plugin, name, count) = step;
    if OTHERS.contains(&name.as_str()) {
        return true;
    }
    let before = node.snapshot();
    let previous = node.add_before(plugin);
    let attached = node.snapshot();
    let inject = format!("-e inject={name}:error=EIO:when={count}");
    let outcome = node.traced(plugin, "dies", previous.as_ref(), &inject);
    // strace counts for each process anew, so that it may refuse a process of the undoing too
    let refusals = node.host.sh("cat /run/trace").matches("(INJECTED)").count();
    match outcome.code {
        0 => {
            let result = outcome.json();
            assert!(result["ips"].is_array(), "after {step:?}: {result}");
        }
        // what it says cannot be read if it is stdout that cannot be written to
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
        // a thread that cannot go back to its own namespace must not go on in a strange one: as good as killed
        -1 if name == "setns" => {}
        _ => panic!("after {step:?}: {outcome:?}"),
    }
    node.del();
    node.host.sh("ip netns del dies");
    node.assert_as(&before, step);
    refusals > 0
}
