//! docs/upgrade-and-remove.md: its own commands on the cluster of docs/first-cluster.md.

use super::{NODES, first_cluster, pod};
use std::net::IpAddr;
use tests::{
    page::{Machines, Page},
    scenario, subnet_env,
};

/// The node's subnet, as the lease server names it.
fn subnet(machines: &Machines, node: &str) -> String {
    let subnet = subnet_env::value(machines.host(node), "FLANNEL_SUBNET").expect("a subnet");
    subnet.replace(".1/24", ".0-24")
}

/// A pod of the installed plugins, with a namespace of that name.
fn attach(machines: &Machines, node: &str, pod: &str) {
    machines.sh(
        node,
        &format!("ip netns add {pod} && CNI_PATH=/opt/cni/bin cnitool add cbr0 /run/netns/{pod}"),
    );
}

/// The addresses that are reserved on a node.
fn reserved(machines: &Machines, node: &str) -> usize {
    let names = machines.sh(node, "ls /var/lib/cni/networks/cbr0 2>/dev/null || true");
    let is_address = |name: &&str| name.parse::<IpAddr>().is_ok();
    names.lines().filter(is_address).count()
}

#[scenario]
fn nodes_are_upgraded_and_removed_by_the_commands_of_the_page() {
    let machines = first_cluster();
    let page = Page::open("upgrade-and-remove.md");
    let subnets = NODES.map(|node| subnet(&machines, node));
    let pods = NODES.map(|node| pod(&machines, node));
    subnet_env::eventually_pings(&pods[0], machines.host("node-3"));

    page.run("Upgrade", &machines, &[]);
    assert_eq!(NODES.map(|node| subnet(&machines, node)), subnets);
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        subnet_env::eventually_pings(&pods[from], machines.host(NODES[to]));
    }
    for node in NODES {
        machines.sh(
            node,
            "CNI_PATH=/opt/cni/bin cnitool del cbr0 /run/netns/pod && ip netns del pod",
        );
    }

    attach(&machines, "node-1", "lost");
    attach(&machines, "node-1", "running");
    machines.sh("node-1", "ip netns del lost");
    let report = page.run("What the plugins leave", &machines, &[]);
    assert!(
        report.contains("removed container cnitool-") && !report.contains("left"),
        "{report}"
    );
    // one of each family
    assert_eq!(reserved(&machines, "node-1"), 2);
    machines.sh(
        "node-1",
        "CNI_PATH=/opt/cni/bin cnitool del cbr0 /run/netns/running && ip netns del running",
    );

    page.run("Remove a node", &machines, &[]);
    let left = machines.sh(
        "node-3",
        "ls -A /opt/cni/bin /etc/cni/net.d /var/lib/flannel | grep -v : || true; ip -o link | grep -c flannel || true",
    );
    assert_eq!(left.trim(), "0");
    page.run(
        "Remove its lease",
        &machines,
        &[("10.244.7.0-24", &subnets[2])],
    );

    page.run("Remove the whole network", &machines, &[]);
    let rules = machines.sh("node-2", "nft list ruleset");
    assert!(!rules.contains("flannel"), "{rules}");
}
