//! ADD is killed; then DEL alone, or GC alone, leaves the node as it was.

use super::{
    Step,
    node::{Chain, Node},
};

/// What is done after the kill.
#[derive(Clone, Copy, PartialEq)]
pub enum Cleaning {
    /// DEL as a runtime makes it
    Del,
    /// the namespace is taken away before
    DelWithoutNamespace,
    /// GC, with the other pod as the only valid attachment
    Gc,
    /// DEL, on a node that never had a pod; then a next ADD works
    FirstAdd,
}

pub fn at_every_step(chain: Chain, cleaning: Cleaning) {
    let fresh = cleaning == Cleaning::FirstAdd;
    super::at_every_step(chain, fresh, |node, step| killed_at(node, step, cleaning));
}

/// One ADD that is killed, what cleans up after it, and the look whether it did. False if the ADD came to its end.
fn killed_at(node: &Node, step: &Step, cleaning: Cleaning) -> bool {
    let (plugin, name, count) = step;
    let before = node.snapshot();
    let previous = node.add_before(plugin);
    let inject = format!("-e inject={name}:signal=SIGKILL:when={count}");
    let outcome = node.traced(plugin, "dies", previous.as_ref(), &inject);
    match cleaning {
        Cleaning::DelWithoutNamespace => {
            node.host.sh("ip netns del dies");
            node.del();
        }
        Cleaning::Del | Cleaning::FirstAdd => {
            node.del();
            let links = node
                .host
                .sh("ip -n dies -br link show | grep -v ^lo || true");
            assert_eq!(links, "", "in the pod after {step:?}");
            node.host.sh("ip netns del dies");
        }
        Cleaning::Gc => {
            node.gc();
            node.host.sh("ip netns del dies");
        }
    }
    if cleaning == Cleaning::FirstAdd {
        node.add("next");
        node.host.sh("ip netns exec next ping -c1 -W2 10.244.3.1");
        node.del_of("next");
        node.host
            .sh("ip netns del next; ip link del cni0; nft flush ruleset; rm -r /var/lib/cni");
    } else {
        node.assert_as(&before, step);
    }
    outcome.code != 0
}
