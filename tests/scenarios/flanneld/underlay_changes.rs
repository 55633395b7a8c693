//! The underlay's address, MTU or state changes while the daemon runs.

use super::cluster::{Cluster, DUAL, V4, eventually_shows};
use std::{thread, time::Duration};
use tests::scenario;

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
        "FLANNEL_MTU=1350",
    );
    assert_eq!(host.sh("ip -o link show flannel.1 | cut -d: -f1"), index);
}

/// The interface goes down and up, and its default route is deleted and added.
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
