//! The pages of `docs/`: their own commands, on machines that have nothing installed.

mod backup;
mod certificates;
mod change_configuration;
mod first_cluster;
mod links;
mod upgrade_and_remove;

use tests::{
    Pod,
    page::{Machines, Page},
};

/// The machines of the example.
const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];

/// The cluster of docs/first-cluster.md, without a packet filter.
fn first_cluster() -> Machines {
    let machines = Machines::new(&NODES);
    let page = Page::open("first-cluster.md");
    for section in [
        "Build and install",
        "Certificates",
        "Configuration",
        "Start",
    ] {
        page.run(section, &machines, &[]);
    }
    machines
}

/// A pod that `cnitool` attaches, the first one of the node.
fn pod<'m>(machines: &'m Machines, node: &str) -> Pod<'m> {
    machines.sh(
        node,
        "ip netns add pod && CNI_PATH=/opt/cni/bin cnitool add cbr0 /run/netns/pod",
    );
    Pod {
        name: "pod".to_owned(),
        host: machines.host(node),
    }
}
