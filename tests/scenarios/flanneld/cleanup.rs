//! `flanneld cleanup`: what it removes, and what it leaves with a reason.

use super::cluster::{Cluster, DUAL, V4};
use std::process::Command;
use tests::{Host, binaries::program, scenario};

fn command() -> String {
    format!("{} cleanup -all", program("flanneld").display())
}

/// A second run has nothing to do.
#[scenario]
fn cleanup_removes_everything_of_ours() {
    let mut cluster = Cluster::new(2, DUAL);
    let host = cluster.host(1);
    host.sh("ip route add 192.168.77.0/24 via 172.31.0.254 && nft add table ip mine");
    cluster.stop(1);
    let command = command();
    let host = cluster.host(1);
    let report = host.sh(&command);
    for line in [
        "removed device flannel.1",
        "removed device flannel-v6.1",
        "removed nftables table ip flannel-ipv4",
        "removed nftables table ip6 flannel-ipv6",
        "removed /run/flannel/subnet.env",
        "removed /var/lib/flannel/node.json",
        "left /var/lib/flannel/leases.redb",
    ] {
        assert!(report.contains(line), "{line} in\n{report}");
    }
    assert_eq!(
        host.sh("ip -o link | cut -d: -f2 | cut -d@ -f1 | xargs"),
        "lo eth0\n"
    );
    assert_eq!(host.sh("nft list ruleset").trim(), "table ip mine {\n}");
    assert_eq!(host.sh("ls /run/flannel"), "");
    assert!(host.sh("ip route").contains("192.168.77.0/24"));
    let again = host.sh(&command);
    assert!(!again.contains("removed"), "{again}");
}

/// It asks on a terminal, refuses while the daemon runs, and keeps the MAC for the node's return.
#[scenario]
fn cleanup_is_not_done_by_mistake() {
    let mut cluster = Cluster::new(2, V4);
    let pods: Vec<_> = [1, 2].map(|node| (node, cluster.pod(node))).into();
    let command = format!("{} cleanup", program("flanneld").display());
    for flags in ["", " -yes -all"] {
        let output = cluster.host(2).try_sh(&format!("{command}{flags} 2>&1"));
        let says = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            !output.status.success()
                && says.starts_with("flanneld (process ")
                && says.contains(" runs and manages /run/flannel/subnet.env: stop it first"),
            "{says}"
        );
    }
    cluster.ping_all(&pods);
    drop(pods);
    let mac = cluster.mac(2, "flannel.1");
    cluster.stop(2);
    let host = cluster.host(2);
    // script(1) runs the command on a terminal
    let on_terminal = |answer: &str, flags: &str| {
        let run = format!("script -qec '{command}{flags}' /dev/null");
        let output = host.try_sh(&format!("echo {answer} | {run}"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for answer in ["n", "''", "maybe"] {
        let says = on_terminal(answer, "");
        assert!(
            says.contains("Go on? [y/N]") && says.contains("nothing was removed"),
            "{says}"
        );
    }
    assert_eq!(cluster.mac(2, "flannel.1"), mac);
    let says = on_terminal("y", "");
    assert!(
        says.contains("removed device flannel.1")
            && says.contains("left /var/lib/flannel/node.json: this node's MAC addresses"),
        "{says}"
    );
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    assert_eq!(cluster.mac(2, "flannel.1"), mac);
    cluster.stop(2);
    let host = cluster.host(2);
    let says = host.sh(&format!("script -qec '{command} -yes -all' /dev/null"));
    assert!(
        !says.contains("Go on?") && says.contains("removed /var/lib/flannel/node.json"),
        "{says}"
    );
}

/// One without a device that would show it, beside the files of another.
#[scenario]
fn cleanup_leaves_the_routes_and_rules_of_a_second_daemon() {
    let host_gw = V4.replace("vxlan", "host-gw");
    let mut cluster = Cluster::idle(2, &host_gw);
    let files = [
        "-subnet-file=/run/second/subnet.env",
        "-state-file=/run/second/node.json",
        "-ip-masq",
    ];
    for node in [1, 2] {
        cluster.start(node, &files);
    }
    for node in [1, 2] {
        cluster.wait_ready(node);
    }
    super::cluster::eventually_shows(&cluster, 2, "ip route show proto 70", "10.244.");
    let host = cluster.host(2);
    let mut monitor = Command::new("sh");
    monitor.args(["-c", "exec ip monitor route > /run/routes"]);
    let monitor = host.spawn(monitor);
    let shown = || host.sh("ip route show proto 70; nft -a list ruleset");
    let before = shown();
    let output = host.try_sh(&format!("{} 2>&1", command()));
    let says = String::from_utf8_lossy(&output.stdout).into_owned();
    let refusal = "runs and manages the packet-filter rules flannel-ipv4: stop it first";
    assert!(!output.status.success() && says.contains(refusal), "{says}");
    assert_eq!(shown(), before);
    drop(monitor);
    assert_eq!(host.sh("cat /run/routes"), "");
}

#[scenario]
fn cleanup_keeps_what_is_used_or_not_ours() {
    let mut cluster = Cluster::new(1, V4);
    cluster.pod(1);
    let command = command();
    cluster.stop(1);
    let host = cluster.host(1);
    let report = host.sh(&command);
    assert!(
        report.contains("left bridge cni0: 1 interfaces are still attached"),
        "{report}"
    );
    assert!(report.contains("left /run/flannel/subnet.env"), "{report}");
    host.sh("ip link del veth0 && ip link add flannel.3 type vxlan id 4 dstport 4790 dev eth0");
    let report = host.sh(&command);
    assert!(
        report.contains("removed bridge cni0")
            && report.contains("removed /run/flannel/subnet.env"),
        "{report}"
    );
    host.sh("ip link show flannel.3 && ip link add cni0 type bridge");
    let report = host.sh(&command);
    assert!(
        report.contains("left bridge cni0: it has no address of the subnet in subnet.env"),
        "{report}"
    );
}

#[scenario]
fn cleanup_removes_plugin_tables_that_no_pod_needs() {
    let host = Host::new("node");
    let command = command();
    host.sh("nft add table ip cni_hostport && nft add map ip cni_hostport hostports \
        '{ type inet_proto . inet_service : ipv4_addr . inet_service; }' \
        && nft add element ip cni_hostport hostports '{ tcp . 80 : 10.0.0.2 . 80 }' \
        && nft add table inet cni_plugins_masquerade && nft add chain inet cni_plugins_masquerade masq_checks \
        && nft add rule inet cni_plugins_masquerade masq_checks ip saddr 10.0.0.2 masquerade comment pod");
    let report = host.sh(&command);
    for table in ["cni_hostport", "cni_plugins_masquerade"] {
        let left = format!("left nftables table {table}: 1 rules of pods are still in it");
        assert!(report.contains(&left), "{report}");
    }
    host.sh("nft delete element ip cni_hostport hostports '{ tcp . 80 }' && nft flush table inet cni_plugins_masquerade");
    host.sh(&command);
    assert_eq!(host.sh("nft list ruleset"), "");
}

#[scenario]
fn cleanup_removes_portmap_chains_that_no_pod_needs() {
    assert_unused_chains_are_removed("", "true");
}

/// As in a container, whose image has no iptables.
#[scenario]
fn cleanup_removes_portmap_chains_without_iptables() {
    assert_unused_chains_are_removed(
        "mount -t tmpfs tmpfs /usr/sbin && ",
        "/usr/bin/umount /usr/sbin",
    );
}

/// `before` and `after` surround the command.
#[track_caller]
fn assert_unused_chains_are_removed(before: &str, after: &str) {
    let host = Host::new("node");
    let command = format!("{before}{{ {}; code=$?; {after}; exit $code; }}", command());
    host.sh("iptables -t nat -N CNI-HOSTPORT-DNAT && iptables -t nat -N CNI-HOSTPORT-MASQ \
        && iptables -t nat -N OTHER && iptables -t nat -A OTHER -j RETURN && iptables -t nat -A PREROUTING -j OTHER \
        && iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT \
        && iptables -t nat -I POSTROUTING -m comment --comment 'CNI portfwd requiring masquerade' -j CNI-HOSTPORT-MASQ \
        && iptables -t nat -A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE \
        && iptables -t nat -A CNI-HOSTPORT-DNAT -p tcp --dport 80 -j ACCEPT");
    let report = host.sh(&command);
    assert!(
        report.contains("left portmap's iptables chains: 1 pods still have host ports"),
        "{report}"
    );
    host.sh("iptables -t nat -F CNI-HOSTPORT-DNAT");
    let report = host.sh(&command);
    assert!(
        report.contains("removed portmap's iptables chains"),
        "{report}"
    );
    let rules = host.sh("iptables-save -t nat | grep -v '^#'");
    assert!(!rules.contains("CNI"), "{rules}");
    assert!(
        rules.contains("-A PREROUTING -j OTHER\n-A OTHER -j RETURN"),
        "{rules}"
    );
}
