//! Every change of a node counts, and a bad node takes no other along.

use super::peers::{FDB, PREFIX, ROUTES, mac, peer, public_ip, subnet, wait_shown};
use crate::kubernetes::cluster::{Cluster, DUAL, Flanneld, TIMEOUT, V4};
use std::{thread, time::Duration};
use tests::{
    Host,
    kubernetes::{Node, without_kubernetes},
    process::eventually,
    scenario, underlay,
};

/// One host, and nodes that no host is.
struct Node1 {
    daemon: Flanneld,
    cluster: Cluster,
}

impl Node1 {
    fn start(net_conf: &'static str) -> Node1 {
        let cluster = Cluster::new(1, net_conf);
        let mut daemon = cluster.start(1);
        daemon.wait_ready();
        Node1 { daemon, cluster }
    }

    fn host(&self) -> &Host {
        self.cluster.host(1)
    }

    fn create(&self, node: &Node) {
        self.cluster.server.create_node(node);
    }

    fn annotate(&self, node: &str, name: &str, value: Option<&str>) {
        let key = format!("{PREFIX}/{name}");
        self.cluster.server.annotate(node, &[(&key, value)]);
    }

    #[track_caller]
    fn wait(&self, command: &str, texts: &[(&str, bool)]) {
        wait_shown(self.host(), &self.daemon, command, texts);
    }

    /// Waits until the log has a line with each text, and returns how many there are.
    #[track_caller]
    fn wait_logged(&self, texts: &[&str]) -> usize {
        let lines = || {
            let output = self.daemon.output();
            let has_all = |line: &&str| texts.iter().all(|text| line.contains(text));
            output.lines().filter(has_all).count()
        };
        eventually(&format!("{texts:?} is logged"), TIMEOUT, || {
            (lines() > 0).then_some(())
        });
        lines()
    }
}

#[scenario(unless = without_kubernetes)]
fn every_change_of_a_node_arrives() {
    let node = Node1::start(V4);
    node.create(&peer(1));
    node.create(&peer(2));
    node.wait(ROUTES, &[(&subnet(1), true), (&subnet(2), true)]);
    node.annotate("peer1", "public-ip", Some("172.31.0.111"));
    node.wait(
        FDB,
        &[
            ("172.31.0.111", true),
            (&public_ip(1), false),
            (&public_ip(2), true),
        ],
    );
    let other_mac = format!(r#"{{"VNI":1,"VtepMAC":"{}"}}"#, mac(9));
    node.annotate("peer1", "backend-data", Some(&other_mac));
    node.wait(FDB, &[(&mac(9), true), (&mac(1), false)]);
    // it answers by its earlier backend as long as this node has that one
    node.annotate("peer1", "backend-type", Some("host-gw"));
    thread::sleep(Duration::from_secs(1));
    node.wait(ROUTES, &[(&subnet(1), true), (&subnet(2), true)]);
    node.annotate("peer1", "backend-type", Some("vxlan"));
    node.wait(ROUTES, &[(&subnet(1), true)]);
    // flanneld leaves the node
    node.annotate("peer1", "kube-subnet-manager", None);
    node.wait(ROUTES, &[(&subnet(1), false), (&subnet(2), true)]);
    node.annotate("peer1", "kube-subnet-manager", Some("true"));
    node.wait(ROUTES, &[(&subnet(1), true)]);
    node.cluster.server.delete_node("peer1");
    node.wait(ROUTES, &[(&subnet(1), false)]);
    node.wait(FDB, &[(&mac(9), false), (&mac(2), true)]);
}

#[scenario(unless = without_kubernetes)]
fn change_of_one_family_arrives() {
    let node = Node1::start(DUAL);
    let data6 = |number: usize| format!(r#"{{"VNI":1,"VtepMAC":"{}"}}"#, mac(number));
    let dual = peer(1)
        .pod_cidrs(&[&subnet(1), "fd00:10:244:101::/64"])
        .annotation(&format!("{PREFIX}/public-ipv6"), "fd31::101")
        .annotation(&format!("{PREFIX}/backend-v6-data"), &data6(11));
    node.create(&dual);
    let (routes6, fdb6) = (
        "ip -6 route show dev flannel-v6.1",
        "bridge fdb show dev flannel-v6.1",
    );
    node.wait(ROUTES, &[(&subnet(1), true)]);
    node.wait(routes6, &[("fd00:10:244:101::/64", true)]);
    node.annotate("peer1", "public-ipv6", Some("fd31::102"));
    node.wait(fdb6, &[("fd31::102", true), ("fd31::101", false)]);
    node.annotate("peer1", "backend-v6-data", Some(&data6(12)));
    node.wait(fdb6, &[(&mac(12), true), (&mac(11), false)]);
    node.annotate("peer1", "public-ip", Some("172.31.0.111"));
    node.wait(FDB, &[("172.31.0.111", true)]);
    // one family is lost, the other one stays
    node.annotate("peer1", "public-ipv6", None);
    node.wait(routes6, &[("fd00:10:244:101::/64", false)]);
    node.wait(ROUTES, &[(&subnet(1), true)]);
}

#[scenario(unless = without_kubernetes)]
fn pod_cidr_that_comes_late_and_node_that_is_made_again() {
    let node = Node1::start(V4);
    let late = Node::new("peer1").vxlan_peer(&public_ip(1), &mac(1));
    node.create(&late);
    node.create(&peer(2));
    node.wait(ROUTES, &[(&subnet(2), true), (&subnet(1), false)]);
    node.cluster.server.assign_pod_cidrs("peer1", &[&subnet(1)]);
    node.wait(ROUTES, &[(&subnet(1), true)]);
    // another machine of the same name
    node.cluster.server.delete_node("peer1");
    let again = Node::new("peer1")
        .pod_cidrs(&[&subnet(3)])
        .vxlan_peer(&public_ip(3), &mac(3));
    node.create(&again);
    node.wait(
        ROUTES,
        &[(&subnet(1), false), (&subnet(3), true), (&subnet(2), true)],
    );
    node.wait(FDB, &[(&public_ip(3), true), (&public_ip(1), false)]);
}

#[scenario(unless = without_kubernetes)]
fn bad_node_is_reported_once_and_affects_no_other() {
    let node = Node1::start(V4);
    node.create(&peer(2));
    node.wait(ROUTES, &[(&subnet(2), true)]);
    let long = "x".repeat(10_000);
    for (number, name, value) in [
        (1, "public-ip", "nonsense"),
        (3, "public-ip", "fd31::1"),
        (4, "public-ip", "\u{202e}\u{fffd}"),
        (5, "backend-data", "[1"),
        (6, "backend-data", "null"),
        (7, "backend-data", r#"{"VNI":4096,"VtepMAC":""}"#),
        (9, "public-ip", &long),
        (10, "backend-data", &long),
    ] {
        node.create(&peer(number));
        node.annotate(&format!("peer{number}"), name, Some(value));
    }
    // at once: a peer that goes over to another backend is reached by the one before
    let key = "flannel.alpha.coreos.com/backend-type";
    node.create(&peer(8).annotation(key, "nonsense"));
    node.create(
        &Node::new("three")
            .pod_cidrs(&[&subnet(20), "fd00:10:244:20::/64"])
            .vxlan_peer("172.31.0.120", &mac(20)),
    );
    node.create(&peer(21));
    node.wait(
        ROUTES,
        &[(&subnet(21), true), (&subnet(2), true), (&subnet(20), true)],
    );
    let bad: Vec<String> = [1, 3, 4, 5, 6, 7, 8, 9, 10].map(subnet).into();
    let bad: Vec<(&str, bool)> = bad.iter().map(|net| (net.as_str(), false)).collect();
    node.wait(ROUTES, &bad);
    let lines = node.wait_logged(&["node peer1:", "public-ip", "nonsense"]);
    // unrelated changes repeat nothing
    node.cluster
        .server
        .annotate("peer1", &[("example.com/x", Some("1"))]);
    node.create(&peer(22));
    node.wait(ROUTES, &[(&subnet(22), true)]);
    assert_eq!(
        node.wait_logged(&["node peer1:", "public-ip", "nonsense"]),
        lines
    );
    let longest = node.daemon.output().lines().map(str::len).max();
    assert!(longest.is_some_and(|length| length < 1000), "{longest:?}");
    // it is mended
    node.annotate("peer1", "public-ip", Some(&public_ip(1)));
    node.wait(ROUTES, &[(&subnet(1), true)]);
}

#[scenario(unless = without_kubernetes)]
fn older_of_two_overlapping_nodes_keeps_its_subnet() {
    let node = Node1::start(V4);
    // another node claims the own subnet, and a wider one that contains the own one
    node.create(&peer(1).pod_cidrs(&["10.244.1.0/24"]));
    node.create(&peer(2).pod_cidrs(&["10.244.0.0/20"]));
    node.create(&peer(3));
    node.wait(ROUTES, &[(&subnet(3), true)]);
    node.wait_logged(&["node peer1:", "10.244.1.0/24", "node host1"]);
    node.wait_logged(&["node peer2:", "10.244.0.0/20", "node host1"]);
    // a node's age has a resolution of a second
    thread::sleep(Duration::from_millis(1100));
    node.create(&peer(4).pod_cidrs(&[&subnet(3)]));
    node.wait_logged(&["node peer4:", &subnet(3), "node peer3"]);
    node.wait(FDB, &[(&public_ip(3), true), (&public_ip(4), false)]);
    node.wait(
        ROUTES,
        &[("10.244.1.0/24", false), ("10.244.0.0/20", false)],
    );
    let status = node.daemon.status();
    assert!(status.contains(" 200 "), "{status}");
    // the older one goes
    node.cluster.server.delete_node("peer3");
    node.wait(FDB, &[(&public_ip(3), false), (&public_ip(4), true)]);
    assert!(
        node.host()
            .sh("ip addr show dev eth0")
            .contains(&underlay::ip(1))
    );
}
