//! A cluster changes its backend while it runs, a node at a time: pods keep their addresses and
//! reach each other all the time, and nothing of the earlier backend remains.

use super::{
    cluster::{Cluster, TIMEOUT, get},
    data_path::{self, is_running},
};
use std::time::Duration;
use tests::{
    Case, Pings, case,
    charon::{EndCharon, without_charon},
    kernel::{without_esp, without_ipip, without_wireguard},
    process::eventually,
    scenario, scenarios, subnet_env,
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

/// A backend of the cluster before or after a change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Kind {
    /// In the names of scenarios.
    name: &'static str,
    /// The value of `Backend`.
    backend: &'static str,
    /// A text in the leases of its nodes.
    published: &'static str,
    devices: &'static [&'static str],
}

pub(super) const VXLAN: Kind = Kind {
    name: "vxlan",
    backend: r#"{"Type":"vxlan"}"#,
    published: r#""vxlan""#,
    devices: &["flannel.1", "flannel-v6.1"],
};
pub(super) const HOST_GW: Kind = Kind {
    name: "host_gw",
    backend: r#"{"Type":"host-gw"}"#,
    published: r#""host-gw""#,
    devices: &[],
};
const UDP: Kind = Kind {
    name: "udp",
    backend: r#"{"Type":"udp"}"#,
    published: "",
    devices: &["flannel0"],
};
const IPIP: Kind = Kind {
    name: "ipip",
    backend: r#"{"Type":"ipip"}"#,
    published: r#""ipip""#,
    devices: &["flannel.ipip", "flannel.ip6ip6"],
};
const WIREGUARD: Kind = Kind {
    name: "wireguard",
    backend: r#"{"Type":"wireguard"}"#,
    published: r#""wireguard""#,
    devices: &["flannel-wg", "flannel-wg-v6"],
};
const USER_SPACE_WIREGUARD: Kind = Kind {
    name: "user_space_wireguard",
    backend: r#"{"Type":"wireguard","Userspace":true}"#,
    ..WIREGUARD
};
pub(super) const IPSEC: Kind = Kind {
    name: "ipsec",
    backend: r#"{"Type":"ipsec","PSK":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}"#,
    published: r#""ipsec""#,
    devices: &[],
};

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

/// The cluster after a change.
pub(super) struct Changed {
    pub(super) cluster: Cluster,
    /// Of the last node's later daemon.
    pub(super) log: String,
    // after the daemons
    _end: EndCharon,
}

/// Nodes that do not run yet, and what ends their charon after them. The kernel looks for a route
/// before it looks for a policy, as on any host with a default route.
fn idle(kind: Kind) -> (EndCharon, Cluster) {
    let cluster = Cluster::idle(NODES, &net_conf(kind.backend));
    for host in &cluster.underlay.hosts {
        host.sh("ip route replace default dev eth0; ip -6 route replace default dev eth0");
    }
    let end = EndCharon::of(&cluster.underlay.hosts);
    (end, cluster)
}

/// Changes the backend while the last node's daemon is away, as at an update of the nodes one by
/// one, and starts that one later.
pub(super) fn change(from: Kind, to: Kind) -> Changed {
    prepared_change(|_| (), from, to)
}

/// The same once something was done to the hosts.
pub(super) fn prepared_change(prepare: fn(&Cluster), from: Kind, to: Kind) -> Changed {
    let (end, mut cluster) = idle(from);
    prepare(&cluster);
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
        for pid in data_paths(&cluster, node) {
            earlier_processes.push((node, pid));
        }
    }
    let pings = Pings::among(&cluster.underlay.hosts);
    cluster.stop(NODES);
    cluster
        .host(1)
        .write("/run/net-conf.json", &net_conf(to.backend));
    wait_for_leases(&cluster, to.published, NODES - 1);
    for node in 1..NODES {
        cluster.wait_ready(node);
    }
    // both kinds are in use
    std::thread::sleep(Duration::from_secs(2));
    cluster.start(NODES, &[]);
    wait_for_leases(&cluster, to.published, NODES);
    cluster.wait_ready(NODES);
    for node in 1..=NODES {
        eventually("nothing of the earlier backend is left", GONE, || {
            let host = cluster.host(node);
            let links = host.sh("ip -o link");
            let has_device = |device: &&str| links.contains(&format!(" {device}:"));
            let mut devices = from
                .devices
                .iter()
                .filter(|device| !to.devices.contains(device));
            let mut processes = earlier_processes.iter();
            let has_process = processes.any(|(on, pid)| *on == node && is_running(host, *pid));
            let left = has_process || devices.any(has_device);
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
    Changed {
        log: cluster.daemon(NODES).output(),
        cluster,
        _end: end,
    }
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

/// A change from each of these to each other one, but for those that `is_left_out` names.
fn changes(kinds: &[Kind], is_left_out: fn([Kind; 2]) -> bool) -> Vec<Case> {
    let pairs = kinds
        .iter()
        .flat_map(|from| kinds.iter().map(|to| [*from, *to]));
    let pairs = pairs.filter(|[from, to]| from != to && !is_left_out([*from, *to]));
    let cases = pairs.map(|[from, to]| {
        let name = format!("change_from_{}_to_{}_loses_no_packet", from.name, to.name);
        case(&name, move || {
            let changed = change(from, to);
            if [VXLAN, IPIP].contains(&to) {
                // others send to the device as soon as they see that this node has it
                let created = format!("created device {}", to.devices[0]);
                precede(&changed.log, &created, "this node has");
            }
        })
    });
    cases.collect()
}

const EVERYWHERE: &[Kind] = &[VXLAN, HOST_GW, UDP, USER_SPACE_WIREGUARD];

#[scenarios]
fn changes_on_every_kernel() -> Vec<Case> {
    changes(EVERYWHERE, |_| false)
}

fn kernel_lacks_a_backend() -> Option<String> {
    let lacking = without_ipip().or_else(without_wireguard);
    lacking.or_else(without_esp).or_else(without_charon)
}

/// `change_of_ipsec` has those between vxlan and ipsec.
#[scenarios(unless = kernel_lacks_a_backend)]
fn changes_of_further_backends() -> Vec<Case> {
    changes(&[VXLAN, HOST_GW, UDP, IPIP, WIREGUARD, IPSEC], |pair| {
        pair.iter().all(|kind| EVERYWHERE.contains(kind))
            || pair.iter().all(|kind| [VXLAN, IPSEC].contains(kind))
    })
}

#[scenario]
fn change_of_the_vni_loses_no_packet() {
    change(
        VXLAN,
        Kind {
            backend: r#"{"Type":"vxlan","VNI":7}"#,
            published: r#""VNI":7"#,
            devices: &["flannel.7", "flannel-v6.7"],
            ..VXLAN
        },
    );
}

/// Each change comes while the nodes still have what they made before the one before it.
#[scenario]
fn last_of_several_quick_changes_counts() {
    let mut cluster = Cluster::new(NODES, &net_conf(VXLAN.backend));
    let pods: Vec<_> = (1..=NODES).map(|node| (node, cluster.pod(node))).collect();
    cluster.ping_all(&pods);
    drop(pods);
    for kind in [HOST_GW, VXLAN, UDP, HOST_GW, UDP, VXLAN] {
        cluster
            .host(1)
            .write("/run/net-conf.json", &net_conf(kind.backend));
        wait_for_leases(&cluster, kind.published, NODES);
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
