//! A kill of ADD, and its clean-up.

use super::{
    CHAINED, IPTABLES, NFTABLES, Step, cannot_trace,
    node::{Chain, Node},
};
use tests::scenario;

/// What follows the kill.
#[derive(Clone, Copy, PartialEq)]
enum Cleaning {
    /// DEL as a runtime calls it.
    Del,
    /// DEL after the namespace was deleted.
    DelWithoutNamespace,
    /// GC with the other pod as the only valid attachment.
    Gc,
    /// DEL on a node that never had a pod, then ADD of another pod.
    FirstAdd,
}

#[scenario(unless = cannot_trace)]
fn del_restores_the_node_after_a_killed_add() {
    at_every_step(NFTABLES, Cleaning::Del);
}

#[scenario(unless = cannot_trace)]
fn del_without_namespace_restores_the_node_after_a_killed_add() {
    at_every_step(NFTABLES, Cleaning::DelWithoutNamespace);
}

#[scenario(unless = cannot_trace)]
fn gc_restores_the_node_after_a_killed_add() {
    at_every_step(NFTABLES, Cleaning::Gc);
}

#[scenario(unless = cannot_trace)]
fn a_killed_first_add_does_not_prevent_the_next() {
    at_every_step(NFTABLES, Cleaning::FirstAdd);
}

#[scenario(unless = cannot_trace)]
fn del_without_namespace_restores_iptables_after_a_killed_add() {
    at_every_step(IPTABLES, Cleaning::DelWithoutNamespace);
}

#[scenario(unless = cannot_trace)]
fn gc_restores_iptables_after_a_killed_add() {
    at_every_step(IPTABLES, Cleaning::Gc);
}

#[scenario(unless = cannot_trace)]
fn del_of_chained_plugins_restores_the_node_after_a_killed_add() {
    at_every_step(CHAINED, Cleaning::Del);
}

#[scenario(unless = cannot_trace)]
fn del_without_namespace_of_chained_plugins_restores_the_node_after_a_killed_add() {
    at_every_step(CHAINED, Cleaning::DelWithoutNamespace);
}

#[scenario(unless = cannot_trace)]
fn gc_of_chained_plugins_restores_the_node_after_a_killed_add() {
    at_every_step(CHAINED, Cleaning::Gc);
}

fn at_every_step(chain: Chain, cleaning: Cleaning) {
    let fresh = cleaning == Cleaning::FirstAdd;
    super::at_every_step(chain, fresh, |node, step| killed_at(node, step, cleaning));
}

/// Kills an ADD at `step`, cleans up, and asserts that the node is as before. False if the ADD
/// succeeded.
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
