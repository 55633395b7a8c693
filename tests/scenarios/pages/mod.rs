//! The pages of `docs/`: their own commands, on machines that have nothing installed.

mod backup;
mod first_cluster;
mod links;

use tests::page::{Machines, Page};

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
