//! The backend udp: packets travel by way of a TUN device and a process that outlives the daemon.

use super::{
    cluster::{Cluster, TIMEOUT},
    data_path::{self, cleanup_ends_it, is_running, process},
};
use nix::sys::signal::Signal;
use std::{process::Command, thread, time::Duration};
use tests::{
    Etcd, GoFlanneld, Host, Pings, Process, Underlay, binaries::program,
    go_flanneld::without_etcd_and_go_flanneld, process::eventually, scenario, subnet_env, transfer,
    underlay,
};

const V4: &str = r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"udp"}}"#;
const DUAL: &str = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{"Type":"udp"}}"#;
const DEVICE: &str = "flannel0";
const STALLED: Duration = Duration::from_secs(10);

fn packets(host: &Host, counter: &str) -> u64 {
    let status = data_path::status(host, DEVICE).expect("a status");
    status["packets"][counter].as_u64().expect("a counter")
}

/// One device, its process without anything of the daemon, and nothing left after the clean-up.
#[scenario]
fn udp_pods_reach_each_other_in_both_families() {
    let mut cluster = Cluster::new(2, DUAL);
    let pods = [cluster.pod(1), cluster.pod(2)];
    cluster.eventually_ping_all();
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
    let pid = process(host, DEVICE);
    let open = host.sh(&format!(
        "ls -l /proc/{pid}/fd; cat /proc/{pid}/environ; tr '\\0' ' ' < /proc/{pid}/cmdline"
    ));
    let count = |what: &str| open.lines().filter(|line| line.contains(what)).count();
    // one for each worker with its queue and a copy for the daemon
    assert_eq!(2 * count("[eventpoll]"), count("/dev/net/tun"), "{open}");
    let kinds = ["/dev/net/tun", "[eventpoll]", "socket:", "/dev/null"].map(count);
    assert_eq!(kinds.iter().sum::<usize>(), count(" -> "), "{open}");
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
    assert_eq!(packets(host, "malformed") + packets(host, "spoofed"), 0);
    let session = host.sh(&format!("ps -o sid= -p {pid}"));
    assert_eq!(session.trim(), pid.to_string(), "a session of its own");
    cluster.stop(1);
    cleanup_ends_it(cluster.host(1), DEVICE, pid);
}

#[scenario]
fn udp_traffic_outlives_the_daemon_and_the_process_comes_back() {
    data_path::outlives_the_daemon(DUAL, DEVICE);
}

#[scenario]
fn udp_device_that_is_renamed_works_again() {
    data_path::renamed_device_works_again(DUAL, DEVICE);
}

#[scenario]
fn udp_replaces_a_process_that_hangs() {
    data_path::is_replaced_when_it_hangs(DUAL, DEVICE);
}

#[scenario]
fn udp_process_is_kept_in_another_container() {
    data_path::is_kept(DUAL, DEVICE);
}

#[scenario]
fn udp_device_is_back_at_once() {
    data_path::device_is_back_at_once(DUAL, DEVICE);
}

/// A daemon of another build makes a new process, to which the old one hands its descriptors.
#[scenario]
fn udp_upgrade_loses_no_packet() {
    let mut cluster = Cluster::new(2, DUAL);
    cluster.pod(1);
    cluster.pod(2);
    let before = process(cluster.host(1), DEVICE);
    let other = format!(
        "cp {} /run/flanneld && touch /run/flanneld",
        program("flanneld").display()
    );
    cluster.host(1).sh(&other);
    let pings = Pings::among(&cluster.underlay.hosts);
    thread::sleep(Duration::from_millis(500));
    cluster.stop(1);
    cluster.start_program(1, "/run/flanneld");
    cluster.wait_ready(1);
    pings.lose_nothing();
    let after = process(cluster.host(1), DEVICE);
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
    cluster.eventually_ping_all();
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
    cluster.eventually_ping_all();
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
    cluster.pod(1);
    cluster.pod(2);
    cluster.eventually_ping_all();
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
    cluster.eventually_ping_all();
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
                let path = data_path::status(&underlay.hosts[1], DEVICE);
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
    // the way back to Go, as docs/upgrade-and-remove.md has it
    ours.signal(Signal::SIGTERM);
    ours.wait(TIMEOUT);
    let host = &underlay.hosts[1];
    let pid = process(host, "flannel0");
    host.sh("ip link delete flannel0");
    eventually("the process frees the port", TIMEOUT, || {
        (!is_running(host, pid)).then_some(())
    });
    let mut back = GoFlanneld::etcd(host, &etcd.endpoints());
    back.wait_ready();
    reach();
}
