//! What strangers can use up: connections and file descriptors.

use super::cluster::{Cluster, TIMEOUT, V4, get};
use std::{
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};
use tests::{binaries::program, process::eventually, scenario, underlay};

/// Connections that say nothing, to a port of node 1.
fn idle(cluster: &Cluster, address: &str, count: usize) -> Vec<TcpStream> {
    cluster.host(1).run(|| {
        let connect = |_| TcpStream::connect(address).expect("connect");
        (0..count).map(connect).collect()
    })
}

/// A daemon that may have few file descriptors, and has fewer until it asks. Its lease server and
/// its health port are full of connections that say nothing: its own work, a node that joins and a
/// probe are served all the same.
#[scenario]
fn idle_connections_keep_nobody_out() {
    let mut cluster = Cluster::idle(2, V4);
    let store = format!("{}:8888", underlay::ip(1));
    let mut command = Command::new("prlimit");
    command.args(["--nofile=40:400", &program("flanneld").to_string_lossy()]);
    command.args(["-listen", &store, "-net-config-path=/run/net-conf.json"]);
    command.args([
        "-insecure",
        "-ip-masq",
        "-healthz-ip=127.0.0.1",
        "-healthz-port=8081",
    ]);
    let daemon = cluster.host(1).spawn(command);
    let is_ready = |cluster: &Cluster| get(cluster.host(1), "/readyz").contains("is ready");
    eventually("node 1 is ready", TIMEOUT, || {
        is_ready(&cluster).then_some(())
    });
    let _lease_api = idle(&cluster, &store, 800);
    let _health = idle(&cluster, "127.0.0.1:8081", 400);
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    let subnet = cluster.subnet(2);
    eventually("node 1 has the route to node 2", TIMEOUT, || {
        let routes = cluster.host(1).sh("ip route show dev flannel.1");
        routes.contains(&subnet).then_some(())
    });
    // the median, since the machine may be busy
    let mut times: Vec<Duration> = (0..15)
        .map(|_| {
            let start = Instant::now();
            assert!(is_ready(&cluster));
            start.elapsed()
        })
        .collect();
    times.sort();
    assert!(times[7] < Duration::from_millis(100), "{times:?}");
    let log = daemon.output();
    assert!(!log.contains("cannot accept"), "{log}");
}
