//! The underlay's address, MTU or state changes while the daemon runs.

use super::cluster::{Cluster, DUAL, TIMEOUT, V4, eventually_shows, get};
use std::{
    thread,
    time::{Duration, Instant},
};
use tests::{process::eventually, scenario, underlay};

#[scenario]
fn running_node_publishes_its_new_address() {
    let mut cluster = Cluster::new(2, V4);
    cluster.host(2).sh(
        "ip addr del 172.31.0.2/24 dev eth0 && ip addr add 172.31.0.77/24 dev eth0 && ip route add default via 172.31.0.254",
    );
    eventually_shows(
        &cluster,
        1,
        "bridge fdb show dev flannel.1",
        "dst 172.31.0.77",
    );
    eventually_shows(
        &cluster,
        2,
        "ip -d link show flannel.1",
        "local 172.31.0.77",
    );
    cluster.wait_ready(2);
    eventually_shows(&cluster, 1, "ip route", &cluster.subnet(2));
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
}

/// It keeps its own subnet, and the dead node's lease goes.
#[scenario]
fn running_node_takes_over_a_dead_nodes_address() {
    let mut cluster = Cluster::new(3, V4);
    // the store lists the lease of the dead node first
    let third_byte = |node| -> u8 {
        let subnet = cluster.subnet(node);
        let mut bytes = subnet.split('.').skip(2);
        bytes
            .next()
            .and_then(|byte| byte.parse().ok())
            .expect("a subnet")
    };
    let (dead, node) = if third_byte(2) < third_byte(3) {
        (2, 3)
    } else {
        (3, 2)
    };
    let (mac, subnet, gone) = (
        cluster.mac(node, "flannel.1"),
        cluster.subnet(node),
        cluster.subnet(dead),
    );
    let (own_ip, ip) = (underlay::ip(node), underlay::ip(dead));
    eventually_shows(&cluster, 1, "ip route", &gone);
    cluster.kill(dead);
    cluster.host(dead).sh("ip link del eth0");
    cluster.host(node).sh(&format!(
        "ip addr del {own_ip}/24 dev eth0 && ip addr add {ip}/24 dev eth0 && ip route add default via 172.31.0.254"
    ));
    let entry = format!("{mac} dst {ip} ");
    eventually_shows(&cluster, 1, "bridge fdb show dev flannel.1", &entry);
    let local = format!("local {ip} ");
    eventually_shows(&cluster, node, "ip -d link show flannel.1", &local);
    cluster.wait_ready(node);
    assert_eq!(cluster.subnet(node), subnet);
    let routes = cluster.host(1).sh("ip route");
    assert!(
        routes.contains(&subnet) && !routes.contains(&gone),
        "{routes}"
    );
    let pods = [(1, cluster.pod(1)), (node, cluster.pod(node))];
    cluster.ping_all(&pods);
}

/// The device is changed in place.
#[scenario]
fn device_and_subnet_env_follow_the_mtu() {
    let cluster = Cluster::new(1, DUAL);
    let host = cluster.host(1);
    let index = host.sh("ip -o link show flannel.1 | cut -d: -f1");
    host.sh("ip link set eth0 mtu 1400");
    eventually_shows(&cluster, 1, "ip link show flannel.1", "mtu 1350");
    eventually_shows(&cluster, 1, "ip link show flannel-v6.1", "mtu 1330");
    eventually_shows(
        &cluster,
        1,
        "cat /run/flannel/subnet.env",
        "FLANNEL_MTU=1330",
    );
    assert_eq!(host.sh("ip -o link show flannel.1 | cut -d: -f1"), index);
}

/// The interface goes down and up, and its default route is deleted and added.
/// The kernel takes IPv6 addresses from a device of less than 1280 bytes. The status says which MTU
/// the underlay needs; IPv4 goes on.
#[scenario]
fn underlay_too_small_for_ipv6_is_reported_and_heals() {
    let cluster = Cluster::new(2, DUAL);
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
    let host = cluster.host(1);
    host.sh("ip link set eth0 mtu 1300");
    eventually("the status names the MTU", TIMEOUT, || {
        let status = get(host, "/readyz?verbose");
        let text = "eth0 has an MTU of 1300, and IPv6 needs 1350 with this backend";
        status.contains(text).then_some(())
    });
    let other = &cluster.pod_ips(2)[0];
    host.sh(&format!("ip netns exec pod ping -n -c 1 -W 5 {other}"));
    host.sh("ip link set eth0 mtu 1500");
    eventually("ready again", TIMEOUT, || {
        let status = get(host, "/readyz");
        status.contains("flanneld is ready").then_some(())
    });
    cluster.ping_all(&pods);
}

#[scenario]
fn network_survives_a_flap() {
    let mut cluster = Cluster::new(2, V4);
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    let host = cluster.host(1);
    host.sh("ip link set eth0 down");
    thread::sleep(Duration::from_millis(200));
    host.sh("ip link set eth0 up && ip route replace default via 172.31.0.254");
    cluster.ping_all(&pods);
    drop(pods);
    cluster.wait_ready(1);
}

/// The address that the host gets in place of its own is a pod's.
#[scenario]
fn underlay_that_moves_into_the_network_is_reported_and_heals() {
    let mut cluster = Cluster::new(2, V4);
    let own_ip = underlay::ip(2);
    let leases = |cluster: &Cluster| {
        cluster
            .host(1)
            .sh("curl -s http://172.31.0.1:8888/v1/_/leases")
    };
    let before = leases(&cluster);
    assert!(before.contains(&own_ip), "{before}");
    cluster.host(2).sh(&format!(
        "ip addr del {own_ip}/24 dev eth0 && ip addr add 10.244.177.2/24 dev eth0 && ip route add default dev eth0"
    ));
    // longer than it takes until another address is used
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(7) {
        assert_eq!(leases(&cluster), before, "what the node publishes");
        thread::sleep(Duration::from_millis(200));
    }
    let answer = get(cluster.host(2), "/readyz?verbose");
    assert!(
        answer.contains("503 Service Unavailable")
            && answer.contains("10.244.177.2 is inside of the pod network 10.244.0.0/16"),
        "{answer}"
    );
    cluster.host(2).sh(&format!(
        "ip addr del 10.244.177.2/24 dev eth0 && ip addr add {own_ip}/24 dev eth0 && ip route replace default via 172.31.0.254"
    ));
    cluster.wait_ready(2);
    assert_eq!(leases(&cluster), before);
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
}

/// Nodes that run keep what they have. One that starts ends with the reason, before it changes
/// anything; with the former network all goes on.
#[scenario]
fn network_that_moves_over_the_underlay_is_refused() {
    let mut cluster = Cluster::new(2, DUAL);
    cluster.pod(1);
    cluster.pod(2);
    let pings = cluster.pod_ips(2).into_iter();
    let pings = pings.map(|ip| format!("ip netns exec pod ping -n -c1 -W5 {ip}"));
    let pings = pings.collect::<Vec<_>>().join(" && ");
    let other = DUAL
        .replace("10.244.0.0/16", "172.16.0.0/12")
        .replace(r#""vxlan""#, r#""vxlan","VNI":3,"Port":4789"#);
    let write = |cluster: &Cluster, net_conf: &str| {
        cluster
            .host(1)
            .sh(&format!("echo '{net_conf}' > /run/net-conf.json"));
    };
    write(&cluster, &other);
    for node in [1, 2] {
        let reason = format!(
            "that this node can use, also at a restart: Network 172.16.0.0/12 contains {}",
            underlay::ip(node)
        );
        eventually(&reason, TIMEOUT, || {
            let status = get(cluster.host(node), "/readyz?verbose");
            (status.contains("flanneld is ready") && status.contains(&reason)).then_some(())
        });
    }
    cluster.stop(2);
    cluster.start(2, &[]);
    let status = cluster.daemon(2).wait(TIMEOUT);
    let log = cluster.daemon(2).output();
    assert!(
        status.code() == Some(1) && log.contains("Network 172.16.0.0/12 contains 172.31.0.2"),
        "{log}"
    );
    cluster.host(1).sh(&pings);
    write(&cluster, DUAL);
    eventually("nothing waits any longer", TIMEOUT, || {
        let status = get(cluster.host(1), "/readyz?verbose");
        (!status.contains("restart")).then_some(())
    });
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    cluster.host(1).sh(&pings);
}

/// The store keeps the address for the node that has it: the other one says why it is not ready,
/// and is ready when its own address is back.
#[scenario]
fn running_node_that_takes_the_address_of_another_says_so() {
    let mut cluster = Cluster::new(3, V4);
    let (own, taken) = (underlay::ip(3), underlay::ip(2));
    let replace = |cluster: &Cluster, old: &str, new: &str| {
        cluster.host(3).sh(&format!(
            "ip addr del {old}/24 dev eth0 && ip addr add {new}/24 dev eth0 && ip route add default via 172.31.0.254"
        ));
    };
    let before = (cluster.subnet(2), cluster.subnet(3));
    replace(&cluster, &own, &taken);
    let fault = format!("publishes this node's public IP {taken}, too");
    eventually("node 3 says so", 2 * TIMEOUT, || {
        let answer = get(cluster.host(3), "/readyz?verbose");
        (answer.contains("503 ") && answer.contains(&fault)).then_some(())
    });
    replace(&cluster, &taken, &own);
    // the hosts find each other again
    cluster.underlay.switch.sh("ip neigh flush all");
    for host in &cluster.underlay.hosts {
        host.sh("ip neigh flush dev eth0");
    }
    for node in 1..=3 {
        cluster.wait_ready(node);
    }
    assert_eq!((cluster.subnet(2), cluster.subnet(3)), before);
    let pods: Vec<_> = (1..=3).map(|node| (node, cluster.pod(node))).collect();
    cluster.ping_all(&pods);
}
