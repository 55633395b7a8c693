//! A cluster changes its backend while it runs, a node at a time: pods keep their addresses and
//! reach each other all the time, and nothing of the earlier backend remains.

use super::{
    cluster::{Cluster, TIMEOUT, get},
    data_path::{self, is_running},
};
use std::time::Duration;
use tests::{
    Pings,
    kernel::{without_ipip, without_wireguard},
    process::eventually,
    scenario, subnet_env,
};

pub(super) const NODES: usize = 3;

/// The limit for what goes 15 seconds after the last node that uses it.
const GONE: Duration = Duration::from_secs(30);

/// The network with this value of `Backend`.
pub(super) fn net_conf(backend: &str) -> String {
    format!(
        r#"{{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{backend}}}"#
    )
}

/// Waits until that many leases have the text; udp's have no type.
#[track_caller]
fn wait_for_leases(cluster: &Cluster, text: &str, nodes: usize) {
    eventually("the nodes publish the backend", TIMEOUT, || {
        let leases = cluster
            .host(1)
            .sh("curl -s http://172.31.0.1:8888/v1/_/leases");
        let leases = leases.split(r#""Attrs":"#).skip(1);
        let has = |lease: &&str| match text {
            "" => !lease.contains("BackendType"),
            text => lease.contains(text),
        };
        (leases.filter(has).count() == nodes).then_some(())
    });
}

/// A change: the earlier backend, the later one with a text that its leases have, and devices of
/// the earlier one.
pub(super) struct Change {
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) published: &'static str,
    pub(super) gone: &'static [&'static str],
}

pub(super) const VXLAN: &str = r#"{"Type":"vxlan"}"#;
pub(super) const VXLAN_DEVICES: &[&str] = &["flannel.1", "flannel-v6.1"];
const HOST_GW: &str = r#"{"Type":"host-gw"}"#;
const UDP: &str = r#"{"Type":"udp"}"#;
const IPIP: &str = r#"{"Type":"ipip"}"#;
const IPIP_DEVICES: &[&str] = &["flannel.ipip", "flannel.ip6ip6"];
const WIREGUARD: &str = r#"{"Type":"wireguard"}"#;
/// On every kernel.
const WIREGUARD_IN_USER_SPACE: &str = r#"{"Type":"wireguard","Userspace":true}"#;
const WIREGUARD_DEVICES: &[&str] = &["flannel-wg", "flannel-wg-v6"];

/// The processes that move packets on the node.
fn data_paths(cluster: &Cluster, node: usize) -> Vec<i32> {
    let host = cluster.host(node);
    let devices = ["flannel0", "flannel-wg", "flannel-wg-v6"].iter();
    devices
        .filter(|device| {
            let there = format!("test -e {}", data_path::socket(device));
            host.try_sh(&there).status.success()
        })
        .map(|device| data_path::process(host, device))
        .collect()
}

/// Changes the backend while the last node's daemon is away, as at an update of the nodes one by
/// one, and starts that one later. Returns the log of its later daemon.
fn change(change: &Change) -> String {
    change_of(&mut Cluster::idle(NODES, &net_conf(change.from)), change)
}

/// The same with nodes that do not run yet and have the earlier configuration.
pub(super) fn change_of(cluster: &mut Cluster, change: &Change) -> String {
    for node in 1..=NODES {
        cluster.start(node, &[]);
    }
    for node in 1..=NODES {
        cluster.wait_ready(node);
    }
    let subnets: Vec<_> = (1..=NODES).map(|node| cluster.subnet(node)).collect();
    let pods: Vec<_> = (1..=NODES).map(|node| (node, cluster.pod(node))).collect();
    for (from, pod) in &pods {
        for to in (1..=NODES).filter(|to| to != from) {
            subnet_env::eventually_pings(pod, cluster.host(to));
        }
    }
    drop(pods);
    let mut earlier_processes = Vec::new();
    for node in 1..=NODES {
        for pid in data_paths(cluster, node) {
            earlier_processes.push((node, pid));
        }
    }
    let pings = Pings::among(&cluster.underlay.hosts);
    cluster.stop(NODES);
    cluster
        .host(1)
        .write("/run/net-conf.json", &net_conf(change.to));
    wait_for_leases(cluster, change.published, NODES - 1);
    for node in 1..NODES {
        cluster.wait_ready(node);
    }
    // both kinds are in use
    std::thread::sleep(Duration::from_secs(2));
    cluster.start(NODES, &[]);
    wait_for_leases(cluster, change.published, NODES);
    cluster.wait_ready(NODES);
    for node in 1..=NODES {
        eventually("nothing of the earlier backend is left", GONE, || {
            let host = cluster.host(node);
            let links = host.sh("ip -o link");
            let has_device = |device: &&str| links.contains(&format!(" {device}:"));
            let mut processes = earlier_processes.iter();
            let has_process = processes.any(|(on, pid)| *on == node && is_running(host, *pid));
            let left = has_process || change.gone.iter().any(has_device);
            (!left).then_some(())
        });
    }
    pings.lose_nothing();
    let after: Vec<_> = (1..=NODES).map(|node| cluster.subnet(node)).collect();
    assert_eq!(after, subnets);
    for node in 1..=NODES {
        let status = get(cluster.host(node), "/readyz?verbose");
        assert!(!status.contains("skipped"), "{status}");
    }
    cluster.daemon(NODES).output()
}

/// Fails unless the log has both texts in this order.
#[track_caller]
pub(super) fn precede(log: &str, first: &str, second: &str) {
    let at = |text: &str| {
        log.find(text)
            .unwrap_or_else(|| panic!("no {text}:\n{log}"))
    };
    assert!(at(first) < at(second), "{log}");
}

#[scenario]
fn change_from_vxlan_to_host_gw_loses_no_packet() {
    change(&Change {
        from: VXLAN,
        to: HOST_GW,
        published: r#""host-gw""#,
        gone: VXLAN_DEVICES,
    });
}

#[scenario]
fn change_from_host_gw_to_vxlan_loses_no_packet() {
    let log = change(&Change {
        from: HOST_GW,
        to: VXLAN,
        published: r#""vxlan""#,
        gone: &[],
    });
    // others send to the device as soon as they see that this node has it
    precede(&log, "created device flannel.1", "this node has");
}

#[scenario]
fn change_from_vxlan_to_udp_loses_no_packet() {
    change(&Change {
        from: VXLAN,
        to: UDP,
        published: "",
        gone: VXLAN_DEVICES,
    });
}

#[scenario]
fn change_from_udp_to_vxlan_loses_no_packet() {
    change(&Change {
        from: UDP,
        to: VXLAN,
        published: r#""vxlan""#,
        gone: &["flannel0"],
    });
}

#[scenario]
fn change_from_udp_to_wireguard_loses_no_packet() {
    change(&Change {
        from: UDP,
        to: WIREGUARD_IN_USER_SPACE,
        published: r#""wireguard""#,
        gone: &["flannel0"],
    });
}

#[scenario]
fn change_from_host_gw_to_wireguard_loses_no_packet() {
    change(&Change {
        from: HOST_GW,
        to: WIREGUARD_IN_USER_SPACE,
        published: r#""wireguard""#,
        gone: &[],
    });
}

#[scenario]
fn change_from_wireguard_to_host_gw_loses_no_packet() {
    change(&Change {
        from: WIREGUARD_IN_USER_SPACE,
        to: HOST_GW,
        published: r#""host-gw""#,
        gone: WIREGUARD_DEVICES,
    });
}

#[scenario(unless = without_ipip)]
fn change_from_vxlan_to_ipip_loses_no_packet() {
    change(&Change {
        from: VXLAN,
        to: IPIP,
        published: r#""ipip""#,
        gone: VXLAN_DEVICES,
    });
}

#[scenario(unless = without_ipip)]
fn change_from_ipip_to_vxlan_loses_no_packet() {
    change(&Change {
        from: IPIP,
        to: VXLAN,
        published: r#""vxlan""#,
        gone: IPIP_DEVICES,
    });
}

#[scenario(unless = without_wireguard)]
fn change_from_vxlan_to_wireguard_loses_no_packet() {
    change(&Change {
        from: VXLAN,
        to: WIREGUARD,
        published: r#""wireguard""#,
        gone: VXLAN_DEVICES,
    });
}

#[scenario(unless = without_wireguard)]
fn change_from_wireguard_to_vxlan_loses_no_packet() {
    change(&Change {
        from: WIREGUARD,
        to: VXLAN,
        published: r#""vxlan""#,
        gone: WIREGUARD_DEVICES,
    });
}

#[scenario]
fn change_of_the_vni_loses_no_packet() {
    change(&Change {
        from: VXLAN,
        to: r#"{"Type":"vxlan","VNI":7}"#,
        published: r#""VNI":7"#,
        gone: VXLAN_DEVICES,
    });
}

/// Each change comes while the nodes still have what they made before the one before it.
#[scenario]
fn last_of_several_quick_changes_counts() {
    let mut cluster = Cluster::new(NODES, &net_conf(VXLAN));
    let pods: Vec<_> = (1..=NODES).map(|node| (node, cluster.pod(node))).collect();
    cluster.ping_all(&pods);
    drop(pods);
    for (backend, published) in [
        (HOST_GW, r#""host-gw""#),
        (VXLAN, r#""vxlan""#),
        (UDP, ""),
        (HOST_GW, r#""host-gw""#),
        (UDP, ""),
        (VXLAN, r#""vxlan""#),
    ] {
        cluster
            .host(1)
            .write("/run/net-conf.json", &net_conf(backend));
        wait_for_leases(&cluster, published, NODES);
    }
    for node in 1..=NODES {
        cluster.wait_ready(node);
        eventually("the devices of vxlan alone", GONE, || {
            let links = cluster
                .host(node)
                .sh("ip -o link | grep -o ' flannel[^:]*' | sort | xargs");
            (links == "flannel-v6.1 flannel.1\n").then_some(())
        });
        eventually("the routes of vxlan alone", GONE, || {
            let routes = cluster
                .host(node)
                .sh("ip route show proto 70; ip -6 route show proto 70");
            let over = routes.lines().filter(|line| line.contains(" dev flannel"));
            (over.count() == 2 * (NODES - 1) && routes.lines().count() == 2 * (NODES - 1))
                .then_some(())
        });
    }
    cluster.eventually_ping_all();
}
