//! A cluster changes to the backend ipsec and from it while it runs: pods reach each other all the
//! time, and once it is ipsec, encrypted only.

use super::{
    change_of_backend::{Changed, HOST_GW, IPSEC, VXLAN, change, precede, prepared_change},
    cluster::{Cluster, TIMEOUT},
};
use tests::{
    charon::{self, Wire, without_charon},
    kernel::without_esp,
    process::eventually,
    scenario,
};

fn no_esp() -> Option<String> {
    without_charon().or_else(without_esp)
}

#[scenario(unless = no_esp)]
fn change_from_vxlan_to_ipsec_loses_no_packet() {
    let Changed { cluster, .. } = &change(VXLAN, IPSEC);
    for host in &cluster.underlay.hosts {
        eventually("every policy demands encryption", TIMEOUT, || {
            let policies = host.sh("ip xfrm policy list nosock");
            let count = policies.matches("reqid 11 mode tunnel").count();
            (count == 12 && !policies.contains("level use")).then_some(())
        });
    }
    let wire = Wire::watch(cluster.host(2));
    for ip in cluster.pod_ips(2) {
        let ping = format!("ip netns exec pod ping -n -c 3 -i 0.1 -W 2 {ip}");
        cluster.host(1).sh(&ping);
    }
    let carried = wire.packets("encrypted");
    assert!(carried >= 3, "{carried}");
    assert_eq!(wire.packets("clear_text"), 0);
}

/// In each family a host's first answer that completes a negotiation (IKE_AUTH, RFC 7296 section
/// 3.1) is lost: the host has keys, and the one that asked has none before it asks again 4 seconds
/// later.
#[scenario(unless = no_esp)]
fn change_from_host_gw_to_ipsec_with_lost_answers_of_charon_loses_no_packet() {
    let lose_answers = |cluster: &Cluster| {
        for host in &cluster.underlay.hosts {
            host.sh("nft 'add table inet lossy; add chain inet lossy output { type filter hook output priority 0; }'");
            for family in ["ipv4", "ipv6"] {
                host.sh(&format!(
                    "nft add rule inet lossy output meta nfproto {family} udp sport 4500 @th,240,16 \\& 0xff20 == 0x2320 \
                     limit rate 1/day burst 1 packets counter drop"
                ));
            }
        }
    };
    let Changed { cluster, .. } = &prepared_change(lose_answers, HOST_GW, IPSEC);
    let lost = cluster.underlay.hosts.iter().map(|host| {
        let rules = host.sh("nft list table inet lossy");
        rules.matches("counter packets 1 ").count()
    });
    // of two hosts one asks
    assert!(lost.sum::<usize>() >= 2, "answers are lost");
}

#[scenario(unless = no_esp)]
fn change_from_ipsec_to_vxlan_loses_no_packet() {
    let Changed { cluster, log, .. } = &change(IPSEC, VXLAN);
    // others send in clear text once they see the change
    precede(log, "let packets in clear text pass", "this node has");
    for host in &cluster.underlay.hosts {
        eventually("nothing of IPsec is left", TIMEOUT, || {
            let left = host.sh("ip xfrm policy list nosock; ip xfrm state");
            (!left.contains("reqid 11") && charon::pid(host).is_none()).then_some(())
        });
    }
}
