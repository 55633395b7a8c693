//! docs/backup.md: its own commands on the cluster of docs/first-cluster.md.

use super::{NODES, first_cluster, pod};
use std::time::Duration;
use tests::{
    page::{Machines, Page},
    process::eventually,
    scenario, subnet_env,
};

const TIMEOUT: Duration = Duration::from_secs(20);

fn subnets(machines: &Machines) -> Vec<String> {
    let subnet = |node: &&str| subnet_env::value(machines.host(node), "FLANNEL_SUBNET");
    NODES.iter().filter_map(subnet).collect()
}

/// The store has a lease of each node.
#[track_caller]
fn leases_of_all(page: &Page, machines: &Machines) {
    eventually("three leases", TIMEOUT, || {
        page.run("Check", machines, &[]);
        let leases = machines.sh("node-1", LEASES);
        (leases.matches("\"PublicIP\"").count() == 3).then_some(())
    });
}

const LEASES: &str = "curl -s --cacert /etc/flannel/pki/operator/ca.crt --cert /etc/flannel/pki/operator/tls.crt \
    --key /etc/flannel/pki/operator/tls.key https://10.0.0.1:8888/v1/_/leases";

#[scenario]
fn store_is_saved_restored_and_moved_by_the_commands_of_the_page() {
    let machines = first_cluster();
    let page = Page::open("backup.md");
    // a node that joins after the backup
    machines.sh(
        "node-3",
        "systemctl stop flanneld; rm -r /run/flannel /var/lib/flannel",
    );
    machines.sh(
        "node-1",
        "systemctl stop flanneld; rm /var/lib/flannel/leases.redb; systemctl start flanneld",
    );
    machines.sh("node-2", "systemctl restart flanneld");
    page.run("Back up while flanneld runs", &machines, &[]);
    machines.sh("node-3", "systemctl start flanneld");
    let before = subnets(&machines);
    assert_eq!(before.len(), 3);
    let pods = NODES.map(|node| pod(&machines, node));

    for section in ["Restore the file", "Restore the export"] {
        page.run(section, &machines, &[]);
        leases_of_all(&page, &machines);
        assert_eq!(subnets(&machines), before, "{section}");
        subnet_env::eventually_pings(&pods[1], machines.host("node-3"));
    }

    page.run("Move the store to another machine", &machines, &[]);
    assert_eq!(subnets(&machines), before);
    for (node, pod) in pods.iter().enumerate() {
        subnet_env::eventually_pings(pod, machines.host(NODES[(node + 1) % 3]));
    }
    let listens = machines.sh("node-2", "ss -Hltn sport = :8888");
    assert!(listens.contains("10.0.0.2:8888"), "{listens}");
}
