//! Nodes with one etcd: the default subnet manager, what it waits for, and two networks on a host.

use super::cluster::{Cluster, DUAL, PREFIX, TIMEOUT, V4, V6};
use crate::flanneld::cluster::get;
use std::process::Command;
use tests::{
    Etcd, Underlay, binaries::program, etcd::without_etcd, process::eventually, scenario,
    subnet_env, underlay,
};

#[scenario(unless = without_etcd)]
fn three_nodes_reach_each_other_in_ipv4() {
    nodes_reach_each_other(Cluster::new(3, V4), 3);
}

#[scenario(unless = without_etcd)]
fn two_nodes_reach_each_other_without_ipv4() {
    let underlay = Underlay::new(2);
    for host in &underlay.hosts {
        host.sh("ip -4 addr flush dev eth0");
    }
    let etcd = Etcd::new(&underlay.switch, underlay::GATEWAY6);
    nodes_reach_each_other(Cluster::with(underlay, etcd, V6), 2);
}

#[scenario(unless = without_etcd)]
fn three_nodes_reach_each_other_in_both_families() {
    nodes_reach_each_other(Cluster::new(3, DUAL), 3);
}

/// They do, and every restart, also from nothing but the lease, keeps the subnets.
fn nodes_reach_each_other(mut cluster: Cluster, nodes: usize) {
    cluster.start_all();
    let all: Vec<usize> = (1..=nodes).collect();
    cluster.all_ping(&all);
    assert_eq!(cluster.leases().len(), nodes);
    let before = cluster.leases();
    cluster.stop(1);
    cluster.host(1).sh("rm /run/flannel/subnet.env");
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    assert_eq!(cluster.leases(), before);
    cluster.all_ping(&all);
}

/// Without any option, with nothing at upstream's default endpoints.
#[scenario(unless = without_etcd)]
fn missing_etcd_and_configuration_are_waited_for_and_named() {
    let underlay = Underlay::new(1);
    let host = &underlay.hosts[0];
    let mut command = Command::new(program("flanneld"));
    command.args(["-healthz-ip=127.0.0.1", "-healthz-port=8081"]);
    let mut daemon = host.spawn(command);
    for text in [
        "waiting: for etcd at http://127.0.0.1:4001, http://127.0.0.1:2379",
        "Connection refused",
        "-etcd-endpoints URLS",
        "-kube-subnet-mgr",
        "-listen HOST:PORT",
        "-remote HOST:PORT",
    ] {
        eventually(text, TIMEOUT, || {
            daemon.output().contains(text).then_some(())
        });
    }
    let status = get(host, "/readyz?verbose");
    assert!(
        status.contains("503") && status.contains("waiting: for etcd at"),
        "{status}"
    );
    let etcd = Etcd::new(host, "127.0.0.1");
    for text in [
        "flannel config not found in etcd store. Did you create your config using etcdv3 API?",
        "etcdctl put /coreos.com/network/config",
    ] {
        eventually(text, TIMEOUT, || {
            daemon.output().contains(text).then_some(())
        });
    }
    etcd.put(
        &format!("{PREFIX}/config"),
        r#"{"Network":"10.244.0.0/29"}"#,
    );
    let text = "Network is too small. Minimum useful network prefix is /28";
    eventually(text, TIMEOUT, || {
        daemon.output().contains(text).then_some(())
    });
    assert!(daemon.is_running());
    let lines = daemon.output().lines().count();
    assert!(lines < 40, "{lines} lines");
    etcd.put(&format!("{PREFIX}/config"), V4);
    eventually("ready", TIMEOUT, || {
        get(host, "/readyz")
            .contains("flanneld is ready")
            .then_some(())
    });
    assert!(subnet_env::value(host, "FLANNEL_SUBNET").is_some());
}

#[scenario(unless = without_etcd)]
fn configuration_that_changes_is_reported() {
    let mut cluster = Cluster::new(1, V4);
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    let config = format!("{PREFIX}/config");
    cluster.etcd.put(&config, &V4.replace("10.244", "10.245"));
    cluster.eventually_logs(1, "changed to {\"Network\":\"10.245.0.0/16\"");
    cluster.eventually_logs(1, "a restart of flanneld applies the new one");
    cluster.etcd.put(&config, &format!(" {V4}"));
    cluster.eventually_logs(1, "is again the one that this node runs with");
    cluster.etcd.delete(&config);
    cluster.eventually_logs(1, "was deleted");
    assert!(cluster.daemon(1).is_running());
}

/// Two daemons on each host, with prefixes and devices of their own.
#[scenario(unless = without_etcd)]
fn two_networks_share_the_hosts() {
    let underlay = Underlay::new(2);
    let etcd = Etcd::new(&underlay.switch, underlay::GATEWAY);
    let networks = [("blue", 10, 1, 8081), ("green", 20, 2, 8082)];
    for (name, net, vni, _) in networks {
        let config = format!(
            r#"{{"Network":"10.{net}.0.0/16","EnableNFTables":true,"Backend":{{"Type":"vxlan","VNI":{vni}}}}}"#
        );
        etcd.put(&format!("/{name}/config"), &config);
    }
    let mut daemons = Vec::new();
    for host in &underlay.hosts {
        for (name, _, _, port) in networks {
            let mut command = Command::new(program("flanneld"));
            command.args([
                format!("-etcd-endpoints={}", etcd.endpoints()),
                format!("-etcd-prefix=/{name}"),
                format!("-subnet-file=/run/flannel/{name}.env"),
                format!("-state-file=/var/lib/flannel/{name}.json"),
                format!("-healthz-port={port}"),
            ]);
            daemons.push(host.spawn(command));
        }
    }
    let subnet = |host: usize, name: &str| {
        eventually("subnet.env", TIMEOUT, || {
            let env = underlay.hosts[host].try_sh(&format!("cat /run/flannel/{name}.env"));
            let env = String::from_utf8_lossy(&env.stdout).into_owned();
            let line = env
                .lines()
                .find_map(|line| line.strip_prefix("FLANNEL_SUBNET="))?;
            Some(line.replace(".1/24", ".0/24"))
        })
    };
    for (name, _, vni, _) in networks {
        for (host, other) in [(0, 1), (1, 0)] {
            let route = format!("{} via", subnet(other, name));
            eventually(&route, TIMEOUT, || {
                let routes = underlay.hosts[host].sh("ip route");
                let routes = routes.lines().filter(|line| line.contains(&route));
                let device = format!("dev flannel.{vni} ");
                routes
                    .into_iter()
                    .any(|line| line.contains(&device))
                    .then_some(())
            });
        }
        assert_eq!(etcd.keys(&format!("/{name}/subnets/")).len(), 2);
    }
    for daemon in &mut daemons {
        assert!(daemon.is_running(), "{}", daemon.output());
    }
}
