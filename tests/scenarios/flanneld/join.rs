//! Nodes join: devices, entries, rules and files equal upstream's, and pods reach each other.

use super::cluster::{Cluster, DUAL, V4, V6, get};
use tests::{scenario, underlay};

#[scenario]
fn pods_reach_each_other_over_ipv4() {
    pods_reach_each_other(V4);
}

#[scenario]
fn pods_reach_each_other_over_ipv6() {
    pods_reach_each_other(V6);
}

#[scenario]
fn pods_reach_each_other_over_both_families() {
    pods_reach_each_other(DUAL);
}

fn pods_reach_each_other(net_conf: &str) {
    let cluster = Cluster::new(3, net_conf);
    let pods: Vec<_> = (1..=3).map(|node| (node, cluster.pod(node))).collect();
    cluster.ping_all(&pods);
}

/// Output of `ip` and `bridge`, subnet.env, and the bodies of the probes.
#[scenario]
fn kernel_objects_equal_those_of_go_flannel() {
    let cluster = Cluster::new(2, DUAL);
    let host = cluster.host(1);
    let link = host.sh("ip -d link show flannel.1");
    let words = link.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "mtu 1450",
        "vxlan id 1 local 172.31.0.1 dev eth0 srcport 0 0 dstport 8472 nolearning ttl auto ageing 300 udpcsum noudp6zerocsumtx noudp6zerocsumrx",
        ",UP,",
    ] {
        assert!(words.contains(part), "{part} in\n{words}");
    }
    let link = host.sh("ip -d link show flannel-v6.1");
    assert!(
        link.contains("mtu 1430") && link.contains("vxlan id 1 local fd31::1 dev eth0"),
        "{link}"
    );

    let (own, peer) = (cluster.subnet(1), cluster.subnet(2));
    let (own6, peer6) = (cluster.subnet6(1), cluster.subnet6(2));
    let address = own.replace("/24", "/32");
    assert!(
        host.sh("ip addr show flannel.1")
            .contains(&format!("inet {address} scope global flannel.1"))
    );
    let address6 = own6.replace("/64", "/128");
    assert!(
        host.sh("ip addr show flannel-v6.1")
            .contains(&format!("inet6 {address6} scope global"))
    );

    let gateway = peer.replace("/24", "");
    let gateway6 = peer6.replace("/64", "");
    assert_eq!(
        host.sh("ip route show dev flannel.1").trim(),
        format!("{peer} via {gateway} proto 70 onlink")
    );
    let routes6 = host.sh("ip -6 route show dev flannel-v6.1");
    assert!(
        routes6.contains(&format!(
            "{peer6} via {gateway6} proto 70 metric 1024 onlink"
        )),
        "{routes6}"
    );
    let mac = cluster.mac(2, "flannel.1");
    let mac6 = cluster.mac(2, "flannel-v6.1");
    assert_eq!(
        host.sh("ip neigh show dev flannel.1 nud permanent").trim(),
        format!("{gateway} lladdr {mac} PERMANENT")
    );
    assert_eq!(
        host.sh("bridge fdb show dev flannel.1").trim(),
        format!("{mac} dst {} self permanent", underlay::ip(2))
    );
    assert_eq!(
        host.sh("bridge fdb show dev flannel-v6.1").trim(),
        format!("{mac6} dst {} self permanent", underlay::ip6(2))
    );
    assert_eq!(
        host.sh("cat /proc/sys/net/ipv6/conf/flannel.1/accept_ra")
            .trim(),
        "0"
    );
    let env = host.sh("cat /run/flannel/subnet.env");
    let gateway = own.replace(".0/24", ".1/24");
    let gateway6 = own6.replace("::/64", "::1/64");
    assert_eq!(
        env,
        format!(
            "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET={gateway}\nFLANNEL_IPV6_NETWORK=fd00:10:244::/48\n\
             FLANNEL_IPV6_SUBNET={gateway6}\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=true\n"
        )
    );
    assert!(get(host, "/healthz").ends_with("\r\n\r\nflanneld is running"));
    assert!(get(host, "/readyz").ends_with("\r\n\r\nflanneld is ready"));
}

/// The packet filter's text, line for line.
#[scenario]
fn nftables_rules_equal_those_of_go_flannel() {
    let cluster = Cluster::new(1, DUAL);
    let host = cluster.host(1);
    for (family, keyword, network, subnet, multicast) in [
        (
            "ip flannel-ipv4",
            "ip",
            "10.244.0.0/16",
            cluster.subnet(1),
            "224.0.0.0/4",
        ),
        (
            "ip6 flannel-ipv6",
            "ip6",
            "fd00:10:244::/48",
            cluster.subnet6(1),
            "ff00::/8",
        ),
    ] {
        let name = family.split(' ').nth(1).expect("a name");
        let expected = format!(
            "table {family} {{
                comment \"rules for {name}\"
                chain postrtg {{
                    comment \"chain to manage traffic masquerading by flannel\"
                    type nat hook postrouting priority srcnat; policy accept;
                    meta mark 0x00004000 return
                    {keyword} saddr {subnet} {keyword} daddr {network} return
                    {keyword} saddr {network} {keyword} daddr {subnet} return
                    {keyword} saddr != {subnet} {keyword} daddr {network} return
                    {keyword} saddr {network} {keyword} daddr != {multicast} masquerade fully-random
                    {keyword} saddr != {network} {keyword} daddr {network} masquerade fully-random
                }}
                chain forward {{
                    comment \"chain to accept flannel traffic\"
                    type filter hook forward priority filter; policy accept;
                    {keyword} saddr {network} accept
                    {keyword} daddr {network} accept
                }}
            }}"
        );
        let lines = |text: &str| {
            text.lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            lines(&host.sh(&format!("nft list table {family}"))),
            lines(&expected)
        );
    }
}
