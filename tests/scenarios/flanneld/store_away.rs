//! Nodes that start while their lease store is away.

use super::cluster::{Cluster, DUAL, TIMEOUT, V4, eventually_shows, get};
use tests::{Host, process::eventually, scenario, underlay};

const FILE: &str = "/var/lib/flannel/node.leases.json";

/// Waits until the node's file has as many leases.
#[track_caller]
pub(crate) fn kept(host: &Host, count: usize) {
    eventually(&format!("{count} leases are kept"), 2 * TIMEOUT, || {
        let text = String::from_utf8(host.try_sh(&format!("cat {FILE}")).stdout).ok()?;
        let file: serde_json::Value = serde_json::from_str(&text).ok()?;
        (file["leases"].as_array()?.len() == count).then_some(())
    });
}

/// What a reboot takes away: devices, rules and /run.
pub(crate) fn reboot(host: &Host) {
    host.sh(
        "ip link del flannel.1; ip link del flannel-v6.1; ip link del cni0; ip netns del pod; \
         nft flush ruleset; rm -rf /run/flannel; true",
    );
}

#[scenario]
fn rebooted_node_reaches_its_peers_while_the_store_is_away() {
    let mut cluster = Cluster::new(3, DUAL);
    kept(cluster.host(2), 3);
    let (subnet, mac) = (cluster.subnet(2), cluster.mac(2, "flannel.1"));
    cluster.kill(1);
    cluster.kill(2);
    reboot(cluster.host(2));
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    assert_eq!(cluster.subnet(2), subnet, "subnet.env is there");
    assert_eq!(cluster.mac(2, "flannel.1"), mac, "peers know it");
    let status = get(cluster.host(2), "/readyz?verbose");
    assert!(status.contains("the leases are old"), "{status}");
    let pods: Vec<_> = (1..=3).map(|node| (node, cluster.pod(node))).collect();
    cluster.ping_all(&pods);
    drop(pods);
    // node 3 leaves meanwhile
    cluster.kill(3);
    let left = cluster.subnet(3);
    cluster.host(1).sh("rm /var/lib/flannel/leases.redb");
    cluster.start(1, &[]);
    eventually("the store answers", 2 * TIMEOUT, || {
        let routes = cluster.host(2).sh("ip route show dev flannel.1");
        let status = get(cluster.host(2), "/readyz?verbose");
        (!routes.contains(&left) && !status.contains("old")).then_some(())
    });
    assert_eq!(cluster.subnet(2), subnet);
    kept(cluster.host(2), 2);
    let log = cluster.stop(2);
    assert!(log.contains("the leases are old"), "{log}");
}

/// A cloned disk: the node that is started later takes a new MAC.
#[scenario]
fn node_with_the_mac_of_another_takes_a_new_one() {
    let mut cluster = Cluster::idle(3, DUAL);
    for node in 1..=2 {
        cluster.start(node, &[]);
        cluster.wait_ready(node);
    }
    let state = "/var/lib/flannel/node.json";
    let cloned = cluster.host(2).sh(&format!("cat {state}"));
    cluster.host(3).sh(&format!(
        "mkdir -p /var/lib/flannel && echo '{}' > {state}",
        cloned.trim()
    ));
    cluster.start(3, &[]);
    eventually("node 3 says so", TIMEOUT, || {
        let log = cluster.daemon(3).output();
        log.contains("takes new MAC addresses").then_some(())
    });
    for node in 1..=3 {
        cluster.wait_ready(node);
    }
    for device in ["flannel.1", "flannel-v6.1"] {
        assert_ne!(cluster.mac(2, device), cluster.mac(3, device));
    }
    assert_eq!(cluster.host(2).sh(&format!("cat {state}")), cloned);
    let pods: Vec<_> = (1..=3).map(|node| (node, cluster.pod(node))).collect();
    cluster.ping_all(&pods);
}

/// A part of a file, as only another program can leave it.
#[scenario]
fn unusable_file_of_leases_is_not_used() {
    let mut cluster = Cluster::new(2, V4);
    kept(cluster.host(2), 2);
    cluster.stop(1);
    cluster.stop(2);
    cluster.host(2).sh(&format!("truncate -s -9 {FILE}"));
    cluster.start(2, &[]);
    eventually("node 2 says so", TIMEOUT, || {
        let log = cluster.daemon(2).output();
        log.contains(&format!("{FILE} is not used")).then_some(())
    });
    assert!(!cluster.is_ready(2));
    cluster.start(1, &[]);
    cluster.wait_ready(2);
}

/// The pods of a node that starts with old leases keep their connections when the store comes back
/// with another backend.
#[scenario]
fn configuration_that_changed_while_the_store_was_away_is_taken() {
    let mut cluster = Cluster::new(3, DUAL);
    kept(cluster.host(2), 3);
    let pods: Vec<_> = (1..=3).map(|node| (node, cluster.pod(node))).collect();
    cluster.ping_all(&pods);
    drop(pods);
    let pings = cluster.ping(2, 3);
    cluster.kill(1);
    cluster.stop(2);
    cluster
        .host(1)
        .write("/run/net-conf.json", &DUAL.replace("vxlan", "host-gw"));
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    let status = get(cluster.host(2), "/readyz?verbose");
    assert!(status.contains("the leases are old"), "{status}");
    cluster.start(1, &[]);
    for node in 2..=3 {
        let to_peer = format!(
            "{} via 172.31.0.{} dev eth0",
            cluster.subnet(5 - node),
            5 - node
        );
        eventually_shows(&cluster, node, "ip route", &to_peer);
        cluster.wait_ready(node);
    }
    pings.lose_nothing();
    let log = cluster.stop(2);
    let again = "since the last contact with the lease server http://172.31.0.1:8888: starting again with the new one";
    assert!(log.contains(again), "{log}");
}

/// The node's address changes, and the store cannot be told. Also its daemon restarts before the
/// store is back.
#[scenario]
fn untold_address_is_reported_and_costs_no_subnet() {
    let mut cluster = Cluster::new(3, DUAL);
    kept(cluster.host(2), 3);
    let (subnet, subnet6) = (cluster.subnet(2), cluster.subnet6(2));
    cluster.kill(1);
    cluster.host(2).sh(&format!(
        "ip addr del {}/24 dev eth0 && ip addr add 172.31.0.77/24 dev eth0 && ip route add default via 172.31.0.254",
        underlay::ip(2)
    ));
    let fault = format!(
        "reached at 172.31.0.77, and the lease server http://{}:8888 has {}",
        underlay::ip(1),
        underlay::ip(2)
    );
    let is_reported = |cluster: &Cluster| {
        eventually("node 2 says so", 2 * TIMEOUT, || {
            let answer = get(cluster.host(2), "/readyz?verbose");
            (answer.contains("503 ") && answer.contains(&fault)).then_some(())
        });
    };
    is_reported(&cluster);
    cluster.kill(2);
    cluster.start(2, &[]);
    is_reported(&cluster);
    cluster.start(1, &[]);
    for node in 1..=3 {
        cluster.wait_ready(node);
    }
    assert_eq!(
        (cluster.subnet(2), cluster.subnet6(2)),
        (subnet, subnet6),
        "its pods keep their addresses"
    );
    eventually_shows(
        &cluster,
        3,
        "bridge fdb show dev flannel.1",
        "dst 172.31.0.77 ",
    );
    let pods: Vec<_> = (1..=3).map(|node| (node, cluster.pod(node))).collect();
    cluster.ping_all(&pods);
}
