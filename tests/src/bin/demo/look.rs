//! What an operator would ask each host, in the system's own tools.

use crate::{
    say::{section, show},
    stage::Stage,
};

const QUESTIONS: &[&str] = &[
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

/// Shows it for each host; the packet filter once, since it is long.
pub fn around(stage: &Stage) {
    for host in &stage.underlay.hosts {
        section(&format!("{}, as its operator sees it", host.name));
        for question in QUESTIONS {
            show(host, question);
        }
    }
    section("the packet filter, on one of them");
    show(&stage.underlay.hosts[0], "nft list ruleset");
}
