//! The backend ipip: pods' packets in another IP header.

use super::cluster::{Cluster, TIMEOUT, eventually_shows};
use tests::{kernel::without_ipip, process::eventually, scenario, subnet_env, underlay};

const V4: &str = r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"ipip"}}"#;
const V6: &str = r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{"Type":"ipip"}}"#;
const DUAL: &str = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{"Type":"ipip"}}"#;

fn direct() -> String {
    DUAL.replace(r#""ipip""#, r#""ipip","DirectRouting":true"#)
}

/// Everything that the backend makes on a node.
fn snapshot(cluster: &Cluster, node: usize) -> String {
    let output = cluster.host(node).try_sh(
        "for d in flannel.ipip flannel.ip6ip6; do \
           ip -d link show $d | sed 's/^[0-9]*: //; s/permaddr [^ ]* //; s/ qlen [0-9]*//; s/ *$//'; \
           ip -o addr show $d scope global | sed 's/^[0-9]*: //'; \
         done; ip route show proto 70; ip -6 route show proto 70",
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[scenario(unless = without_ipip)]
fn ipip_pods_reach_each_other_over_ipv4() {
    pods_reach_each_other(V4, 1480);
}

#[scenario(unless = without_ipip)]
fn ipip_pods_reach_each_other_over_ipv6() {
    pods_reach_each_other(V6, 1460);
}

#[scenario(unless = without_ipip)]
fn ipip_pods_reach_each_other_over_both_families() {
    pods_reach_each_other(DUAL, 1460);
}

/// Packets of FLANNEL_MTU bytes too, which nobody may fragment; none without the outer header.
fn pods_reach_each_other(net_conf: &str, mtu: u32) {
    let cluster = Cluster::new(3, net_conf);
    let pods: Vec<_> = (1..=3).map(|node| (node, cluster.pod(node))).collect();
    cluster.ping_all(&pods);
    assert_eq!(cluster.env(1, "FLANNEL_MTU"), mtu.to_string());
    for node in [1, 2] {
        cluster.host(node).sh(
            "nft add table inet judge && nft add chain inet judge first '{ type filter hook prerouting priority -300; }' \
             && nft add rule inet judge first iifname eth0 ip saddr 10.244.0.0/16 drop \
             && nft add rule inet judge first iifname eth0 ip6 saddr fd00:10:244::/48 drop",
        );
    }
    for ip in subnet_env::pod_addresses(cluster.host(2)) {
        let headers = if ip.contains(':') { 48 } else { 28 };
        let ping = format!("ping -n -c2 -W5 -M do -s {} {ip}", mtu - headers);
        let answer = pods[0].1.sh(&ping);
        assert!(answer.contains(" 0% packet loss"), "{answer}");
    }
}

/// Output of `ip`. The devices that the module makes for itself stay as they are.
#[scenario(unless = without_ipip)]
fn ipip_kernel_objects_equal_those_of_go_flannel() {
    let cluster = Cluster::idle(2, DUAL);
    let others = "ip -o link show | grep -e tunl0 -e ip6tnl0 || true";
    let before = cluster.host(1).sh(others);
    let mut cluster = cluster;
    for node in [1, 2] {
        cluster.start(node, &[]);
    }
    for node in [1, 2] {
        cluster.wait_ready(node);
    }
    cluster.wait_for_peers();
    let host = cluster.host(1);
    let link = host.sh("ip -d link show flannel.ipip");
    for part in [
        "mtu 1480",
        ",UP,",
        "ipip any remote any local 172.31.0.1 ttl inherit nopmtudisc",
    ] {
        assert!(link.contains(part), "{part} in\n{link}");
    }
    let link = host.sh("ip -d link show flannel.ip6ip6");
    for part in ["mtu 1460", ",UP,", "ip6tnl external ip6ip6"] {
        assert!(link.contains(part), "{part} in\n{link}");
    }
    let address = cluster.subnet(1).replace("/24", "/32");
    let shown = host.sh("ip addr show flannel.ipip");
    assert!(
        shown.contains(&format!("inet {address} scope global")),
        "{shown}"
    );
    let address = cluster.subnet6(1).replace("/64", "/128");
    let shown = host.sh("ip addr show flannel.ip6ip6");
    assert!(
        shown.contains(&format!("inet6 {address} scope global")),
        "{shown}"
    );
    assert_eq!(
        host.sh("ip route show dev flannel.ipip").trim(),
        format!(
            "{} via {} proto 70 onlink",
            cluster.subnet(2),
            underlay::ip(2)
        )
    );
    let routes = host.sh("ip -6 route show dev flannel.ip6ip6");
    let route = format!(
        "{} encap ip6 id 0 src fd31::1 dst fd31::2",
        cluster.subnet6(2)
    );
    assert!(routes.replace("  ", " ").contains(&route), "{routes}");
    let leases = host.sh("curl -s http://172.31.0.1:8888/v1/_/leases || true");
    assert!(
        leases.is_empty() || leases.contains(r#""PublicIPv6":"fd31::2","BackendType":"ipip"}"#),
        "{leases}"
    );
    assert_eq!(host.sh(others), before);
}

/// Without the outer header to peers on the link, with it to one behind a router, and back.
#[scenario(unless = without_ipip)]
fn ipip_direct_routes_follow_the_hosts_routes() {
    let cluster = Cluster::new(2, &direct());
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    let (subnet, subnet6) = (cluster.subnet(2), cluster.subnet6(2));
    let (ip, ip6) = (underlay::ip(2), underlay::ip6(2));
    let is_direct = || {
        eventually_shows(
            &cluster,
            1,
            "ip route",
            &format!("{subnet} via {ip} dev eth0 proto 70"),
        );
        let route = format!("{subnet6} via {ip6} dev eth0 proto 70");
        eventually_shows(&cluster, 1, "ip -6 route", &route);
        cluster.ping_all(&pods);
    };
    is_direct();
    cluster.host(1).sh(&format!(
        "ip route add {ip}/32 via 172.31.0.254 && ip -6 route add {ip6}/128 via fd31::fe"
    ));
    let route = format!("{subnet} via {ip} dev flannel.ipip proto 70 onlink");
    eventually_shows(&cluster, 1, "ip route", &route);
    let show = format!("ip -6 route show {subnet6}");
    eventually_shows(&cluster, 1, &show, "dev flannel.ip6ip6 proto 70");
    cluster.ping_all(&pods);
    cluster.host(1).sh(&format!(
        "ip route del {ip}/32 && ip -6 route del {ip6}/128"
    ));
    is_direct();
}

#[scenario(unless = without_ipip)]
fn ipip_deleted_or_changed_entries_are_restored() {
    let cluster = Cluster::new(3, DUAL);
    let before = snapshot(&cluster, 1);
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    let (subnet, subnet6) = (cluster.subnet(2), cluster.subnet6(2));
    let (own, own6) = (cluster.subnet(1), cluster.subnet6(1));
    for change in [
        format!("ip route del {subnet}"),
        format!("ip -6 route del {subnet6}"),
        format!("ip route replace {subnet} via 172.31.0.9 dev flannel.ipip onlink proto 70"),
        format!(
            "ip -6 route replace {subnet6} encap ip6 id 0 dst fd31::9 dev flannel.ip6ip6 proto 70"
        ),
        format!("ip addr del {} dev flannel.ipip", own.replace("/24", "/32")),
        format!(
            "ip addr del {} dev flannel.ip6ip6",
            own6.replace("/64", "/128")
        ),
        "ip link set flannel.ipip mtu 1300; ip link set flannel.ip6ip6 mtu 1300".to_owned(),
        "ip link set flannel.ipip down".to_owned(),
        "ip link set flannel.ip6ip6 down".to_owned(),
        "ip link del flannel.ipip".to_owned(),
        "ip link del flannel.ip6ip6".to_owned(),
        // a kernel before 6.2 renames no device that is up, and flanneld sets it up
        "until ip link set flannel.ipip down && ip link set flannel.ipip name other0; do :; done"
            .to_owned(),
        "until ip link set flannel.ip6ip6 down && ip link set flannel.ip6ip6 name other0; do :; done"
            .to_owned(),
        "ip link set flannel.ipip type ipip local 172.31.0.1 ttl 7 pmtudisc".to_owned(),
    ] {
        cluster.host(1).sh(&change);
        eventually(&format!("restored after `{change}`"), TIMEOUT, || {
            (snapshot(&cluster, 1) == before).then_some(())
        });
    }
    cluster.ping_all(&pods);
}

/// Pings last through SIGKILL and restart of both daemons.
#[scenario(unless = without_ipip)]
fn ipip_killed_daemon_loses_no_packet() {
    let mut cluster = Cluster::new(2, DUAL);
    cluster.pod(1);
    cluster.pod(2);
    let indexes = cluster.host(1).sh("ip -o link | cut -d: -f1,2");
    let pings = cluster.ping(1, 2);
    cluster.kill_and_start_each();
    pings.lose_nothing();
    let after = cluster.host(1).sh("ip -o link | cut -d: -f1,2");
    assert_eq!(after, indexes, "devices are adopted");
}

/// The device and the routes (proto boot) as Go flannel leaves them.
#[scenario(unless = without_ipip)]
fn ipip_device_and_routes_of_go_flannel_are_taken_over() {
    let mut cluster = Cluster::new(2, &direct().replace(",\"DirectRouting\":true", ""));
    cluster.pod(1);
    cluster.pod(2);
    let before = snapshot(&cluster, 1);
    let (subnet, peer) = (cluster.subnet(2), underlay::ip(2));
    cluster.stop(1);
    let index = "ip -o link show flannel.ipip | cut -d: -f1";
    let own = cluster.subnet(1).replace("/24", "/32");
    let go = |cluster: &Cluster| {
        cluster.host(1).sh(&format!(
            "ip link del flannel.ipip && rm /var/lib/flannel/node.json \
             && ip link add flannel.ipip type ipip local 172.31.0.1 remote any ttl inherit nopmtudisc \
             && ip link set flannel.ipip mtu 1480 up && ip addr add {own} dev flannel.ipip \
             && ip route add {subnet} via {peer} dev flannel.ipip onlink \
             && ip route add 10.244.199.0/24 via 172.31.0.99 dev flannel.ipip onlink"
        ));
        cluster.host(1).sh(index)
    };
    let made = go(&cluster);
    let pings = cluster.ping(1, 2);
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    assert_eq!(snapshot(&cluster, 1), before);
    assert_eq!(cluster.host(1).sh(index), made, "the device is adopted");
    let routes = cluster.host(1).sh("ip route");
    assert!(!routes.contains("10.244.199.0/24"), "{routes}");
    pings.lose_nothing();
}

/// Upstream's words; the link stays.
#[scenario(unless = without_ipip)]
fn ipip_link_of_another_kind_is_refused() {
    let mut cluster = Cluster::idle(1, V4);
    cluster.host(1).sh("ip link add flannel.ipip type bridge");
    cluster.start(1, &[]);
    let status = cluster.daemon(1).wait(TIMEOUT);
    let log = cluster.daemon(1).output();
    let words = "flannel.ipip isn't an ipip mode device, please remove device and try again";
    assert!(
        status.code() == Some(1) && log.contains(words),
        "{status}\n{log}"
    );
    cluster
        .host(1)
        .sh("ip link show flannel.ipip type bridge | grep flannel.ipip");
}

/// The devices get the new local address.
#[scenario(unless = without_ipip)]
fn ipip_peers_follow_a_new_address() {
    let mut cluster = Cluster::new(2, DUAL);
    cluster.host(2).sh(
        "ip addr del 172.31.0.2/24 dev eth0 && ip addr add 172.31.0.77/24 dev eth0 && ip route add default via 172.31.0.254 \
         && ip addr add fd31::77/64 dev eth0 nodad && ip addr del fd31::2/64 dev eth0",
    );
    let route = format!("{} via 172.31.0.77 dev flannel.ipip", cluster.subnet(2));
    eventually_shows(&cluster, 1, "ip route", &route);
    eventually_shows(&cluster, 1, "ip -6 route", "dst fd31::77 ");
    eventually_shows(
        &cluster,
        2,
        "ip -d link show flannel.ipip",
        "local 172.31.0.77 ",
    );
    cluster.wait_ready(2);
    eventually_shows(&cluster, 2, "ip -6 route", "src fd31::77 ");
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
}
