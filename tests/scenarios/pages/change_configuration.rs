//! docs/change-configuration.md: its own commands on the cluster of docs/first-cluster.md.

use super::{NODES, first_cluster, pod};
use tests::{page::Page, scenario, subnet_env};

#[scenario]
fn configuration_changes_by_the_commands_of_the_page() {
    let machines = first_cluster();
    let page = Page::open("change-configuration.md");
    for section in page.headings() {
        page.run(section, &machines, &[]);
    }
    for node in NODES {
        let subnet = subnet_env::value(machines.host(node), "FLANNEL_SUBNET");
        assert!(subnet.is_some_and(|subnet| subnet.starts_with("10.245.")));
    }
    let pods = NODES.map(|node| pod(&machines, node));
    subnet_env::eventually_pings(&pods[0], machines.host("node-3"));
}
