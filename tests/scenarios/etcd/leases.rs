//! Leases as etcdctl and other nodes see them: races, renewal, revocation, reservations.

use super::cluster::{Cluster, PREFIX, TIMEOUT, V4};
use crate::flanneld::cluster::get;
use std::{collections::BTreeSet, time::Duration};
use tests::{etcd::without_etcd, process::eventually, scenario, underlay};

/// More nodes than first choices: each loses races and gets another subnet.
#[scenario(unless = without_etcd)]
fn nodes_that_start_at_once_get_a_subnet_each() {
    let net_conf = V4.replace(
        r#""EnableNFTables""#,
        r#""SubnetMin":"10.244.1.0","SubnetMax":"10.244.16.0","EnableNFTables""#,
    );
    let mut cluster = Cluster::new(12, &net_conf);
    (1..=12).for_each(|node| cluster.start(node, &[]));
    (1..=12).for_each(|node| cluster.wait_ready(node));
    let subnets: BTreeSet<String> = (1..=12)
        .map(|node| cluster.env(node, "FLANNEL_SUBNET"))
        .collect();
    assert_eq!((subnets.len(), cluster.leases().len()), (12, 12));
    // no etcd lease is left behind
    let etcd_leases = cluster.etcd.ctl(&["lease", "list"]);
    assert!(etcd_leases.contains("found 12 leases"), "{etcd_leases}");
    for node in 1..=12 {
        eventually("each has a route to each", TIMEOUT, || {
            let routes = cluster.host(node).sh("ip route show dev flannel.1");
            (routes.lines().count() == 11).then_some(())
        });
    }
}

/// A margin of all but a minute of the 24 h renews after a minute. A Go flanneld would do the same.
#[scenario(unless = without_etcd)]
fn renewal_shows_a_new_etcd_lease_and_the_same_value() {
    let mut cluster = Cluster::new(1, V4);
    cluster.start(1, &["-subnet-lease-renew-margin=1439"]);
    cluster.wait_ready(1);
    let (key, value) = cluster.lease_of(&underlay::ip(1));
    let show = || {
        let answer = cluster.etcd.ctl(&["get", &key, "-w", "json"]);
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        let kv = &answer["kvs"][0];
        (
            kv["lease"].as_u64().expect("a lease"),
            kv["version"].clone(),
            kv["create_revision"].clone(),
        )
    };
    let before = show();
    let after = eventually("the lease is renewed", Duration::from_secs(75), || {
        let now = show();
        (now.0 != before.0).then_some(now)
    });
    assert_eq!((after.1.as_u64(), after.2), (Some(2), before.2));
    assert_eq!(cluster.lease_of(&underlay::ip(1)), (key, value));
    let status = cluster
        .etcd
        .ctl(&["lease", "timetolive", &format!("{:x}", after.0)]);
    assert!(status.contains("granted with TTL(86400s)"), "{status}");
    eventually("the former etcd lease is revoked", TIMEOUT, || {
        let leases = cluster.etcd.ctl(&["lease", "list"]);
        leases.contains("found 1 leases").then_some(())
    });
}

/// The exit code makes systemd start it again (Restart=on-failure); the pods keep their network.
#[scenario(unless = without_etcd)]
fn revoked_lease_ends_the_daemon_with_an_error_and_a_restart_mends_it() {
    let mut cluster = Cluster::new(2, V4);
    cluster.start_all();
    cluster.all_ping(&[1, 2]);
    let subnet = cluster.env(1, "FLANNEL_SUBNET");
    let (key, _) = cluster.lease_of(&underlay::ip(1));
    cluster.etcd.delete(&key);
    let (code, log) = cluster.wait_end(1);
    assert_eq!(code, Some(1), "{log}");
    assert!(
        log.contains("Lease has been revoked. Shutting down daemon."),
        "{log}"
    );
    eventually("the peer withdraws the route", TIMEOUT, || {
        let routes = cluster.host(2).sh("ip route show dev flannel.1");
        routes.is_empty().then_some(())
    });
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    assert_eq!(cluster.env(1, "FLANNEL_SUBNET"), subnet);
    cluster.all_ping(&[1, 2]);
}

/// A cloned configuration: the first one keeps its network, and both say so. The second one has
/// the lease once the first one is stopped and the second one started again.
#[scenario(unless = without_etcd)]
fn second_node_with_one_public_ip_is_not_ready() {
    let mut cluster = Cluster::new(3, V4);
    for node in [1, 2] {
        let public_ip = format!("-public-ip={}", underlay::ip(node));
        cluster.start(node, &[&public_ip, "-iface=eth0"]);
        cluster.wait_ready(node);
        cluster.make_pod(node);
    }
    cluster.all_ping(&[1, 2]);
    let lease = cluster.lease_of(&underlay::ip(2));
    let cloned = format!("-public-ip={}", underlay::ip(2));
    cluster.start(3, &[&cloned, "-iface=eth0"]);
    let says = "another node that runs has the public IP 172.31.0.2";
    eventually("the second says so and is not ready", TIMEOUT, || {
        let status = get(cluster.host(3), "/readyz?verbose");
        (status.contains(" 503 ") && status.contains(says)).then_some(())
    });
    cluster.eventually_logs(2, "another node that has the public IP 172.31.0.2 wrote");
    eventually("the first has its lease again", TIMEOUT, || {
        (cluster.lease_of(&underlay::ip(2)) == lease).then_some(())
    });
    cluster.wait_ready(2);
    cluster.all_ping(&[1, 2]);
    cluster.stop(2);
    cluster.stop(3);
    cluster.start(3, &[&cloned, "-iface=eth0"]);
    cluster.wait_ready(3);
}

#[scenario(unless = without_etcd)]
fn reservation_survives_restarts_of_daemon_and_etcd() {
    let mut cluster = Cluster::new(1, V4);
    let key = format!("{PREFIX}/subnets/10.244.77.0-24");
    let value = format!(r#"{{"PublicIP":"{}"}}"#, underlay::ip(1));
    cluster.etcd.put(&key, &value);
    for round in 0..3 {
        cluster.start(1, &[]);
        cluster.wait_ready(1);
        assert_eq!(cluster.env(1, "FLANNEL_SUBNET"), "10.244.77.1/24");
        let published = cluster.etcd.get(&key).expect("the key");
        assert!(published.contains("VtepMAC"), "{published}");
        let leases = cluster.etcd.ctl(&["lease", "list"]);
        assert!(leases.contains("found 0 leases"), "{leases}");
        if round == 1 {
            cluster.etcd.kill(0);
            cluster.etcd.start(0);
        }
        cluster.stop(1);
        cluster.host(1).sh("rm /run/flannel/subnet.env");
    }
}

/// The node gets another address while it runs.
#[scenario(unless = without_etcd)]
fn node_with_a_new_address_keeps_its_subnet() {
    let mut cluster = Cluster::new(2, V4);
    cluster.start_all();
    cluster.all_ping(&[1, 2]);
    let leases = cluster.leases();
    cluster.host(2).sh(
        "ip addr add 172.31.0.77/24 dev eth0 && ip addr del 172.31.0.2/24 dev eth0 && ip addr add 172.31.0.77/24 dev eth0 2>/dev/null; \
         ip route replace default via 172.31.0.254",
    );
    eventually("the lease has the new address", TIMEOUT, || {
        let below = format!("{PREFIX}/subnets/");
        let keys = cluster.etcd.keys(&below);
        let mut values = keys.iter().filter_map(|key| cluster.etcd.get(key));
        values
            .any(|value| value.contains("172.31.0.77"))
            .then_some(())
    });
    assert_eq!(cluster.leases(), leases);
    cluster.all_ping(&[1, 2]);
}
