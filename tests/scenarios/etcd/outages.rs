//! Outages of etcd under ping: none of them touches the data path.

use super::cluster::{Cluster, DUAL, PREFIX, TIMEOUT, V4};
use crate::flanneld::{
    cluster::get,
    store_away::{kept, reboot},
};
use nix::sys::signal::Signal;
use std::{thread, time::Duration};
use tests::{FaultProxy, etcd::without_etcd, process::eventually, scenario, underlay};

/// A third node joins after the outage, and the others learn of it.
#[track_caller]
fn joins(cluster: &mut Cluster, node: usize) {
    cluster.start(node, &[]);
    cluster.wait_ready(node);
    cluster.make_pod(node);
    let all: Vec<usize> = (1..=node).collect();
    cluster.all_ping(&all);
}

#[track_caller]
fn start_two(cluster: &mut Cluster) {
    cluster.start_nodes(&[1, 2]);
    [1, 2].iter().for_each(|node| cluster.make_pod(*node));
    cluster.all_ping(&[1, 2]);
}

#[track_caller]
fn status_names_etcd(cluster: &Cluster) {
    eventually("the status says what is missing", TIMEOUT, || {
        let status = get(cluster.host(1), "/readyz?verbose");
        (status.contains("waiting: for etcd") && status.contains("flanneld is ready")).then_some(())
    });
}

#[scenario(unless = without_etcd)]
fn etcd_that_is_killed_and_restarted_costs_no_packet() {
    let mut cluster = Cluster::new(3, DUAL);
    start_two(&mut cluster);
    let pings = cluster.ping(1, 2);
    cluster.etcd.kill(0);
    status_names_etcd(&cluster);
    // a daemon that starts now has nobody to ask: its peers stay as they are
    cluster.stop(2);
    cluster.start(2, &[]);
    cluster.eventually_logs(2, "waiting for the network configuration");
    cluster.etcd.start(0);
    cluster.wait_ready(2);
    joins(&mut cluster, 3);
    pings.lose_nothing();
}

/// It has the leases that etcd told last.
#[scenario(unless = without_etcd)]
fn rebooted_node_reaches_its_peers_while_etcd_is_away() {
    let mut cluster = Cluster::new(2, DUAL);
    for node in [1, 2] {
        cluster.start(node, &[]);
        cluster.wait_ready(node);
    }
    kept(cluster.host(2), 2);
    cluster.etcd.kill(0);
    cluster.stop(2);
    reboot(cluster.host(2));
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    let status = get(cluster.host(2), "/readyz?verbose");
    assert!(status.contains("the leases are old"), "{status}");
    for node in [1, 2] {
        cluster.make_pod(node);
    }
    cluster.all_ping(&[1, 2]);
    cluster.etcd.start(0);
    eventually("etcd's leases are used", 2 * TIMEOUT, || {
        let status = get(cluster.host(2), "/readyz?verbose");
        (status.contains("flanneld is ready") && !status.contains("old")).then_some(())
    });
    cluster.all_ping(&[1, 2]);
}

#[scenario(unless = without_etcd)]
fn members_that_leave_and_return_cost_no_packet() {
    let mut cluster = Cluster::with_three_members(3, V4);
    start_two(&mut cluster);
    let pings = cluster.ping(1, 2);
    let leader = cluster.etcd.leader();
    cluster.etcd.kill(leader);
    cluster.etcd.wait_healthy();
    joins(&mut cluster, 3);
    let others: Vec<usize> = (0..3).filter(|member| *member != leader).collect();
    for member in &others {
        cluster.etcd.kill(*member);
    }
    status_names_etcd(&cluster);
    for member in 0..3 {
        // the first of three waits for a second
        cluster.etcd.spawn(member);
    }
    cluster.etcd.wait_healthy();
    cluster.etcd.put(
        &format!("{PREFIX}/subnets/10.244.199.0-24"),
        r#"{"PublicIP":"172.31.0.99","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:99"}}"#,
    );
    for node in [1, 2, 3] {
        eventually("the peer is there", TIMEOUT, || {
            let routes = cluster.host(node).sh("ip route show dev flannel.1");
            routes.contains("10.244.199.0/24").then_some(())
        });
    }
    pings.lose_nothing();
}

/// The store is compacted while the nodes do not reach it, and a peer goes.
#[scenario(unless = without_etcd)]
fn compaction_while_away_costs_no_packet() {
    let mut cluster = Cluster::new(3, V4);
    let upstream = format!("{}:2379", underlay::GATEWAY);
    let address = format!("{}:12379", underlay::GATEWAY);
    let switch = cluster.underlay.switch.handle();
    let proxy = FaultProxy::tcp(&switch, &upstream, &switch, &address);
    cluster.endpoints = format!("http://{address}");
    start_two(&mut cluster);
    let gone = format!("{PREFIX}/subnets/10.244.198.0-24");
    let value = r#"{"PublicIP":"172.31.0.98","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:98"}}"#;
    cluster.etcd.put(&gone, value);
    let has_route = |cluster: &Cluster, subnet: &str| {
        let routes = cluster.host(1).sh("ip route show dev flannel.1");
        routes.contains(subnet)
    };
    eventually("the peer is there", TIMEOUT, || {
        has_route(&cluster, "10.244.198.0/24").then_some(())
    });
    let pings = cluster.ping(1, 2);
    proxy.refuse();
    proxy.drop_connections();
    status_names_etcd(&cluster);
    cluster.etcd.delete(&gone);
    cluster
        .etcd
        .put(&gone.replace("198.0", "197.0"), &value.replace("98", "97"));
    cluster.etcd.compact();
    proxy.accept();
    eventually("the list is the new one", TIMEOUT, || {
        let is_new =
            has_route(&cluster, "10.244.197.0/24") && !has_route(&cluster, "10.244.198.0/24");
        is_new.then_some(())
    });
    joins(&mut cluster, 3);
    pings.lose_nothing();
}

/// The member that a node uses stops answering without closing the connection.
#[scenario(unless = without_etcd)]
fn stalled_member_is_left_for_another() {
    let mut cluster = Cluster::with_three_members(2, V4);
    start_two(&mut cluster);
    let pings = cluster.ping(1, 2);
    let followers: Vec<usize> = (0..3)
        .filter(|member| *member != cluster.etcd.leader())
        .collect();
    cluster.etcd.signal(followers[0], Signal::SIGSTOP);
    thread::sleep(Duration::from_millis(200));
    let running = (0..3).find(|member| *member != followers[0]).expect("one");
    let endpoint = cluster.etcd.endpoint(running);
    let key = format!("{PREFIX}/subnets/10.244.196.0-24");
    let value = r#"{"PublicIP":"172.31.0.96","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:96"}}"#;
    cluster.host(1).sh(&format!(
        "ETCDCTL_API=3 etcdctl --endpoints {endpoint} put {key} '{value}'"
    ));
    for node in [1, 2] {
        // an HTTP/2 ping is sent after 10 s without data, and awaited for 10 s
        eventually("the peer is there", Duration::from_secs(60), || {
            let routes = cluster.host(node).sh("ip route show dev flannel.1");
            routes.contains("10.244.196.0/24").then_some(())
        });
    }
    cluster.etcd.signal(followers[0], Signal::SIGCONT);
    pings.lose_nothing();
}
