//! Nodes leave and return, daemons restart under traffic, and the lease store goes and comes back.

use super::{
    cluster::{Cluster, DUAL, TIMEOUT, V4, eventually_shows, get},
    restore::snapshot,
};
use nix::sys::signal::Signal;
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};
use tests::{process::eventually, scenario, subnet_env::made_pod};

/// Neighbour and forwarding entry follow the new MAC, and those of the old one are removed.
#[scenario]
fn peers_follow_a_new_mac() {
    let mut cluster = Cluster::new(2, V4);
    let old = cluster.mac(2, "flannel.1");
    let subnet = cluster.subnet(2);
    cluster.stop(2);
    cluster
        .host(2)
        .sh("ip link del flannel.1 && rm /var/lib/flannel/node.json");
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    let new = cluster.mac(2, "flannel.1");
    assert_ne!(old, new);
    assert_eq!(
        cluster.subnet(2),
        subnet,
        "the same public IP gets the same subnet"
    );
    eventually_shows(&cluster, 1, "bridge fdb show dev flannel.1", &new);
    eventually_shows(&cluster, 1, "ip neigh show dev flannel.1", &new);
    assert!(
        !cluster
            .host(1)
            .sh("bridge fdb show dev flannel.1")
            .contains(&old)
    );
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
}

/// The address changes while the daemon is stopped.
#[scenario]
fn peers_follow_a_new_public_ip() {
    let mut cluster = Cluster::new(2, V4);
    cluster.stop(2);
    cluster.host(2).sh(
        "ip addr del 172.31.0.2/24 dev eth0 && ip addr add 172.31.0.77/24 dev eth0 && ip route add default via 172.31.0.254",
    );
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    eventually_shows(
        &cluster,
        1,
        "bridge fdb show dev flannel.1",
        "dst 172.31.0.77",
    );
    eventually_shows(&cluster, 1, "ip route", &cluster.subnet(2));
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
}

/// A ping and a TCP stream last through SIGKILL and restart of both daemons.
#[scenario]
fn killed_daemon_loses_no_packet() {
    let mut cluster = Cluster::new(2, DUAL);
    let ips = cluster.pod_ips(2);
    cluster.pod(1);
    cluster.pod(2);
    let before = snapshot(cluster.host(1));
    let indexes = cluster.host(1).sh("ip -o link | cut -d: -f1,2");
    let pings = cluster.ping(1, 2);
    let server = pod_run(&cluster, 2, || {
        TcpListener::bind("[::]:7000").expect("listen")
    });
    let receiver = thread::spawn(move || {
        let (mut stream, _) = server.accept().expect("accept");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("read");
        bytes.len()
    });
    let target = format!("{}:7000", ips[0]);
    let mut stream = pod_run(&cluster, 1, || TcpStream::connect(target).expect("connect"));
    let sender = thread::spawn(move || {
        for _ in 0..100 {
            stream.write_all(&[7; 1000]).expect("the stream stays");
            thread::sleep(Duration::from_millis(25));
        }
    });
    cluster.kill_and_start_each();
    sender.join().expect("the stream stays");
    assert_eq!(receiver.join().expect("the stream stays"), 100_000);
    pings.lose_nothing();
    assert_eq!(snapshot(cluster.host(1)), before);
    assert_eq!(
        cluster.host(1).sh("ip -o link | cut -d: -f1,2"),
        indexes,
        "devices are adopted"
    );
}

fn pod_run<T: Send>(cluster: &Cluster, node: usize, f: impl FnOnce() -> T + Send) -> T {
    made_pod(cluster.host(node)).run(f)
}

/// They restore entries, and a restart keeps the data path; they catch up when the store is back.
#[scenario]
fn nodes_keep_working_without_the_lease_store() {
    let mut cluster = Cluster::new(3, V4);
    cluster.pod(2);
    cluster.pod(3);
    cluster.kill(1);
    let ip = cluster.pod_ips(3).remove(0);
    let ping = format!("ip netns exec pod ping -n -c1 -W2 {ip}");
    cluster.host(2).sh(&ping);
    // entries are still restored
    let subnet = cluster.subnet(3);
    cluster.host(2).sh(&format!("ip route del {subnet}"));
    eventually_shows(&cluster, 2, "ip route", &subnet);
    // a restarted daemon waits for the store and keeps the data path
    cluster.kill(2);
    cluster.start(2, &[]);
    thread::sleep(Duration::from_millis(500));
    assert!(!cluster.is_ready(2) && cluster.daemon(2).is_running());
    cluster.host(2).sh(&ping);
    cluster
        .host(3)
        .sh("ip link set flannel.1 address 02:00:00:00:00:03");
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    cluster.wait_ready(2);
    cluster.wait_ready(3);
    eventually_shows(&cluster, 1, "ip route", &subnet);
    cluster.host(2).sh(&ping);
}

/// In place where the kernel can, else by a new device with the same MAC.
#[scenario]
fn changed_settings_are_applied_to_the_device() {
    let mut cluster = Cluster::new(1, V4);
    let mac = cluster.mac(1, "flannel.1");
    let index = |cluster: &Cluster| {
        cluster
            .host(1)
            .sh("ip -o link show flannel.1 | cut -d: -f1")
    };
    let first = index(&cluster);
    let with = |backend: &str, cluster: &mut Cluster| {
        cluster.stop(1);
        cluster.host(1).sh(&format!(
            r#"echo '{{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{{"Type":"vxlan",{backend}}}}}' > /run/net-conf.json"#
        ));
        cluster.start(1, &[]);
        cluster.wait_ready(1);
        assert_eq!(cluster.mac(1, "flannel.1"), mac, "{backend}");
        cluster.host(1).sh("ip -d link show flannel.1")
    };
    let link = with(r#""MTU":1400"#, &mut cluster);
    assert!(link.contains("mtu 1350"), "{link}");
    assert_eq!(index(&cluster), first, "an MTU is changed in place");
    assert_eq!(cluster.env(1, "FLANNEL_MTU"), "1350");
    let link = with(r#""Port":4789"#, &mut cluster);
    assert!(
        link.contains("dstport 4789") && link.contains("mtu 1450"),
        "{link}"
    );
    let link = with(r#""Port":4789,"GBP":true"#, &mut cluster);
    assert!(link.contains(" gbp"), "{link}");
    let link = with(r#""Learning":true"#, &mut cluster);
    assert!(!link.contains("nolearning"), "{link}");
}

/// SIGTERM and SIGINT end it within a second at any moment, with success.
#[scenario]
fn signal_stops_the_daemon_and_keeps_the_network() {
    let mut cluster = Cluster::new(1, V4);
    let before = cluster
        .host(1)
        .sh("ip -o addr show flannel.1; nft list ruleset; cat /run/flannel/subnet.env");
    let log = cluster.stop(1);
    assert!(
        log.contains("SIGTERM: stopping; pods keep their network"),
        "{log}"
    );
    let after = cluster
        .host(1)
        .sh("ip -o addr show flannel.1; nft list ruleset; cat /run/flannel/subnet.env");
    assert_eq!(before, after);
    // the same while it waits for a store that does not answer
    let mut waiting = Cluster::idle(2, V4);
    waiting.start(2, &[]);
    eventually("the health port answers", TIMEOUT, || {
        get(waiting.host(2), "/healthz")
            .contains("flanneld is running")
            .then_some(())
    });
    assert!(get(waiting.host(2), "/readyz").contains("503 Service Unavailable"));
    waiting.daemon(2).signal(Signal::SIGINT);
    assert!(waiting.daemon(2).wait(Duration::from_secs(1)).success());
}
