//! The backend wireguard in the kernel: tunnels that `wg` shows.

use super::cluster::{Cluster, TIMEOUT, eventually_shows, is_restored_at_once};
use std::time::Duration;
use tests::{Host, kernel::without_wireguard, process::eventually, scenario};

const PSK: &str = "KBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Nnc=";
/// Longer than the time between two looks at the peers.
const LOOK: Duration = Duration::from_secs(15);

/// A dual-stack network with further keys of `Backend`.
fn dual(keys: &str) -> String {
    format!(
        r#"{{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{{"Type":"wireguard"{keys}}}}}"#
    )
}

/// A cluster whose nodes are each other's peers.
fn cluster(nodes: usize, net_conf: &str) -> Cluster {
    let mut cluster = Cluster::idle(nodes, net_conf);
    for node in 1..=nodes {
        cluster.start(node, &[]);
    }
    for node in 1..=nodes {
        cluster.wait_ready(node);
        wait_for_peers(cluster.host(node), nodes - 1);
    }
    cluster
}

/// Waits until each device of a host has that many peers.
#[track_caller]
fn wait_for_peers(host: &Host, count: usize) {
    eventually(&format!("{} has {count} peers", host.name), TIMEOUT, || {
        let devices = host.sh("wg show interfaces");
        let has = |device: &str| {
            let peers = host.sh(&format!("wg show {device} peers"));
            peers.lines().count() == count
        };
        let mut devices = devices.split_whitespace().peekable();
        (devices.peek().is_some() && devices.all(has)).then_some(())
    });
}

#[track_caller]
fn ping_all(cluster: &Cluster, nodes: usize) {
    let pods: Vec<_> = (1..=nodes).map(|node| (node, cluster.pod(node))).collect();
    cluster.ping_all(&pods);
}

/// What `wg show DEVICE` prints of one thing.
fn shown(cluster: &Cluster, node: usize, what: &str) -> String {
    let device = "flannel-wg";
    let host = cluster.host(node);
    host.sh(&format!("wg show {device} {what}"))
        .trim()
        .to_owned()
}

/// Devices, addresses, routes, peers, the key file and what is published.
#[scenario(unless = without_wireguard)]
fn wireguard_separate_tunnels_join_pods_of_both_families() {
    let cluster = cluster(3, &dual(""));
    ping_all(&cluster, 3);
    assert_eq!(cluster.env(1, "FLANNEL_MTU"), "1420");
    let host = cluster.host(1);
    assert_eq!(
        host.sh("ip route show dev flannel-wg").trim(),
        "10.244.0.0/16 proto 70 scope link"
    );
    let routes = host.sh("ip -6 route show dev flannel-wg-v6 proto 70");
    assert!(
        routes.starts_with("fd00:10:244::/48 metric 1024"),
        "{routes}"
    );
    let first = cluster.subnet(1).replace("/24", "/32");
    let addresses = host.sh("ip -o addr show dev flannel-wg");
    assert!(addresses.contains(&format!("inet {first} ")), "{addresses}");
    let first = cluster.subnet6(1).replace("/64", "/128");
    let addresses = host.sh("ip -o addr show dev flannel-wg-v6");
    assert!(addresses.contains(&first), "{addresses}");
    assert!(host.sh("ip link show flannel-wg").contains("mtu 1420"));
    assert_eq!(shown(&cluster, 1, "listen-port"), "51820");
    assert_eq!(host.sh("wg show flannel-wg-v6 listen-port").trim(), "51821");
    let allowed = shown(&cluster, 1, "allowed-ips");
    let endpoints = host.sh("wg show all endpoints");
    for peer in [2, 3] {
        assert!(allowed.contains(&format!("\t{}", cluster.subnet(peer))));
        let endpoint = format!("\t172.31.0.{peer}:51820");
        assert!(endpoints.contains(&endpoint), "{endpoints}");
        let endpoint = format!("\t[fd31::{peer}]:51821");
        assert!(endpoints.contains(&endpoint), "{endpoints}");
    }
    let transfer = host.sh("wg show all transfer");
    assert!(
        !transfer.contains("\t0"),
        "packets are encrypted:\n{transfer}"
    );
    let key = host.sh("cat /run/flannel/wgkey; stat -c %a /run/flannel/wgkey");
    let private = shown(&cluster, 1, "private-key");
    assert_eq!(key.trim(), format!("{private}400"));
    let leases = host.sh("curl -s http://172.31.0.1:8888/v1/_/leases");
    let public = shown(&cluster, 1, "public-key");
    let published = format!(
        r#""BackendType":"wireguard","BackendData":{{"PublicKey":"{public}","Port":51820}},"BackendV6Data":{{"PublicKey":"{public}","Port":51821}}"#
    );
    assert!(leases.contains(&published), "{leases}");
}

#[scenario(unless = without_wireguard)]
fn wireguard_single_tunnel_over_the_better_family_carries_both() {
    single_tunnel("auto", "172.31.0.2:51820");
}

#[scenario(unless = without_wireguard)]
fn wireguard_single_tunnel_over_ipv4_carries_both() {
    single_tunnel("ipv4", "172.31.0.2:51820");
}

#[scenario(unless = without_wireguard)]
fn wireguard_single_tunnel_over_ipv6_carries_both() {
    single_tunnel("ipv6", "[fd31::2]:51820");
}

fn single_tunnel(mode: &str, endpoint: &str) {
    let cluster = cluster(2, &dual(&format!(r#","Mode":"{mode}""#)));
    ping_all(&cluster, 2);
    assert_eq!(
        cluster.host(1).sh("wg show interfaces").trim(),
        "flannel-wg"
    );
    let endpoints = shown(&cluster, 1, "endpoints");
    assert!(endpoints.ends_with(&format!("\t{endpoint}")), "{endpoints}");
    let allowed = shown(&cluster, 1, "allowed-ips");
    let both = [cluster.subnet(2), cluster.subnet6(2)];
    assert!(both.iter().all(|net| allowed.contains(net)), "{allowed}");
    let routes = cluster.host(1).sh("ip route; ip -6 route");
    for network in ["10.244.0.0/16", "fd00:10:244::/48"] {
        let route = format!("{network} dev flannel-wg");
        assert!(routes.contains(&route), "{routes}");
    }
}

/// Upstream's default route over the device is no part of it.
#[scenario(unless = without_wireguard)]
fn wireguard_carries_ipv6_alone() {
    for mode in ["separate", "auto"] {
        let net_conf = format!(
            r#"{{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{{"Type":"wireguard","Mode":"{mode}"}}}}"#
        );
        let cluster = cluster(2, &net_conf);
        ping_all(&cluster, 2);
        let routes = cluster.host(1).sh("ip route");
        assert!(!routes.contains("flannel-wg"), "{mode}:\n{routes}");
    }
}

#[scenario(unless = without_wireguard)]
fn wireguard_carries_ipv4_alone() {
    for mode in ["separate", "auto"] {
        let net_conf = format!(
            r#"{{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{{"Type":"wireguard","Mode":"{mode}"}}}}"#
        );
        let cluster = cluster(2, &net_conf);
        ping_all(&cluster, 2);
        assert_eq!(
            cluster.host(1).sh("wg show interfaces").trim(),
            "flannel-wg"
        );
    }
}

/// The preshared key and the interval reach every peer, and the key no log.
#[scenario(unless = without_wireguard)]
fn wireguard_preshared_key_and_keepalive_reach_each_peer() {
    let keys = format!(r#","PSK":"{PSK}","PersistentKeepaliveInterval":25,"ListenPort":4000"#);
    let mut cluster = cluster(2, &dual(&keys));
    ping_all(&cluster, 2);
    let host = cluster.host(1);
    for (what, value) in [("preshared-keys", PSK), ("persistent-keepalive", "25")] {
        let all = host.sh(&format!("wg show all {what}"));
        let lines: Vec<_> = all.lines().collect();
        assert!(
            lines.len() == 2 && lines.iter().all(|line| line.ends_with(value)),
            "{all}"
        );
    }
    assert_eq!(shown(&cluster, 1, "listen-port"), "4000");
    let private = shown(&cluster, 1, "private-key");
    let log = cluster.stop(1);
    assert!(!log.contains(PSK) && !log.contains(&private), "{log}");
}

/// Both daemons are killed and started again while pings run; the devices and sessions stay.
#[scenario(unless = without_wireguard)]
fn wireguard_restarted_daemons_lose_no_packet() {
    let mut cluster = cluster(2, &dual(""));
    ping_all(&cluster, 2);
    let state = |cluster: &Cluster| {
        let host = cluster.host(1);
        host.sh("wg show all latest-handshakes; ip -o link show type wireguard | cut -d: -f1,2")
    };
    let before = state(&cluster);
    let pings = cluster.ping(1, 2);
    cluster.kill_and_start_each();
    pings.lose_nothing();
    assert_eq!(state(&cluster), before, "devices and sessions stay");
}

/// A deleted device comes back with everything; notifications tell of it.
#[scenario(unless = without_wireguard)]
fn wireguard_device_that_is_deleted_is_back_at_once() {
    let cluster = cluster(2, &dual(""));
    let host = cluster.host(1);
    let shown = || {
        host.try_sh("wg showconf flannel-wg | grep -v ^$; ip route show dev flannel-wg; ip -o addr show dev flannel-wg | sed 's/.*inet/inet/'; ip link show flannel-wg | grep -o 'mtu [0-9]*'")
            .stdout
    };
    let before = shown();
    for change in [
        "ip link del flannel-wg",
        "ip link set flannel-wg down",
        // a kernel before 6.2 renames no device that is up, and flanneld sets it up: one program
        // makes both changes, and is quicker nearly always
        "until printf 'link set flannel-wg down\nlink set flannel-wg name other0\n' | ip -batch -; do :; done",
        "ip link set flannel-wg mtu 1300",
    ] {
        is_restored_at_once(host, change, || shown() == before);
        assert!(!host.sh("ip -o link").contains("other0"));
    }
    ping_all(&cluster, 2);
}

/// The kernel notifies nobody of these changes: they are found at the next look.
#[scenario(unless = without_wireguard)]
fn wireguard_changes_of_peers_and_keys_are_found_at_the_next_look() {
    let cluster = cluster(2, &dual(""));
    ping_all(&cluster, 2);
    let host = cluster.host(1);
    let shown = || host.sh("wg showconf flannel-wg");
    let before = shown();
    let peer = host.sh("wg show flannel-wg peers").trim().to_owned();
    for change in [
        format!("wg set flannel-wg peer '{peer}' remove"),
        format!("wg set flannel-wg peer '{peer}' allowed-ips 10.99.0.0/16 persistent-keepalive 7"),
        "wg set flannel-wg peer $(wg genkey | wg pubkey) allowed-ips 10.98.0.0/16".to_owned(),
        "wg set flannel-wg listen-port 7777".to_owned(),
        "wg genkey > /run/k && wg set flannel-wg private-key /run/k".to_owned(),
    ] {
        host.sh(&change);
        eventually(&format!("restored after `{change}`"), LOOK, || {
            (shown() == before).then_some(())
        });
    }
    eventually("the tunnel works", TIMEOUT, || {
        let ip = &cluster.pod_ips(2)[0];
        let ping = host.try_sh(&format!("ip netns exec pod ping -n -c1 -W1 {ip}"));
        ping.status.success().then_some(())
    });
}

/// A reboot takes the device and /run along.
#[scenario(unless = without_wireguard)]
fn wireguard_key_outlives_a_reboot() {
    let mut cluster = cluster(2, &dual(""));
    let public = shown(&cluster, 2, "public-key");
    cluster.kill(2);
    cluster.host(2).sh(
        "ip link del flannel-wg; ip link del flannel-wg-v6; rm -rf /run/flannel; test -s /var/lib/flannel/wgkey",
    );
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    wait_for_peers(cluster.host(2), 1);
    assert_eq!(shown(&cluster, 2, "public-key"), public);
    let files =
        "cmp /run/flannel/wgkey /var/lib/flannel/wgkey && stat -c %a /var/lib/flannel/wgkey";
    assert_eq!(cluster.host(2).sh(files).trim(), "400");
    ping_all(&cluster, 2);
    // the device alone knows the key
    cluster.stop(2);
    cluster
        .host(2)
        .sh("rm -f /run/flannel/wgkey /var/lib/flannel/wgkey");
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    assert_eq!(shown(&cluster, 2, "public-key"), public);
    // and a key file of Go flannel's takes effect
    cluster.stop(2);
    let go = "umask 077; wg genkey | tr -d '\\n' > /root/k || exit 1; rm -f /run/flannel/wgkey; cp /root/k /run/flannel/wgkey; wg pubkey < /root/k";
    let go = go.replace("/root/k", "/run/k");
    let adopted = cluster.host(2).sh(&go).trim().to_owned();
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    assert_eq!(shown(&cluster, 2, "public-key"), adopted);
}

#[scenario(unless = without_wireguard)]
fn wireguard_changed_key_of_a_node_leaves_one_peer() {
    let mut cluster = cluster(2, &dual(r#","Mode":"ipv4""#));
    ping_all(&cluster, 2);
    let old = shown(&cluster, 2, "public-key");
    cluster.stop(2);
    cluster
        .host(2)
        .sh("ip link del flannel-wg; rm -f /run/flannel/wgkey /var/lib/flannel/wgkey");
    cluster.start(2, &[]);
    cluster.wait_ready(2);
    let new = shown(&cluster, 2, "public-key");
    assert_ne!(old, new);
    eventually("node 1 has the new key alone", TIMEOUT, || {
        (shown(&cluster, 1, "peers") == new).then_some(())
    });
    let allowed = shown(&cluster, 1, "allowed-ips");
    assert!(allowed.contains(&cluster.subnet(2)), "{allowed}");
    let ip = &cluster.pod_ips(2)[0];
    eventually("the tunnel works", TIMEOUT, || {
        let ping = format!("ip netns exec pod ping -n -c1 -W1 {ip}");
        let ping = cluster.host(1).try_sh(&ping);
        ping.status.success().then_some(())
    });
}

/// From two tunnels to one and back: the second device goes and comes.
#[scenario(unless = without_wireguard)]
fn wireguard_mode_changes_while_the_nodes_run() {
    let cluster = cluster(2, &dual(""));
    ping_all(&cluster, 2);
    for (mode, devices) in [
        ("ipv4", "flannel-wg"),
        ("separate", "flannel-wg\tflannel-wg-v6"),
        ("ipv6", "flannel-wg"),
    ] {
        let net_conf = dual(&format!(r#","Mode":"{mode}""#));
        let file = "/run/net-conf.json";
        cluster.host(1).sh(&format!(
            "echo '{net_conf}' > {file}.new && mv {file}.new {file}"
        ));
        for node in [1, 2] {
            let host = cluster.host(node);
            eventually(&format!("node {node} has mode {mode}"), TIMEOUT, || {
                let shown = host.sh("wg show interfaces");
                let mut shown: Vec<_> = shown.split_whitespace().collect();
                shown.sort_unstable();
                (shown.join("\t") == devices).then_some(())
            });
        }
        for ip in cluster.pod_ips(2) {
            eventually(&format!("{ip} answers in mode {mode}"), TIMEOUT, || {
                let ping = format!("ip netns exec pod ping -n -c1 -W1 {ip}");
                let ping = cluster.host(1).try_sh(&ping);
                ping.status.success().then_some(())
            });
        }
    }
}

/// A packet to a subnet that no node has is refused, not sent anywhere.
#[scenario(unless = without_wireguard)]
fn wireguard_packets_to_unknown_subnets_are_refused() {
    let cluster = cluster(2, &dual(""));
    ping_all(&cluster, 2);
    for ip in ["10.244.255.9", "fd00:10:244:ffff::9"] {
        let ping = format!("ip netns exec pod ping -n -c1 -W2 {ip}");
        let output = cluster.host(1).try_sh(&ping);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("nreachable"), "{ip}: {text}");
    }
}

#[scenario(unless = without_wireguard)]
fn wireguard_devices_go_at_cleanup() {
    let mut cluster = cluster(1, &dual(""));
    cluster.stop(1);
    let flanneld = tests::binaries::program("flanneld");
    let host = cluster.host(1);
    host.sh(&format!("{} cleanup -all", flanneld.display()));
    let links = host.sh("ip -o link");
    assert!(!links.contains("flannel-wg"), "{links}");
    let files = host.sh("ls /run/flannel /var/lib/flannel");
    assert!(!files.contains("wgkey"), "{files}");
}

/// A lease that moves to another address takes its peer along, though its session lasts.
#[scenario(unless = without_wireguard)]
fn wireguard_peers_follow_a_new_address() {
    let mut cluster = cluster(2, &dual(""));
    ping_all(&cluster, 2);
    cluster.host(2).sh(
        "ip addr del 172.31.0.2/24 dev eth0 && ip addr add 172.31.0.77/24 dev eth0 && ip route add default via 172.31.0.254",
    );
    eventually_shows(
        &cluster,
        1,
        "wg show flannel-wg endpoints",
        "172.31.0.77:51820",
    );
    cluster.wait_ready(2);
    let ip = &cluster.pod_ips(2)[0];
    eventually("the tunnel works", TIMEOUT, || {
        let ping = format!("ip netns exec pod ping -n -c1 -W1 {ip}");
        let ping = cluster.host(1).try_sh(&ping);
        ping.status.success().then_some(())
    });
}
