//! The network configuration: what is refused, and what remains of an earlier one.

use super::cluster::{Cluster, V4};
use std::process::Command;
use tests::{Host, binaries::program, scenario};

/// Restarts every daemon under this configuration.
fn restart_under(cluster: &mut Cluster, nodes: usize, net_conf: &str) {
    for node in 1..=nodes {
        cluster.stop(node);
    }
    write(cluster, net_conf);
    for node in 1..=nodes {
        cluster.start(node, &[]);
    }
    for node in 1..=nodes {
        cluster.wait_ready(node);
    }
}

fn write(cluster: &Cluster, net_conf: &str) {
    cluster
        .host(1)
        .sh(&format!("echo '{net_conf}' > /run/net-conf.json"));
}

fn with_backend(backend: &str) -> String {
    V4.replace(r#"{"Type":"vxlan"}"#, backend)
}

/// Runs flanneld until it ends by itself; its exit code and what it says.
fn refused(host: &Host, net_conf: &str) -> (Option<i32>, String) {
    host.sh(&format!("echo '{net_conf}' > /run/refused.json"));
    let mut command = Command::new(program("flanneld"));
    command.args([
        "-listen=127.0.0.1:8888",
        "-net-config-path=/run/refused.json",
    ]);
    let output = host.run(|| command.output().expect("flanneld"));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text)
}

/// Nothing is made before the refusal.
#[scenario]
fn bad_configuration_is_refused_by_the_name_of_its_key() {
    let cluster = Cluster::idle(1, V4);
    let host = cluster.host(1);
    for (net_conf, text) in [
        (
            with_backend(r#"{"Type":"vxlan","VNI":16777215}"#),
            "Backend.VNI 16777215 is too large: the device\'s name flannel.16777215",
        ),
        (
            r#"{"Network":"10.244.0.0/16","SubnetMin":"10.244.9.0","SubnetMax":"10.244.5.0","Backend":{"Type":"vxlan"}}"#.to_owned(),
            "SubnetMin 10.244.9.0 is above SubnetMax 10.244.5.0",
        ),
        (
            V4.replace("10.244.0.0/16", "172.31.0.0/16"),
            "Network 172.31.0.0/16 contains 172.31.0.1",
        ),
        (
            V4.replace("10.244.0.0/16", "127.0.0.0/8"),
            "Network 127.0.0.0/8 has loopback addresses",
        ),
        (
            V4.replace("10.244.0.0/16", "224.0.0.0/8"),
            "Network 224.0.0.0/8 has multicast addresses",
        ),
        (
            V4.replace("10.244.0.0/16", "169.254.0.0/16"),
            "Network 169.254.0.0/16 has link-local addresses",
        ),
        (
            V4.replace(r#""10.244.0.0/16""#, "7"),
            "into field Network",
        ),
        (
            with_backend(r#"{"Type":"vxlan","Port":70000}"#),
            "into field Port",
        ),
    ] {
        let (code, log) = refused(host, &net_conf);
        assert_eq!(code, Some(1), "{net_conf}: {log}");
        assert!(log.contains(text), "{net_conf}: expected {text}:\n{log}");
    }
    let links = host.sh("ip -o link");
    assert!(!links.contains("flannel"), "{links}");
}

/// Packets from the host to a remote pod have the address of the present network.
#[scenario]
fn network_that_changes_and_returns_leaves_no_address() {
    let mut cluster = Cluster::new(2, V4);
    let other = V4.replace("10.244.0.0/16", "10.245.0.0/16");
    for (net_conf, network) in [(other.as_str(), "10.245."), (V4, "10.244.")] {
        restart_under(&mut cluster, 2, net_conf);
        for node in [1, 2] {
            let addresses = cluster.host(node).sh("ip -o -4 addr show flannel.1");
            let expected = cluster.subnet(node).replace("/24", "/32");
            assert!(
                expected.starts_with(network) && addresses.contains(&expected),
                "{addresses}"
            );
            assert_eq!(addresses.lines().count(), 1, "node {node}: {addresses}");
            let routes = cluster.host(node).sh("ip route");
            let left = if network == "10.244." {
                "10.245."
            } else {
                "10.244."
            };
            assert!(!routes.contains(left), "node {node}: {routes}");
            let rules = cluster.host(node).sh("nft list ruleset");
            assert!(!rules.contains(left), "node {node}: {rules}");
        }
        let pod = cluster.pod(2);
        let ip = cluster.pod_ips(2).remove(0);
        cluster.host(1).sh(&format!("ping -n -c1 -W5 {ip}"));
        drop(pod);
        for node in [1, 2] {
            cluster
                .host(node)
                .try_sh("ip netns del pod; ip link del cni0");
        }
    }
}

/// Also that of Go flannel or of a version that kept no record, by the address of subnet.env.
#[scenario]
fn changed_vni_leaves_no_device() {
    let mut cluster = Cluster::new(2, V4);
    restart_under(
        &mut cluster,
        2,
        &with_backend(r#"{"Type":"vxlan","VNI":7}"#),
    );
    for node in [1, 2] {
        assert_eq!(vxlan_devices(cluster.host(node)), ["flannel.7"]);
    }
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
    drop(pods);
    for node in [1, 2] {
        cluster.stop(node);
        cluster.host(node).sh("rm /var/lib/flannel/node.json");
        cluster.host(node).sh(
            "ip link add flannel.9 type vxlan id 9 local 172.31.0.99 dev eth0 dstport 8472 nolearning",
        );
        cluster.start(node, &[]);
    }
    write(&cluster, V4);
    restart_under(&mut cluster, 2, V4);
    for node in [1, 2] {
        assert_eq!(
            vxlan_devices(cluster.host(node)),
            ["flannel.1", "flannel.9"],
            "that of another daemon stays"
        );
    }
}

fn vxlan_devices(host: &Host) -> Vec<String> {
    let links = host.sh("ip -o link show type vxlan");
    let name = |line: &str| line.split(": ").nth(1).map(str::to_owned);
    let mut names: Vec<_> = links.lines().filter_map(name).collect();
    names.sort();
    names
}

/// Nodes that ran with the key and nodes that are new have the same port.
#[scenario]
fn removed_port_is_the_usual_one_again() {
    let mut cluster = Cluster::new(2, &with_backend(r#"{"Type":"vxlan","Port":4789}"#));
    for node in [1, 2] {
        assert!(device(&cluster, node).contains("dstport 4789"));
    }
    restart_under(&mut cluster, 2, V4);
    for node in [1, 2] {
        let device = device(&cluster, node);
        assert!(device.contains("dstport 8472"), "node {node}: {device}");
    }
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
}

fn device(cluster: &Cluster, node: usize) -> String {
    cluster.host(node).sh("ip -d link show flannel.1")
}
