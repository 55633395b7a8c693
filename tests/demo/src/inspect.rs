//! The state of each host, as the system's tools print it.

use crate::{
    cluster::Cluster,
    print::{section, show},
};

const COMMANDS: &[&str] = &[
    "cat /run/flannel/subnet.env",
    "ip -brief address",
    "ip -d link show flannel.1",
    "ip route",
    "ip -6 route show dev flannel-v6.1",
    "ip neighbour show dev flannel.1",
    "bridge fdb show dev flannel.1",
    "bridge link",
    "ip route show dev cni0",
    "cat /var/lib/cni/networks/cbr0/last_reserved_ip.0; echo",
];

/// Prints the state of each host, and the packet filter of one.
pub(crate) fn hosts(cluster: &Cluster) {
    for host in &cluster.underlay.hosts {
        section(&format!("the network state of {}", host.name));
        for command in COMMANDS {
            show(host, command);
        }
    }
    section("the packet filter of one host");
    show(&cluster.underlay.hosts[0], "nft list ruleset");
}
