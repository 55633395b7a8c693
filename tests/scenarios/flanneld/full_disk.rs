//! The machine with the lease store runs out of disk space.

use super::cluster::{Cluster, TIMEOUT, V4, eventually_shows, get, post};
use tests::{process::eventually, scenario};

const SERVER: &str = "172.31.0.1:8888";
const FULL: &str = "the disk of the lease store /var/lib/flannel/leases.redb is full";

/// Takes a lease as a new node, whose MAC ends in this number, and returns the answer.
fn take_lease(cluster: &Cluster, number: u8) -> String {
    let body = format!(
        r#"{{"PublicIP":"172.31.1.{number}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"02:00:00:00:03:{number:02x}"}}}}"#
    );
    post(cluster.host(1), SERVER, "/v1/_/leases", &body)
}

#[scenario]
fn lease_server_restarts_on_a_full_disk_and_serves_reads() {
    let mut cluster = Cluster::idle(3, V4);
    cluster
        .host(1)
        .sh("mkdir -p /var/lib/flannel && mount -t tmpfs -o size=8m tmpfs /var/lib/flannel");
    for node in 1..=2 {
        cluster.start(node, &[]);
        cluster.wait_ready(node);
    }
    let subnets = [cluster.subnet(1), cluster.subnet(2)];
    // as a crash leaves the store, and as a regular end does
    for (round, crash) in [(1, true), (2, false)] {
        match crash {
            true => cluster.kill(1),
            false => drop(cluster.stop(1)),
        }
        cluster.stop(2);
        fill_disk(&cluster);
        for node in 1..=2 {
            cluster.start(node, &[]);
            cluster.wait_ready(node);
        }
        assert_eq!([cluster.subnet(1), cluster.subnet(2)], subnets);
        let host = cluster.host(2);
        let leases = host.sh(&format!("curl -s http://{SERVER}/v1/_/leases"));
        for subnet in &subnets {
            assert!(leases.contains(subnet), "{subnet} in {leases}");
        }
        let refused = take_lease(&cluster, round);
        assert!(refused.starts_with("HTTP/1.1 507"), "{refused}");
        assert!(refused.contains(FULL), "{refused}");
        if round == 2 {
            // a new node waits until there is room
            cluster.start(3, &[]);
            eventually("node 3 says why it waits", TIMEOUT, || {
                cluster.daemon(3).output().contains(FULL).then_some(())
            });
            let answer = get(cluster.host(3), "/readyz?verbose");
            assert!(answer.contains("503 Service Unavailable"), "{answer}");
        }
        cluster.host(1).sh("rm /var/lib/flannel/fill");
        let taken = take_lease(&cluster, round);
        assert!(taken.starts_with("HTTP/1.1 200"), "{taken}");
        let mac = format!("02:00:00:00:03:{round:02x}");
        eventually_shows(&cluster, 2, "bridge fdb show dev flannel.1", &mac);
    }
    cluster.wait_ready(3);
    let pods: Vec<_> = (1..=3).map(|node| (node, cluster.pod(node))).collect();
    cluster.ping_all(&pods);
}

fn fill_disk(cluster: &Cluster) {
    let host = cluster.host(1);
    host.sh("dd if=/dev/zero of=/var/lib/flannel/fill bs=4k 2>/dev/null; true");
    let full = host.try_sh("echo x > /var/lib/flannel/more");
    assert!(!full.status.success(), "the disk is full");
    host.sh("rm -f /var/lib/flannel/more");
}
