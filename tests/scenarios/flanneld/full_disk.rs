//! The machine with the lease store runs out of disk space.

use super::cluster::{Cluster, TIMEOUT, V4, eventually_shows, get, post};
use tests::{Host, process::eventually, scenario};

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
        fill_disk(cluster.host(1), "/var/lib/flannel");
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

fn fill_disk(host: &Host, folder: &str) {
    host.sh(&format!(
        "dd if=/dev/zero of={folder}/fill bs=4k 2>/dev/null; true"
    ));
    let full = host.try_sh(&format!("echo x > {folder}/more"));
    assert!(!full.status.success(), "the disk is full");
    host.sh(&format!("rm -f {folder}/more"));
}

/// The key, the socket of the process and the node's state are on these disks.
#[scenario]
fn node_with_full_disks_keeps_its_network_and_recovers() {
    const FOLDERS: [&str; 2] = ["/run/flannel", "/var/lib/flannel"];
    const FAULT: &str = "failed to write /run/flannel/subnet.env, without which no pod starts: No space left on device";
    let mut cluster = Cluster::idle(
        2,
        r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"wireguard","Userspace":true}}"#,
    );
    for folder in FOLDERS {
        cluster.host(2).sh(&format!(
            "mkdir -p {folder} && mount -t tmpfs -o size=1m tmpfs {folder}"
        ));
    }
    for node in 1..=2 {
        cluster.start(node, &[]);
        cluster.wait_ready(node);
        cluster.pod(node);
    }
    cluster.eventually_ping_all();
    let files = "cat /run/flannel/subnet.env /run/flannel/wgkey /var/lib/flannel/wgkey";
    let before = cluster.host(2).sh(files);
    let pings = cluster.ping(1, 2);
    cluster.host(2).sh("rm /run/flannel/subnet.env");
    // the daemon may write the file in between
    eventually("no room for subnet.env", TIMEOUT, || {
        let host = cluster.host(2);
        host.sh("rm -f /run/flannel/fill /run/flannel/subnet.env");
        for folder in FOLDERS {
            fill_disk(host, folder);
        }
        let missing = host.try_sh("cat /run/flannel/subnet.env");
        (!missing.status.success()).then_some(())
    });
    for restart in [false, true] {
        if restart {
            cluster.stop(2);
            cluster.start(2, &[]);
        }
        eventually("the node says what is wrong", TIMEOUT, || {
            let answer = get(cluster.host(2), "/readyz?verbose");
            answer.contains(FAULT).then_some(())
        });
    }
    for folder in FOLDERS {
        cluster.host(2).sh(&format!("rm {folder}/fill"));
    }
    cluster.wait_ready(2);
    pings.lose_nothing();
    assert_eq!(cluster.host(2).sh(files), before);
}
