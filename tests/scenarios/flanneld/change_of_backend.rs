//! A cluster changes its backend while it runs, a node at a time: pods keep their addresses and
//! reach each other all the time, and nothing of the earlier backend remains.

use super::cluster::{Cluster, TIMEOUT, get};
use std::time::Duration;
use tests::{Pings, process::eventually, scenario};

const NODES: usize = 3;

/// The network with this value of `Backend`.
fn net_conf(backend: &str) -> String {
    format!(
        r#"{{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{backend}}}"#
    )
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
    let pings = Pings::among(&cluster.underlay.hosts);
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
