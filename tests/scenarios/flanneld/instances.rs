//! Two daemons on one host.

use super::cluster::{Cluster, TIMEOUT, V4, delete, eventually_shows};
use std::{process::Command, time::Duration};
use tests::{Process, binaries::program, process::eventually, scenario};

/// A second daemon on the first host, which would keep leases of its own.
fn second(cluster: &Cluster, net_conf: &str, more: &[&str]) -> Process {
    let host = cluster.host(1);
    host.sh(&format!("echo '{net_conf}' > /run/second.json"));
    let mut command = Command::new(program("flanneld"));
    command.args([
        "-listen=127.0.0.1:9999",
        "-store=/run/second/leases.redb",
        "-net-config-path=/run/second.json",
    ]);
    command.args(more);
    host.spawn(command)
}

const OTHER_FILES: [&str; 2] = [
    "-subnet-file=/run/second/subnet.env",
    "-state-file=/run/second/node.json",
];

#[scenario]
fn second_daemon_for_the_same_device_or_file_says_so_and_ends() {
    let mut cluster = Cluster::new(2, V4);
    let pods: Vec<_> = [1, 2].map(|node| (node, cluster.pod(node))).into();
    let same_vni =
        r#"{"Network":"10.245.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;
    let other_vni =
        r#"{"Network":"10.245.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan","VNI":7}}"#;
    let before = cluster
        .host(1)
        .sh("ip -br -4 addr; ip -d link show flannel.1; ip route; cat /run/flannel/subnet.env");
    let state = "-state-file=/run/second/node.json";
    let same_network =
        r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan","VNI":7}}"#;
    for (net_conf, more, resource, remedy) in [
        (
            same_network,
            &OTHER_FILES[..],
            "the network 10.244.0.0/16",
            "another network",
        ),
        (
            same_vni,
            &OTHER_FILES[..],
            "flannel.1",
            "a network with another VNI",
        ),
        (
            other_vni,
            &[state],
            "/run/flannel/subnet.env",
            "another file (-subnet-file)",
        ),
        (
            other_vni,
            &OTHER_FILES[..1],
            "/var/lib/flannel/node.json",
            "another file (-state-file)",
        ),
    ] {
        let mut second = second(&cluster, net_conf, more);
        let status = second.wait(TIMEOUT);
        let log = second.output();
        assert_eq!(status.code(), Some(1), "{log}");
        let says = format!("manages {resource}: stop it, or give this one {remedy}");
        assert!(
            log.contains("another flanneld (process ") && log.contains(&says),
            "{log}"
        );
    }
    let after = cluster
        .host(1)
        .sh("ip -br -4 addr; ip -d link show flannel.1; ip route; cat /run/flannel/subnet.env");
    assert_eq!(after, before);
    cluster.ping_all(&pods);
    // another network, device and files beside the first, as with Go flanneld
    let mut second = second(&cluster, other_vni, &OTHER_FILES);
    eventually("the second network stands", TIMEOUT, || {
        let host = cluster.host(1);
        let stands = host.try_sh("ip link show flannel.7 && grep 10.245. /run/second/subnet.env");
        stands.status.success().then_some(())
    });
    cluster.ping_all(&pods);
    // each has rules of its own
    for (table, network) in [
        ("flannel-ipv4", "10.244.0.0/16"),
        ("flannel-ipv4-flannel.7", "10.245.0.0/16"),
    ] {
        let rules = cluster.host(1).sh(&format!("nft list table ip {table}"));
        assert!(rules.contains(network), "{rules}");
    }
    // its configuration changes to the first one's device
    cluster
        .host(1)
        .sh(&format!("echo '{same_vni}' > /run/second.json"));
    eventually("the second keeps its device and says so", TIMEOUT, || {
        let log = second.output();
        let keeps = "this node keeps the one that it has: another flanneld (process ";
        (log.contains(keeps) && log.contains("manages flannel.1: ")).then_some(())
    });
    assert!(second.is_running());
    cluster.host(1).sh("ip link show flannel.7");
    cluster.ping_all(&pods);
    drop(pods);
    // the names are free again after the worst end
    cluster.kill(1);
    cluster.start(1, &[]);
    cluster.wait_ready(1);
}

/// The rules of a second daemon are called by its device: with another one they have another name.
#[scenario]
fn second_daemon_leaves_no_rule_under_the_name_of_an_earlier_device() {
    let cluster = Cluster::new(2, V4);
    let pods: Vec<_> = [1, 2].map(|node| (node, cluster.pod(node))).into();
    let host = cluster.host(1);
    let net_conf = |backend: &str, nftables: bool| {
        format!(r#"{{"Network":"10.245.0.0/16","EnableNFTables":{nftables},"Backend":{backend}}}"#)
    };
    let (vni_7, host_gw) = (r#"{"Type":"vxlan","VNI":7}"#, r#"{"Type":"host-gw"}"#);
    let more: Vec<_> = OTHER_FILES.iter().copied().chain(["-ip-masq"]).collect();
    let mut second = second(&cluster, &net_conf(vni_7, true), &more);
    let upstream = "table ip flannel-ipv4 {";
    for (backend, nftables, present, others) in [
        (
            vni_7,
            true,
            "table ip flannel-ipv4-flannel.7",
            ["flannel-ipv4-flannel ", "FLANNEL-MASQ"],
        ),
        (
            host_gw,
            true,
            "table ip flannel-ipv4-flannel ",
            ["flannel.7", "FLANNEL-MASQ"],
        ),
        (
            vni_7,
            false,
            "chain FLANNEL-MASQ-flannel.7",
            ["flannel-ipv4-", "FLANNEL-MASQ-flannel "],
        ),
        (
            host_gw,
            false,
            "chain FLANNEL-MASQ-flannel ",
            ["flannel-ipv4-", "flannel.7"],
        ),
    ] {
        host.write("/run/second.json", &net_conf(backend, nftables));
        eventually(&format!("{present} alone"), TIMEOUT, || {
            let rules = host.sh("nft list ruleset");
            let has = |text: &str| rules.contains(text);
            (has(present) && has(upstream) && !others.into_iter().any(has)).then_some(())
        });
    }
    assert!(second.is_running(), "{}", second.output());
    cluster.ping_all(&pods);
}

/// A device that another daemon manages now is not an earlier one of this daemon.
#[scenario]
fn daemon_leaves_a_device_to_the_one_that_has_it_now() {
    let mut cluster = Cluster::new(2, V4);
    cluster.stop(1);
    let vni = |network: u8, vni: u8| {
        format!(
            r#"{{"Network":"10.{network}.0.0/16","EnableNFTables":true,"Backend":{{"Type":"vxlan","VNI":{vni}}}}}"#
        )
    };
    let mut second = second(&cluster, &vni(245, 1), &OTHER_FILES);
    let host = cluster.host(1);
    eventually("the second has the first one's device", TIMEOUT, || {
        let shown = host.sh("ip -4 -o addr show flannel.1");
        assert!(second.is_running(), "{}", second.output());
        shown.contains(" 10.245.").then_some(())
    });
    let device = |cluster: &Cluster| cluster.host(1).sh("ip -d -o link show flannel.1");
    let before = device(&cluster);
    host.write("/run/net-conf.json", &vni(244, 7));
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    // the earlier device would go with the first passes
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(device(&cluster), before);
    cluster.host(1).sh("ip link show flannel.7");
    let log = second.output();
    assert!(second.is_running(), "{log}");
    assert_eq!(log.matches("created device flannel.1").count(), 0, "{log}");
}

/// No subnet is free, so the daemon has its tunnel and no lease.
#[scenario]
fn tunnel_of_a_daemon_without_a_lease_goes_with_its_backend() {
    let net_conf = |more: &str, backend: &str| {
        format!(
            r#"{{"Network":"10.244.0.0/16",{more}"EnableNFTables":true,"Backend":{{"Type":"{backend}"}}}}"#
        )
    };
    let mut cluster = Cluster::new(2, &net_conf("", "host-gw"));
    cluster.stop(2);
    let [first, second] = [1, 2].map(|node| cluster.subnet(node));
    let path = format!("/v1/_/leases/{}", second.replace('/', "-"));
    delete(cluster.host(1), "172.31.0.1:8888", &path);
    let only = first.trim_end_matches("/24");
    let only = format!(r#""SubnetMin":"{only}","SubnetMax":"{only}","#);
    let change = |cluster: &Cluster, net_conf: &str, backend: &str| {
        cluster.host(1).write("/run/net-conf.json", net_conf);
        eventually("node 1 has the backend", TIMEOUT, || {
            let leases = cluster
                .host(1)
                .sh("curl -s http://172.31.0.1:8888/v1/_/leases");
            leases.contains(&format!(r#""{backend}""#)).then_some(())
        });
    };
    change(&cluster, &net_conf(&only, "vxlan"), "vxlan");
    cluster.start(2, &[]);
    eventually_shows(&cluster, 2, "ip -o link", " flannel.1:");
    cluster.kill(2);
    change(&cluster, &net_conf("", "host-gw"), "host-gw");
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    eventually("the tunnel is gone", TIMEOUT, || {
        let links = cluster.host(2).sh("ip -o link");
        (!links.contains("flannel")).then_some(())
    });
}

/// The kernel would divide the datagrams of a port among two processes.
#[scenario]
fn second_daemon_takes_no_udp_port_of_the_first() {
    let cluster = Cluster::new(
        2,
        r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"wireguard","Userspace":true}}"#,
    );
    let pods: Vec<_> = [1, 2].map(|node| (node, cluster.pod(node))).into();
    cluster.eventually_ping_all();
    let udp = |port: u16| {
        format!(
            r#"{{"Network":"10.245.0.0/16","EnableNFTables":true,"Backend":{{"Type":"udp","Port":{port}}}}}"#
        )
    };
    let second = second(&cluster, &udp(51820), &OTHER_FILES);
    let fault = "the data path: bind UDP port 51820 of IPv4: Address already in use (os error 98); \
                 ss -lnup 'sport = 51820' names the process";
    eventually("the second says who is in its way", TIMEOUT, || {
        second.output().contains(fault).then_some(())
    });
    cluster.ping_all(&pods);
    let host = cluster.host(1);
    host.write("/run/second.json", &udp(8285));
    eventually("the second works with another port", TIMEOUT, || {
        let ready = second.output().contains("ready: 10.245.");
        (ready && host.sh("ss -Hlun").contains(":8285 ")).then_some(())
    });
    cluster.ping_all(&pods);
}
