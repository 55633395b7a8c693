//! The backend wireguard in user space: forced here, so that the scenarios are the same on every
//! kernel. Two of them let flanneld choose.

use super::{
    cluster::{Cluster, eventually_shows},
    data_path::{self, cleanup_ends_it, process, socket},
};
use std::time::Duration;
use tests::{kernel::without_wireguard, scenario, transfer};

const DEVICE: &str = "flannel-wg";
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
    cluster.eventually_ping_all();
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
    let pid = process(host, DEVICE);
    let shown = host.sh(&format!("cat /proc/{pid}/environ /proc/{pid}/cmdline"));
    let mode = host.sh(&format!("stat -c %a {}", socket(DEVICE)));
    assert_eq!(mode.trim(), "600");
    let log = cluster.stop(1);
    assert!(
        log.contains("WireGuard runs in user space: Backend.Userspace is true"),
        "{log}"
    );
    for text in [&shown, &log] {
        assert!(!text.contains(&secret[..16]), "{text}");
    }
    cleanup_ends_it(cluster.host(1), DEVICE, pid);
}

/// The new process begins handshakes by itself.
#[scenario]
fn user_space_wireguard_outlives_the_daemon_and_comes_back() {
    data_path::outlives_the_daemon(&forced(), DEVICE);
}

#[scenario]
fn user_space_wireguard_device_that_is_renamed_works_again() {
    data_path::renamed_device_works_again(&forced(), DEVICE);
}

#[scenario]
fn user_space_wireguard_replaces_a_process_that_hangs() {
    data_path::is_replaced_when_it_hangs(&forced(), DEVICE);
}

#[scenario]
fn user_space_wireguard_process_is_kept_in_another_container() {
    data_path::is_kept(&forced(), DEVICE);
}

#[scenario]
fn user_space_wireguard_device_is_back_at_once() {
    data_path::device_is_back_at_once(&forced(), DEVICE);
}

/// A node whose key is another one is reached again: its peers take the new key from its lease.
#[scenario]
fn user_space_wireguard_follows_the_key_of_a_peer() {
    let mut cluster = Cluster::new(2, &forced());
    cluster.pod(1);
    cluster.pod(2);
    cluster.eventually_ping_all();
    cluster.stop(2);
    cluster
        .host(2)
        .sh("rm /run/flannel/wgkey /var/lib/flannel/wgkey");
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    cluster.eventually_ping_all();
}

/// Where the kernel has WireGuard, a node changes from user space to it and keeps its key.
#[scenario(unless = without_wireguard)]
fn user_space_wireguard_and_the_kernels_take_over_from_each_other() {
    let mut cluster = Cluster::new(2, &forced());
    cluster.pod(1);
    cluster.pod(2);
    cluster.eventually_ping_all();
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
        cluster.eventually_ping_all();
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
    for node in 1..=3 {
        cluster.pod(node);
    }
    cluster.eventually_ping_all();
    let log = cluster.stop(1);
    for text in [
        "WireGuard runs in user space: this kernel has no WireGuard",
        "WireGuard in user space (this kernel has no WireGuard)",
    ] {
        assert!(log.contains(text), "{log}");
    }
}
