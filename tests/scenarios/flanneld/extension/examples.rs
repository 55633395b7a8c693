//! Networks as upstream's examples make them: a vxlan device and host routes, by commands with
//! quotes, pipes and variables of the shell.

use super::{eventually_has, idle, idle_dual, start_all};
use crate::flanneld::cluster::{Cluster, TIMEOUT, delete, get};
use serde_json::{Value, json};
use tests::{
    process::eventually,
    scenario,
    subnet_env::{eventually_pings, made_pod},
};

fn vxlan() -> Value {
    json!({
        "PreStartupCommand": "export NAME='ext-vxlan'; ip link del $NAME 2>/dev/null; \
            ip link add $NAME type vxlan id 7 dev eth0 dstport 4789 nolearning && ip link set $NAME mtu 1450 \
            && ip -o link show $NAME | sed 's/.*link.ether //' | cut -d' ' -f1",
        "PostStartupCommand": "ip addr add \"${SUBNET%/*}/32\" dev ext-vxlan && ip link set ext-vxlan up",
        "SubnetAddCommand": "read VTEP; GATEWAY=`echo $SUBNET | cut -d'/' -f1`; \
            ip neigh add $GATEWAY lladdr $VTEP dev ext-vxlan nud permanent \
            && bridge fdb add $VTEP dev ext-vxlan self dst $PUBLIC_IP && ip route add $SUBNET via $GATEWAY dev ext-vxlan onlink",
        "SubnetRemoveCommand": "read VTEP; GATEWAY=`echo $SUBNET | cut -d'/' -f1`; ip route del $SUBNET; \
            bridge fdb del $VTEP dev ext-vxlan self dst $PUBLIC_IP; ip neigh del $GATEWAY dev ext-vxlan",
        "ShutdownCommand": "ip link del ext-vxlan",
        "MTU": 1450,
    })
}

fn host_gateway() -> Value {
    json!({
        "SubnetAddCommand": "ip route add $SUBNET via $PUBLIC_IP",
        "SubnetRemoveCommand": "ip route del $SUBNET via $PUBLIC_IP",
    })
}

fn pods_ping(cluster: &Cluster, nodes: usize) {
    let pods: Vec<_> = (1..=nodes).map(|node| (node, cluster.pod(node))).collect();
    for (from, pod) in &pods {
        for (to, _) in pods.iter().filter(|(to, _)| to != from) {
            eventually_pings(pod, cluster.host(*to));
        }
    }
}

/// The device goes at SIGTERM and is there again after the next start.
#[scenario]
fn extension_vxlan_by_hand_is_a_network() {
    let mut cluster = idle(3, &vxlan());
    start_all(&mut cluster, 3);
    assert_eq!(cluster.env(2, "FLANNEL_MTU"), "1450");
    pods_ping(&cluster, 3);
    let mac = cluster.mac(2, "ext-vxlan");
    let fdb = cluster.host(3).sh("bridge fdb show dev ext-vxlan");
    assert!(
        fdb.contains(&format!("{mac} dst 172.31.0.2 self permanent")),
        "{fdb}"
    );
    let log = cluster.stop(2);
    assert!(log.contains("ShutdownCommand succeeded"), "{log}");
    assert!(
        !cluster
            .host(2)
            .try_sh("ip link show ext-vxlan")
            .status
            .success()
    );
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    // the others learn the new MAC: the entries of the old one go
    let new = cluster.mac(2, "ext-vxlan");
    assert_ne!(new, mac);
    for node in [1, 3] {
        eventually("the new MAC is there alone", TIMEOUT, || {
            let fdb = cluster.host(node).sh("bridge fdb show dev ext-vxlan");
            (fdb.contains(&new) && !fdb.contains(&mac)).then_some(())
        });
    }
    for node in [1, 3] {
        eventually_pings(&made_pod(cluster.host(node)), cluster.host(2));
    }
}

/// A node that leaves is removed from the others, and flanneld leaves routes of commands alone.
#[scenario]
fn extension_host_gateway_by_hand_is_a_network() {
    let mut cluster = idle(3, &host_gateway());
    start_all(&mut cluster, 3);
    assert_eq!(cluster.env(1, "FLANNEL_MTU"), "1500");
    pods_ping(&cluster, 3);
    let [second, third] = [2, 3].map(|node| cluster.subnet(node));
    cluster.stop(3);
    let path = format!("/v1/_/leases/{}", third.replace('/', "-"));
    delete(cluster.host(1), "172.31.0.1:8888", &path);
    for node in [1, 2] {
        eventually("the route of the node that left is gone", TIMEOUT, || {
            (!cluster.host(node).sh("ip route").contains(&third)).then_some(())
        });
    }
    let routes = cluster.host(1).sh("ip route");
    assert!(
        routes.contains(&format!("{second} via 172.31.0.2")),
        "{routes}"
    );
    assert!(get(cluster.host(1), "/readyz").contains("200 OK"));
}

/// Both families of a peer are one command.
#[scenario]
fn extension_commands_get_both_families() {
    let backend = json!({
        "PreStartupCommand": ["echo", "data of a node"],
        "PostStartupCommand": "echo $NETWORK $SUBNET $IPV6SUBNET $PUBLIC_IP $PUBLIC_IPV6 > /run/post",
        "SubnetAddCommand": "ip route add $SUBNET via $PUBLIC_IP && ip -6 route add $IPV6SUBNET via $PUBLIC_IPV6 \
            && echo \"$SUBNET $IPV6SUBNET $PUBLIC_IP $PUBLIC_IPV6 $(cat)\" >> /run/added",
    });
    let mut cluster = idle_dual(2, &backend);
    start_all(&mut cluster, 2);
    pods_ping(&cluster, 2);
    for (node, other) in [(1, 2), (2, 1)] {
        let post = [format!(
            "10.244.0.0/16 {} {} 172.31.0.{node} fd31::{node}",
            cluster.subnet(node),
            cluster.subnet6(node)
        )];
        eventually_has(&cluster, node, "/run/post", &post);
        let added = [format!(
            "{} {} 172.31.0.{other} fd31::{other} data of a node",
            cluster.subnet(other),
            cluster.subnet6(other)
        )];
        eventually_has(&cluster, node, "/run/added", &added);
    }
}
