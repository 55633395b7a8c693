//! A cluster changes its backend while it runs, a node at a time: pods keep their addresses and
//! reach each other all the time, and nothing of the earlier backend remains.

use super::cluster::{Cluster, TIMEOUT, get};
use nix::sys::signal::Signal;
use std::{process::Command, time::Duration};
use tests::{Process, process::eventually, scenario};

const NODES: usize = 3;

/// The network with this value of `Backend`.
fn net_conf(backend: &str) -> String {
    format!(
        r#"{{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{backend}}}"#
    )
}

/// Pings from each node's pod to each address of each other node's pod, every 20 ms.
struct Pings(Vec<(String, Process)>);

impl Pings {
    fn start(cluster: &Cluster) -> Pings {
        let mut pings = Vec::new();
        for from in 1..=NODES {
            for to in (1..=NODES).filter(|to| *to != from) {
                for ip in cluster.pod_ips(to) {
                    let mut command = Command::new("ip");
                    command.args(["netns", "exec", "pod", "ping", "-n", "-i", "0.02", &ip]);
                    let what = format!("from node {from} to node {to} ({ip})");
                    pings.push((what, cluster.host(from).spawn(command)));
                }
            }
        }
        Pings(pings)
    }

    /// Ends them; fails if one was not answered. The last may be on its way.
    #[track_caller]
    fn lose_nothing(&mut self) {
        for (what, ping) in &mut self.0 {
            ping.signal(Signal::SIGINT);
            ping.wait(Duration::from_secs(5));
            let log = ping.output();
            let missing = missing(&log);
            assert!(
                missing.is_empty(),
                "{what}: no answer to {missing:?}\n{log}"
            );
        }
    }
}

/// The numbers of requests without answer before the last answer.
fn missing(log: &str) -> Vec<u32> {
    let number = |line: &str| {
        let (_, rest) = line.split_once("icmp_seq=")?;
        rest.split_whitespace().next()?.parse::<u32>().ok()
    };
    let answers = log.lines().filter(|line| line.contains("bytes from"));
    let answered: std::collections::BTreeSet<_> = answers.filter_map(number).collect();
    let last = answered.last().copied().expect("answers");
    assert!(last > 20, "only {last} pings:\n{log}");
    (1..=last).filter(|seq| !answered.contains(seq)).collect()
}

/// Waits until that many leases have the text.
#[track_caller]
fn wait_for_leases(cluster: &Cluster, text: &str, nodes: usize) {
    eventually("the nodes publish the backend", TIMEOUT, || {
        let leases = cluster
            .host(1)
            .sh("curl -s http://172.31.0.1:8888/v1/_/leases");
        let leases = leases.split(r#""Attrs":"#).skip(1);
        (leases.filter(|lease| lease.contains(text)).count() == nodes).then_some(())
    });
}

/// Changes the backend while the last node's daemon is away, as at an update of the nodes one by
/// one, and starts that one later. `to` is the later backend, with a text that its leases have;
/// `gone` are devices of the earlier one.
fn change(from: &str, to: (&str, &str), gone: &[&str]) {
    let mut cluster = Cluster::new(NODES, &net_conf(from));
    let subnets: Vec<_> = (1..=NODES).map(|node| cluster.subnet(node)).collect();
    let pods: Vec<_> = (1..=NODES).map(|node| (node, cluster.pod(node))).collect();
    cluster.ping_all(&pods);
    drop(pods);
    let mut pings = Pings::start(&cluster);
    cluster.stop(NODES);
    let (backend, published) = to;
    let text = net_conf(backend);
    cluster
        .host(1)
        .sh(&format!("echo '{text}' > /run/net-conf.json"));
    wait_for_leases(&cluster, published, NODES - 1);
    for node in 1..NODES {
        cluster.wait_ready(node);
    }
    // both kinds are in use
    std::thread::sleep(Duration::from_secs(2));
    cluster.start(NODES, &[]);
    wait_for_leases(&cluster, published, NODES);
    cluster.wait_ready(NODES);
    for node in 1..=NODES {
        eventually(
            "nothing of the earlier backend is left",
            Duration::from_secs(40),
            || {
                let links = cluster.host(node).sh("ip -o link");
                let left = gone
                    .iter()
                    .any(|device| links.contains(&format!(" {device}:")));
                (!left).then_some(())
            },
        );
    }
    pings.lose_nothing();
    let after: Vec<_> = (1..=NODES).map(|node| cluster.subnet(node)).collect();
    assert_eq!(after, subnets);
    for node in 1..=NODES {
        let status = get(cluster.host(node), "/readyz?verbose");
        assert!(!status.contains("skipped"), "{status}");
    }
}

#[scenario]
fn change_from_vxlan_to_host_gw_loses_no_packet() {
    let vxlan = [r#"{"Type":"vxlan"}"#, "flannel.1", "flannel-v6.1"];
    change(
        vxlan[0],
        (r#"{"Type":"host-gw"}"#, r#""host-gw""#),
        &vxlan[1..],
    );
}

#[scenario]
fn change_from_host_gw_to_vxlan_loses_no_packet() {
    change(
        r#"{"Type":"host-gw"}"#,
        (r#"{"Type":"vxlan"}"#, r#""vxlan""#),
        &[],
    );
}

#[scenario]
fn change_of_the_vni_loses_no_packet() {
    let earlier = ["flannel.1", "flannel-v6.1"];
    let later = r#"{"Type":"vxlan","VNI":7}"#;
    change(r#"{"Type":"vxlan"}"#, (later, r#""VNI":7"#), &earlier);
}
