//! The backend wireguard in user space: forced here, so that the scenarios are the same on every
//! kernel. Two of them let flanneld choose.

use super::{
    cluster::{Cluster, TIMEOUT, eventually_shows},
    udp::{is_running, lose_at_most, pings},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use std::{thread, time::Duration};
use tests::{
    Host, Pod, binaries::program, kernel::without_wireguard, process::eventually, scenario,
    subnet_env, transfer,
};

const SOCKET: &str = "/run/flannel/data-path-flannel-wg.sock";
const STALLED: Duration = Duration::from_secs(10);

/// Two families, with more keys of `Backend`.
fn dual(keys: &str) -> String {
    format!(
        r#"{{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{{"Type":"wireguard"{keys}}}}}"#
    )
}

fn forced() -> String {
    dual(r#","Userspace":true"#)
}

fn status(host: &Host) -> Option<Value> {
    let program = program("flanneld");
    let show = format!("{} data-path -socket {SOCKET} -status", program.display());
    serde_json::from_slice(&host.try_sh(&show).stdout).ok()
}

#[track_caller]
fn process(host: &Host) -> i32 {
    let status = eventually("the process answers", TIMEOUT, || status(host));
    status["pid"].as_i64().expect("a pid") as i32
}

#[track_caller]
fn ping_both_ways(cluster: &Cluster, pods: &[Pod<'_>; 2]) {
    subnet_env::eventually_pings(&pods[0], cluster.host(2));
    subnet_env::eventually_pings(&pods[1], cluster.host(1));
}

fn write_config(cluster: &Cluster, text: &str) {
    cluster.host(1).write("/run/net-conf.json", text);
}

/// Streams pass; the devices are TUN devices of the names that the kernel's would have; no secret
/// is in an argument, a variable or a log.
#[scenario]
fn user_space_wireguard_connects_pods_in_both_families() {
    let secret = "KBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Nnc=";
    let keys = format!(r#","Userspace":true,"PSK":"{secret}""#);
    let mut cluster = Cluster::new(2, &dual(&keys));
    let pods = [cluster.pod(1), cluster.pod(2)];
    ping_both_ways(&cluster, &pods);
    for target in cluster.pod_ips(2) {
        transfer::tcp(&pods[0], &pods[1], &target, 100 << 20, STALLED).expect("intact");
    }
    let host = cluster.host(1);
    let link = host.sh(
        "ip -d -o link show flannel-wg; ip -d -o link show flannel-wg-v6; \
         ip route show dev flannel-wg; ip -6 route show dev flannel-wg-v6",
    );
    for part in [
        "tun type tun",
        "mtu 1420",
        "10.244.0.0/16",
        "fd00:10:244::/48",
    ] {
        assert!(link.contains(part), "{part}: {link}");
    }
    assert_eq!(cluster.env(1, "FLANNEL_MTU"), "1420");
    let pid = process(host);
    let shown = host.sh(&format!("cat /proc/{pid}/environ /proc/{pid}/cmdline"));
    let mode = host.sh(&format!("stat -c %a {SOCKET}"));
    assert_eq!(mode.trim(), "600");
    let log = cluster.stop(1);
    assert!(
        log.contains("WireGuard runs in user space: Backend.Userspace is true"),
        "{log}"
    );
    for text in [&shown, &log] {
        assert!(!text.contains(&secret[..16]), "{text}");
    }
    let cleanup = format!("{} cleanup -yes", program("flanneld").display());
    cluster.host(1).sh("ip link del cni0");
    cluster.host(1).sh(&cleanup);
    let host = cluster.host(1);
    eventually("the process ends with its device", TIMEOUT, || {
        (!is_running(host, pid)).then_some(())
    });
}

/// A daemon that starts again loses nothing. A process that is killed is back within a second, and
/// so is a device that is deleted: the new process begins handshakes by itself.
#[scenario]
fn user_space_wireguard_outlives_the_daemon_and_comes_back() {
    let mut cluster = Cluster::new(2, &forced());
    let pods = [cluster.pod(1), cluster.pod(2)];
    ping_both_ways(&cluster, &pods);
    drop(pods);
    let before = process(cluster.host(1));
    let running = pings(&cluster, 1, 2, 150);
    for node in [1, 2] {
        thread::sleep(Duration::from_millis(300));
        cluster.kill(node);
        thread::sleep(Duration::from_millis(300));
        cluster.start(node, &[]);
        cluster.wait_ready(node);
    }
    lose_at_most(running, 0);
    assert_eq!(process(cluster.host(1)), before, "the process goes on");
    // 20 ms are between two pings
    let running = pings(&cluster, 1, 2, 150);
    thread::sleep(Duration::from_millis(300));
    kill(Pid::from_raw(before), Signal::SIGKILL).expect("signal");
    lose_at_most(running, 50);
    assert_ne!(process(cluster.host(1)), before);
    let running = pings(&cluster, 1, 2, 150);
    thread::sleep(Duration::from_millis(300));
    cluster.host(1).sh("ip link del flannel-wg");
    lose_at_most(running, 50);
}

/// A node whose key is another one is reached again: its peers take the new key from its lease.
#[scenario]
fn user_space_wireguard_follows_the_key_of_a_peer() {
    let mut cluster = Cluster::new(2, &forced());
    let pods = [cluster.pod(1), cluster.pod(2)];
    ping_both_ways(&cluster, &pods);
    drop(pods);
    cluster.stop(2);
    cluster
        .host(2)
        .sh("rm /run/flannel/wgkey /var/lib/flannel/wgkey");
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    let pod = |node| Pod {
        name: "pod".to_owned(),
        host: cluster.host(node),
    };
    subnet_env::eventually_pings(&pod(1), cluster.host(2));
    subnet_env::eventually_pings(&pod(2), cluster.host(1));
}

/// Where the kernel has WireGuard, a node changes from user space to it and keeps its key.
#[scenario(unless = without_wireguard)]
fn user_space_wireguard_and_the_kernels_take_over_from_each_other() {
    let mut cluster = Cluster::new(2, &forced());
    let pods = [cluster.pod(1), cluster.pod(2)];
    ping_both_ways(&cluster, &pods);
    drop(pods);
    let key = cluster.host(1).sh("cat /run/flannel/wgkey");
    for (config, kind) in [(dual(""), "wireguard"), (forced(), "tun")] {
        write_config(&cluster, &config);
        for node in [1, 2] {
            cluster.stop(node);
            cluster.start(node, &[]);
            cluster.wait_ready(node);
            let show = "ip -d link show flannel-wg";
            eventually_shows(&cluster, node, show, kind);
        }
        let pod = |node| Pod {
            name: "pod".to_owned(),
            host: cluster.host(node),
        };
        subnet_env::eventually_pings(&pod(1), cluster.host(2));
        subnet_env::eventually_pings(&pod(2), cluster.host(1));
        assert_eq!(cluster.host(1).sh("cat /run/flannel/wgkey"), key);
    }
}

/// The reason to skip where the kernel has WireGuard.
fn with_wireguard() -> Option<String> {
    let present = without_wireguard().is_none();
    present.then(|| "the kernel has WireGuard: nothing is missing".to_owned())
}

/// Without the kernel's the same configuration works.
#[scenario(unless = with_wireguard)]
fn user_space_wireguard_is_chosen_where_the_kernel_has_none() {
    let mut cluster = Cluster::idle(3, &dual(r#","Mode":"auto""#));
    for node in 1..=3 {
        cluster.start(node, &[]);
    }
    for node in 1..=3 {
        cluster.wait_ready(node);
    }
    let pods: Vec<_> = (1..=3).map(|node| (node, cluster.pod(node))).collect();
    for (from, pod) in &pods {
        for to in (1..=3).filter(|to| to != from) {
            subnet_env::eventually_pings(pod, cluster.host(to));
        }
    }
    drop(pods);
    let log = cluster.stop(1);
    for text in [
        "WireGuard runs in user space: this kernel has no WireGuard",
        "WireGuard in user space (this kernel has no WireGuard)",
    ] {
        assert!(log.contains(text), "{log}");
    }
}
