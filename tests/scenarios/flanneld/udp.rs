//! The backend udp: packets travel by way of a TUN device and a process that outlives the daemon.

use super::cluster::{Cluster, TIMEOUT};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use std::{process::Command, thread, time::Duration};
use tests::{
    Etcd, GoFlanneld, Host, Pod, Process, Underlay, binaries::program,
    go_flanneld::without_etcd_and_go_flanneld, process::eventually, scenario, subnet_env, transfer,
    underlay,
};

const V4: &str = r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"udp"}}"#;
const DUAL: &str = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{"Type":"udp"}}"#;
const SOCKET: &str = "/run/flannel/data-path-flannel0.sock";
const STALLED: Duration = Duration::from_secs(10);

/// The status of the host's process.
fn status(host: &Host) -> Option<Value> {
    let program = program("flanneld");
    let show = format!("{} data-path -socket {SOCKET} -status", program.display());
    let output = host.try_sh(&show);
    serde_json::from_slice(&output.stdout).ok()
}

#[track_caller]
fn process(host: &Host) -> i32 {
    let status = eventually("the process answers", TIMEOUT, || status(host));
    status["pid"].as_i64().expect("a pid") as i32
}

/// True if the process is there, and no zombie.
pub(super) fn is_running(host: &Host, pid: i32) -> bool {
    let executable = format!("readlink /proc/{pid}/exe");
    host.try_sh(&executable).status.success()
}

fn packets(host: &Host, counter: &str) -> u64 {
    let status = status(host).expect("a status");
    status["packets"][counter].as_u64().expect("a counter")
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("signal");
}

/// Pings, 50 a second, to each address of the other node's pod.
pub(super) fn pings(cluster: &Cluster, from: usize, to: usize, count: u32) -> Vec<Process> {
    let start = |ip: &String| {
        let mut command = Command::new("ip");
        let count = count.to_string();
        command.args([
            "netns", "exec", "pod", "ping", "-n", "-i", "0.02", "-W", "2",
        ]);
        command.args(["-c", &count, ip]);
        cluster.host(from).spawn(command)
    };
    cluster.pod_ips(to).iter().map(start).collect()
}

#[track_caller]
pub(super) fn lose_at_most(pings: Vec<Process>, most: u32) {
    for mut ping in pings {
        ping.wait(Duration::from_secs(30));
        let log = ping.output();
        let summary = log.lines().find(|line| line.contains(" transmitted, "));
        let numbers: Vec<u32> = summary
            .unwrap_or_else(|| panic!("{log}"))
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect();
        assert!(numbers[1] + most >= numbers[0], "{log}");
    }
}

#[track_caller]
fn ping_both_ways(cluster: &Cluster, pods: &[Pod<'_>; 2]) {
    subnet_env::eventually_pings(&pods[0], cluster.host(2));
    subnet_env::eventually_pings(&pods[1], cluster.host(1));
}

/// One device, its process without anything of the daemon, and nothing left after the clean-up.
#[scenario]
fn udp_pods_reach_each_other_in_both_families() {
    let mut cluster = Cluster::new(2, DUAL);
    let pods = [cluster.pod(1), cluster.pod(2)];
    ping_both_ways(&cluster, &pods);
    for (ip, from, to) in [(0, 0, 1), (1, 1, 0)] {
        let target = &cluster.pod_ips(to + 1)[ip];
        transfer::tcp(&pods[from], &pods[to], target, 100 << 20, STALLED).expect("intact");
    }
    let host = cluster.host(1);
    let link = host.sh("ip -d -o link show flannel0; ip -o addr show dev flannel0; ip route show dev flannel0; ip -6 route show dev flannel0");
    for part in [
        "mtu 1452",
        "multi_queue",
        "persist on",
        "scope global flannel0",
        "10.244.0.0/16 proto 70 scope link",
        "fd00:10:244::/48 proto 70",
    ] {
        assert!(link.contains(part), "{part}: {link}");
    }
    assert_eq!(cluster.env(1, "FLANNEL_MTU"), "1452");
    let pid = process(host);
    let open = host.sh(&format!(
        "ls -l /proc/{pid}/fd; cat /proc/{pid}/environ; tr '\\0' ' ' < /proc/{pid}/cmdline"
    ));
    let lines = open.lines().filter(|line| {
        line.contains("/dev/net/tun") || line.contains("socket:") || line.contains("/dev/null")
    });
    let descriptors = open.lines().filter(|line| line.contains(" -> ")).count();
    assert_eq!(lines.count(), descriptors, "{open}");
    assert!(open.contains("flanneld data-path -socket"), "{open}");
    let listening = host.sh("ss -Hlntup");
    let own: Vec<_> = listening
        .lines()
        .filter(|line| line.contains(&format!("pid={pid},")))
        .collect();
    assert!(!own.is_empty(), "{listening}");
    assert!(
        own.iter()
            .all(|line| line.starts_with("udp ") && line.contains(":8285")),
        "{own:?}"
    );
    // traffic came in runs, not packet by packet
    assert_eq!(packets(host, "malformed") + packets(host, "spoofed"), 0);
    let session = host.sh(&format!("ps -o sid= -p {pid}"));
    assert_eq!(session.trim(), pid.to_string(), "a session of its own");
    cluster.stop(1);
    let cleanup = format!("{} cleanup -yes", program("flanneld").display());
    cluster.host(1).sh("ip link del cni0");
    cluster.host(1).sh(&cleanup);
    let host = cluster.host(1);
    eventually("the process ended with its device", TIMEOUT, || {
        let gone = host.try_sh(&format!("test -e {SOCKET}")).status.code() == Some(1);
        (gone && !is_running(host, pid)).then_some(())
    });
}

/// Neither a daemon that is killed nor one that starts again costs a packet; a process that is
/// killed is there again at once, and so is a device that is deleted.
#[scenario]
fn udp_traffic_outlives_the_daemon_and_the_process_comes_back() {
    let mut cluster = Cluster::new(2, DUAL);
    cluster.pod(1);
    cluster.pod(2);
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
    // 20 ms are between two pings; a machine that does other work starts a process slowly
    let running = pings(&cluster, 1, 2, 100);
    thread::sleep(Duration::from_millis(300));
    signal(before, Signal::SIGKILL);
    lose_at_most(running, 50);
    assert_ne!(process(cluster.host(1)), before);
    let running = pings(&cluster, 1, 2, 100);
    thread::sleep(Duration::from_millis(300));
    cluster.host(1).sh("ip link del flannel0");
    lose_at_most(running, 50);
}

/// A daemon of another build makes a new process, to which the old one hands its descriptors.
#[scenario]
fn udp_upgrade_loses_no_packet() {
    let mut cluster = Cluster::new(2, DUAL);
    cluster.pod(1);
    cluster.pod(2);
    let before = process(cluster.host(1));
    let other = format!(
        "cp {} /run/flanneld && touch /run/flanneld",
        program("flanneld").display()
    );
    cluster.host(1).sh(&other);
    let running = pings(&cluster, 1, 2, 200);
    let back = pings(&cluster, 2, 1, 200);
    thread::sleep(Duration::from_millis(500));
    cluster.stop(1);
    cluster.start_program(1, "/run/flanneld");
    cluster.wait_ready(1);
    lose_at_most(running, 0);
    lose_at_most(back, 0);
    let after = process(cluster.host(1));
    assert_ne!(after, before);
    let executable = cluster.host(1).sh(&format!("readlink /proc/{after}/exe"));
    assert_eq!(executable.trim(), "/run/flanneld");
    assert!(!is_running(cluster.host(1), before), "the earlier one");
}

/// ICMP errors come from this node's address on the device.
#[scenario]
fn udp_senders_learn_why_a_packet_goes_no_further() {
    let cluster = Cluster::new(2, DUAL);
    let pods = [cluster.pod(1), cluster.pod(2)];
    ping_both_ways(&cluster, &pods);
    let own = cluster.subnet(1).replace("/24", "");
    let own6 = cluster.subnet6(1).replace("/64", "");
    for (address, from, text) in [
        ("10.244.255.9", &own, "Destination Net Unreachable"),
        (
            "fd00:10:244:ffff::9",
            &own6,
            "Destination unreachable: No route",
        ),
    ] {
        let answer = pods[0].try_sh(&format!("ping -n -c2 -W1 {address}"));
        let answer = String::from_utf8_lossy(&answer.stdout);
        assert!(
            answer.contains(text) && answer.contains(&format!("From {from}")),
            "{answer}"
        );
    }
    let far = &cluster.pod_ips(2)[0];
    // the hops: the host, this node's end, the other node's end, the other host
    for (hops, from) in [(2, own), (3, cluster.subnet(2).replace("/24", ""))] {
        let answer = pods[0].try_sh(&format!("ping -n -c1 -W2 -t {hops} {far}"));
        let answer = String::from_utf8_lossy(&answer.stdout);
        let expected = format!("From {from} icmp_seq=1 Time to live exceeded");
        assert!(answer.contains(&expected), "{answer}");
    }
}

/// The path takes less than the interface: senders are told, and streams get through.
#[scenario]
fn udp_finds_a_smaller_path() {
    let mut cluster = Cluster::idle(2, DUAL);
    let small = cluster.underlay.put_behind_small_link(2, 1400);
    for node in [1, 2] {
        cluster.start(node, &[]);
    }
    for node in [1, 2] {
        cluster.wait_ready(node);
    }
    cluster.wait_for_peers();
    let pods = [cluster.pod(1), cluster.pod(2)];
    ping_both_ways(&cluster, &pods);
    for ip in cluster.pod_ips(2) {
        transfer::tcp(&pods[0], &pods[1], &ip, 20 << 20, STALLED).expect("a large packet passes");
    }
    let ips = cluster.pod_ips(2);
    for (ip, size, mtu) in [(&ips[0], 1400, "mtu = 1372"), (&ips[1], 1380, "mtu = 1352")] {
        pods[0].sh("ip route flush cache; ip -6 route flush cache");
        let answer = pods[0].try_sh(&format!("ping -n -c3 -i0.2 -W1 -M do -s {size} {ip}"));
        let answer = String::from_utf8_lossy(&answer.stdout).to_lowercase();
        assert!(
            answer.contains(mtu) || answer.contains(&mtu.replace(" = ", "=")),
            "{answer}"
        );
    }
    // a packet that may be fragmented is, once the path of the answer is known too
    let ping = format!("ping -n -c1 -W1 -M dont -s 3000 {}", ips[0]);
    let fragmented = || pods[0].try_sh(&ping).status.success().then_some(());
    eventually("the fragments arrive", TIMEOUT, fragmented);
    assert!(packets(cluster.host(1), "tooLarge") > 0 && small.too_large() > 0);
}

/// What does not make sense is dropped: it comes to no pod.
#[scenario]
fn udp_drops_what_is_malformed_or_not_for_this_node() {
    let cluster = Cluster::new(2, V4);
    let pods = [cluster.pod(1), cluster.pod(2)];
    ping_both_ways(&cluster, &pods);
    let host = cluster.host(1);
    let (spoofed, malformed) = (packets(host, "spoofed"), packets(host, "malformed"));
    let send = |bytes: &[u8]| {
        cluster.underlay.switch.run(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("bind");
            socket
                .send_to(bytes, (underlay::ip(1).as_str(), 8285))
                .expect("send");
        });
    };
    let packet = |from: [u8; 4], to: [u8; 4]| {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
        packet.extend(from.iter().chain(&to));
        packet.extend([0, 9, 0, 9, 0, 8, 0, 0]);
        packet
    };
    send(&packet([10, 244, 200, 1], [172, 31, 0, 2]));
    send(&packet([127, 0, 0, 1], [10, 244, 1, 2]));
    send(&[0x45; 11]);
    send(b"");
    send(&[0xff; 1400]);
    eventually("they are counted", TIMEOUT, || {
        let now = (
            packets(host, "spoofed") - spoofed,
            packets(host, "malformed") - malformed,
        );
        (now.0 == 2 && now.1 >= 2).then_some(())
    });
    ping_both_ways(&cluster, &pods);
}

/// Nodes of Go and of ours in one network.
#[scenario(unless = without_etcd_and_go_flanneld)]
fn udp_nodes_of_both_makes_reach_each_other() {
    let underlay = Underlay::new(2);
    let etcd = Etcd::new(&underlay.switch, underlay::GATEWAY);
    etcd.put("/coreos.com/network/config", V4);
    let mut go = GoFlanneld::etcd(&underlay.hosts[0], &etcd.endpoints());
    go.wait_ready();
    let start = || {
        let mut command = Command::new(program("flanneld"));
        command.arg(format!("-etcd-endpoints={}", etcd.endpoints()));
        command.args(["-ip-masq", "-healthz-ip=127.0.0.1", "-healthz-port=8081"]);
        underlay.hosts[1].spawn(command)
    };
    let mut ours = start();
    let ready = |ours: &mut Process| {
        eventually("ours is ready", TIMEOUT, || {
            assert!(ours.is_running(), "{}", ours.output());
            let answer = super::cluster::get(&underlay.hosts[1], "/readyz");
            answer.contains("flanneld is ready").then_some(())
        });
    };
    ready(&mut ours);
    let pods: Vec<_> = underlay.hosts.iter().map(subnet_env::pod).collect();
    let reach = || {
        subnet_env::eventually_pings(&pods[0], &underlay.hosts[1]);
        subnet_env::eventually_pings(&pods[1], &underlay.hosts[0]);
        for (from, to) in [(0, 1), (1, 0)] {
            let ip = &subnet_env::pod_addresses(&underlay.hosts[to])[0];
            transfer::tcp(&pods[from], &pods[to], ip, 10 << 20, STALLED).unwrap_or_else(|error| {
                let path = status(&underlay.hosts[1]);
                panic!("from {from} to {to}: {error}: {path:?}")
            });
        }
    };
    reach();
    for lease in etcd.keys("/coreos.com/network/subnets/") {
        let value = etcd.get(&lease).expect("a lease");
        assert!(!value.contains("BackendType"), "{value}");
    }
    ours.signal(Signal::SIGKILL);
    ours.wait(TIMEOUT);
    reach();
    ours = start();
    ready(&mut ours);
    drop(go);
    let mut go = GoFlanneld::etcd(&underlay.hosts[0], &etcd.endpoints());
    go.wait_ready();
    reach();
}
