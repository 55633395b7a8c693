//! Thousands of nodes: the time and the memory that they take.

use super::{
    listing::{WIDE, listings},
    peers::ROUTES,
};
use crate::kubernetes::cluster::Cluster;
use std::{
    thread,
    time::{Duration, Instant},
};
use tests::{
    binaries,
    kubernetes::{Node, without_kubernetes},
    process::eventually,
    scenario,
    usage::{peak_memory, processor_time},
};

/// Peak memory, in KiB.
const MAX_MEMORY: u64 = 30 * 1024;
/// Between two updates of a node by its kubelet.
const UPDATE_INTERVAL: Duration = Duration::from_secs(10);

#[scenario(unless = without_kubernetes)]
fn thousands_of_nodes_are_watched_within_30_mib() {
    // a debug build is ten times slower, and larger
    let optimised = !binaries::folder().ends_with("debug");
    let nodes = if optimised { 5_000 } else { 500 };
    let cluster = Cluster::new(1, WIDE);
    cluster.server.create_nodes((0..nodes).map(Node::of_fleet));
    let routes = || {
        let routes = cluster.host(1).sh(ROUTES);
        routes
            .lines()
            .filter(|line| line.contains("onlink"))
            .count()
    };
    let start = Instant::now();
    let mut daemon = cluster.start(1);
    daemon.wait_ready();
    let took = start.elapsed();
    assert_eq!(routes(), nodes, "ready means that all are programmed");
    let pid = daemon.process.pid();
    let at_start = peak_memory(pid);
    // kubelets write their status while a node comes and another one goes
    let names = (0..nodes).map(|number| format!("node-{number}")).collect();
    let kubelets = cluster.server.simulate_kubelets(names, UPDATE_INTERVAL);
    let (sent, cpu, since) = (kubelets.sent(), processor_time(pid), Instant::now());
    thread::sleep(Duration::from_secs(if optimised { 10 } else { 2 }));
    let (sent, cpu, since) = (
        kubelets.sent() - sent,
        processor_time(pid) - cpu,
        since.elapsed(),
    );
    cluster.server.create_node(&Node::of_fleet(nodes));
    cluster.server.delete_node("node-0");
    eventually("the change arrives", Duration::from_secs(20), || {
        let routes = cluster.host(1).sh(ROUTES);
        (!routes.contains("10.128.0.0/24") && routes.lines().count() == nodes).then_some(())
    });
    // every node once more, compared with those that are known
    cluster.proxy.drop_connections();
    drop(kubelets);
    let peak = peak_memory(pid);
    println!(
        "{nodes} nodes: ready {took:?} after the start; peak memory {at_start} KiB, {peak} KiB later; \
         {:.2} % of a core with {:.0} updates a second; requests {:?}",
        100.0 * cpu.as_secs_f64() / since.as_secs_f64(),
        sent as f64 / since.as_secs_f64(),
        listings(&cluster.proxy.requests())
    );
    assert!(!optimised || peak <= MAX_MEMORY, "peak memory {peak} KiB");
}
