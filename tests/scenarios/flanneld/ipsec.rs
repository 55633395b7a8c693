//! The backend ipsec: policies in the kernel, keys by charon. A kernel without ESP has policies
//! only; on one that has it, in a virtual machine, pods' packets are encrypted.

use super::cluster::{Cluster, TIMEOUT, get, is_restored_at_once};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    net::UdpSocket,
    process::Command,
    thread,
    time::{Duration, Instant},
};
use tests::{
    Host, Pings, Pod,
    charon::{self, EndCharon, Wire, encrypted, without_charon},
    kernel::without_esp,
    process::{deadline, eventually},
    scenario, subnet_env, underlay,
};

const PSK: &str = "5d2c8f0e7ab94163d8e2f7c1a05b3e6f9d4c8b7a2e1f0d3c6b9a8e7f4d5c2b1a0f9e8d7c6b5a49382716f5e4d3c2b1a0";
/// What a key exchange may take, with a retransmission.
const KEYS_TIMEOUT: Duration = Duration::from_secs(30);

fn net_conf(keys: &str) -> String {
    format!(
        r#"{{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{{"Type":"ipsec","PSK":"{PSK}"{keys}}}}}"#
    )
}

fn dual() -> String {
    format!(
        r#"{{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{{"Type":"ipsec","PSK":"{PSK}"}}}}"#
    )
}

fn no_esp() -> Option<String> {
    without_charon().or_else(without_esp)
}

/// Nodes with charon. At the end no process of them is left.
struct Ipsec {
    nodes: Cluster,
    _end: EndCharon,
}

impl Ipsec {
    fn new(nodes: usize, net_conf: &str) -> Ipsec {
        let cluster = Cluster::idle(nodes, net_conf);
        let mut ipsec = Ipsec {
            _end: EndCharon::of(&cluster.underlay.hosts),
            nodes: cluster,
        };
        for node in 1..=nodes {
            ipsec.start(node);
        }
        for node in 1..=nodes {
            ipsec.nodes.wait_ready(node);
        }
        ipsec
    }

    /// The kernel looks for a route before it looks for a policy, as on any host with a default
    /// route.
    fn start(&mut self, node: usize) {
        let host = self.host(node);
        host.sh("ip route replace default dev eth0; ip -6 route replace default dev eth0");
        self.nodes.start(node, &[]);
    }

    fn host(&self, node: usize) -> &Host {
        self.nodes.host(node)
    }

    fn charon(&self, node: usize) -> Option<Pid> {
        charon::pid(self.host(node))
    }

    #[track_caller]
    fn wait_for_charon(&self, node: usize, other_than: Option<Pid>) -> Pid {
        eventually("charon runs", TIMEOUT, || {
            let pid = self.charon(node).filter(|pid| Some(*pid) != other_than)?;
            self.connections(node).map(|_| pid)
        })
    }

    /// What `swanctl --list-conns` prints. None: no charon answers.
    fn connections(&self, node: usize) -> Option<String> {
        self.swanctl(node, "--list-conns")
    }

    fn swanctl(&self, node: usize, command: &str) -> Option<String> {
        let socket = "unix:///run/flannel/charon/charon.vici";
        let output = self
            .host(node)
            .try_sh(&format!("swanctl {command} --uri {socket} 2>/dev/null"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(text)
    }

    #[track_caller]
    fn wait_for_connections(&self, node: usize, count: usize) -> String {
        let end = Instant::now() + deadline(TIMEOUT);
        loop {
            let text = self.connections(node).unwrap_or_default();
            if text.matches("no reauthentication").count() == count {
                return text;
            }
            assert!(Instant::now() < end, "not {count} connections:\n{text}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Policies, without the counters that `ip -s` would show, and without those of charon's
    /// sockets, which come when it starts.
    fn policies(&self, node: usize) -> String {
        self.host(node)
            .sh("ip xfrm policy list nosock")
            .replace("ptype main ", "")
    }

    #[track_caller]
    fn wait_for_policies(&self, node: usize, count: usize) -> String {
        eventually(&format!("{count} policies"), TIMEOUT, || {
            let text = self.policies(node);
            (text.matches("reqid 11").count() == count).then_some(text)
        })
    }

    /// Waits until both directions between two nodes have keys.
    #[track_caller]
    fn wait_for_keys(&self, node: usize, peer: usize) {
        let (own, peer) = (underlay::ip(node), underlay::ip(peer));
        eventually(&format!("keys of {own} and {peer}"), KEYS_TIMEOUT, || {
            let states = self.host(node).sh("ip xfrm state");
            let has = |src: &str, dst: &str| states.contains(&format!("src {src} dst {dst}"));
            (has(&own, &peer) && has(&peer, &own)).then_some(())
        });
    }
}

#[scenario(unless = without_charon)]
fn ipsec_policies_are_made_as_ip_shows_them() {
    let cluster = Ipsec::new(2, &net_conf(""));
    let policies = cluster.wait_for_policies(1, 3);
    let (own, peer) = (cluster.nodes.subnet(1), cluster.nodes.subnet(2));
    let (from, to) = (underlay::ip(1), underlay::ip(2));
    for (src, dst, direction, template) in [
        (&own, &peer, "out", format!("tmpl src {from} dst {to}")),
        (&peer, &own, "in", format!("tmpl src {to} dst {from}")),
        (&peer, &own, "fwd", format!("tmpl src {to} dst {from}")),
    ] {
        let expected = format!(
            "src {src} dst {dst} \n\tdir {direction} priority 0 \n\t{template}\n\t\tproto esp reqid 11 mode tunnel\n"
        );
        assert!(policies.contains(&expected), "{expected} in\n{policies}");
    }
    assert_eq!(cluster.nodes.env(1, "FLANNEL_MTU"), "1423");
    let leases = cluster
        .host(1)
        .sh("curl -s http://172.31.0.1:8888/v1/_/leases");
    assert!(leases.contains(r#""BackendType":"ipsec"}"#), "{leases}");
}

/// Deleted, altered and all at once; each time within 100 ms (300 ms on a busy machine).
#[scenario(unless = without_charon)]
fn ipsec_policies_are_back_at_once_and_strangers_stay() {
    let cluster = Ipsec::new(3, &dual());
    let before = cluster.wait_for_policies(1, 12);
    let host = cluster.host(1);
    let (own, peer) = (cluster.nodes.subnet(1), cluster.nodes.subnet(2));
    let (from, to) = (underlay::ip(1), underlay::ip(3));
    for change in [
        format!("ip xfrm policy delete src {own} dst {peer} dir out"),
        format!("ip xfrm policy delete src {peer} dst {own} dir fwd"),
        format!(
            "ip xfrm policy update src {own} dst {peer} dir out tmpl src {from} dst {to} proto esp reqid 11 mode tunnel"
        ),
        "ip xfrm policy flush".to_owned(),
        // of a node that is gone
        format!(
            "ip xfrm policy add src {own} dst 10.244.250.0/24 dir out tmpl src {from} dst {to} proto esp reqid 11 mode tunnel"
        ),
    ] {
        is_restored_at_once(host, &change, || {
            sorted(&cluster.policies(1)) == sorted(&before)
        });
    }
    for stranger in [
        "src 10.1.0.0/24 dst 10.2.0.0/24 dir out tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 11 mode tunnel",
        "src 10.244.1.0/24 dst 10.244.251.0/24 dir out tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 12 mode tunnel",
        "src 10.244.1.0/24 dst 10.244.252.0/24 proto 6 dir out tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 11 mode tunnel",
    ] {
        host.sh(&format!("ip xfrm policy add {stranger}"));
    }
    let all = sorted(&cluster.policies(1));
    host.sh(&format!(
        "ip xfrm policy delete src {own} dst {peer} dir out"
    ));
    eventually("the policy is back", TIMEOUT, || {
        (sorted(&cluster.policies(1)) == all).then_some(())
    });
}

/// Each policy's lines, in an order that does not depend on when it was made.
fn sorted(policies: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for line in policies.lines() {
        match all.last_mut() {
            Some(policy) if line.starts_with('\t') => policy.push_str(line),
            _ => all.push(line.to_owned()),
        }
    }
    all.sort();
    all
}

/// A policy of another program with the selector of one of ours.
#[scenario(unless = without_charon)]
fn ipsec_policy_of_a_stranger_in_the_place_of_ours_stays_and_is_reported() {
    let mut cluster = Ipsec::new(2, &net_conf(""));
    cluster.wait_for_policies(1, 3);
    let (own, peer) = (cluster.nodes.subnet(1), cluster.nodes.subnet(2));
    cluster.nodes.stop(1);
    let host = cluster.host(1);
    host.sh(&format!(
        "ip xfrm policy delete src {own} dst {peer} dir out"
    ));
    let stranger = format!(
        "src {own} dst {peer} dir out tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 99 mode tunnel"
    );
    host.sh(&format!("ip xfrm policy add {stranger}"));
    cluster.start(1);
    eventually("it is reported", TIMEOUT, || {
        let log = cluster.nodes.daemon(1).output();
        log.contains("another program has an IPsec policy with this selector")
            .then_some(())
    });
    assert!(cluster.policies(1).contains("reqid 99"));
    cluster.host(1).sh(&format!(
        "ip xfrm policy delete src {own} dst {peer} dir out"
    ));
    cluster.wait_for_policies(1, 3);
}

#[scenario(unless = without_charon)]
fn ipsec_charon_is_told_upstreams_connections_and_no_secret_is_in_a_log() {
    let mut cluster = Ipsec::new(3, &net_conf(""));
    let pid = cluster.wait_for_charon(1, None);
    let connections = cluster.wait_for_connections(1, 2);
    let (own, peer) = (cluster.nodes.subnet(1), cluster.nodes.subnet(2));
    let (from, to) = (underlay::ip(1), underlay::ip(2));
    for part in [
        format!("{from}-{own}-{peer}-{to}: "),
        format!("local:  {from}"),
        format!("remote: {to}"),
        format!("{own}-{peer}: TUNNEL, rekeying every 3600s"),
        format!("local:  {own}"),
        format!("remote: {peer}"),
    ] {
        assert!(connections.contains(&part), "{part} in\n{connections}");
    }
    // the peers answer, and know the same secret
    eventually("a peer is authenticated", KEYS_TIMEOUT, || {
        let log = cluster.nodes.daemon(1).output();
        let authenticated = format!("authentication of '{to}' with pre-shared key successful");
        log.contains(&authenticated).then_some(())
    });
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).expect("arguments");
    let files = cluster
        .host(1)
        .sh("cat /run/flannel/charon/strongswan.conf /run/flannel/subnet.env; stat -c %a /run/flannel/charon");
    assert!(files.ends_with("700\n"), "{files}");
    for node in 1..=3 {
        let log = cluster.nodes.daemon(node).output();
        let logged = [
            &log,
            &files,
            &String::from_utf8_lossy(&arguments).into_owned(),
        ];
        for text in logged {
            assert!(!text.contains(&PSK[..32]), "{text}");
        }
    }
}

#[scenario(unless = without_charon)]
fn ipsec_charon_outlives_flanneld_and_is_started_again_when_it_ends() {
    let mut cluster = Ipsec::new(2, &net_conf(""));
    let first = cluster.wait_for_charon(1, None);
    cluster.wait_for_connections(1, 1);
    let log = cluster.nodes.stop(1);
    assert!(!log.contains("ended charon"), "{log}");
    assert_eq!(cluster.charon(1), Some(first), "it outlives flanneld");
    cluster.start(1);
    cluster.nodes.wait_ready(1);
    eventually("it is kept", TIMEOUT, || {
        let log = cluster.nodes.daemon(1).output();
        log.contains("runs already; its keys stay").then_some(())
    });
    assert_eq!(cluster.charon(1), Some(first));
    // flanneld is killed, and charon too
    cluster.nodes.kill(1);
    kill(first, Signal::SIGKILL).expect("kill");
    cluster.start(1);
    cluster.nodes.wait_ready(1);
    let second = cluster.wait_for_charon(1, Some(first));
    cluster.wait_for_connections(1, 1);
    let log = cluster.nodes.daemon(1).output();
    assert!(
        !log.contains("ended charon"),
        "there is nothing to end:\n{log}"
    );
    // it ends under a running flanneld, and loses what it was told
    kill(second, Signal::SIGKILL).expect("kill");
    let third = cluster.wait_for_charon(1, Some(second));
    cluster.wait_for_connections(1, 1);
    // it hangs
    kill(third, Signal::SIGSTOP).expect("stop");
    cluster.nodes.stop(1);
    cluster.start(1);
    let fourth = cluster.wait_for_charon(1, Some(third));
    cluster.wait_for_connections(1, 1);
    // a connection that another program takes away is back
    let name = format!(
        "{}-{}-{}-{}",
        underlay::ip(1),
        cluster.nodes.subnet(1),
        cluster.nodes.subnet(2),
        underlay::ip(2)
    );
    cluster.swanctl(1, &format!("--terminate --force --ike {name}"));
    assert_eq!(cluster.charon(1), Some(fourth));
    // the other node leaves: its policies and its connection go
    cluster.nodes.stop(2);
    let lease = cluster.nodes.subnet(2).replace('/', "-");
    let revoke = format!("curl -s -X DELETE http://172.31.0.1:8888/v1/_/leases/{lease}");
    cluster.host(1).sh(&revoke);
    cluster.wait_for_policies(1, 0);
    cluster.wait_for_connections(1, 0);
}

#[scenario(unless = without_charon)]
fn ipsec_without_charon_or_with_a_short_secret_says_what_to_do() {
    let mut cluster = Cluster::idle(1, &net_conf(""));
    cluster
        .host(1)
        .sh("mkdir /run/empty; mount --bind /run/empty /usr/lib/ipsec");
    cluster.start_with(1, &[], &[("PATH", "/bin:/sbin")]);
    let status = cluster.daemon(1).wait(TIMEOUT);
    let log = cluster.daemon(1).output();
    assert!(!status.success(), "{log}");
    let text = "strongSwan's charon is neither in PATH nor in /usr/lib/strongswan, /usr/lib/ipsec";
    assert!(
        log.contains(text) && log.contains("apt install strongswan-charon"),
        "{log}"
    );
    let short = net_conf("").replace(PSK, &PSK[1..]);
    cluster
        .host(1)
        .sh(&format!("echo '{short}' > /run/net-conf.json"));
    cluster.start(1, &[]);
    let status = cluster.daemon(1).wait(TIMEOUT);
    let log = cluster.daemon(1).output();
    assert!(!status.success(), "{log}");
    assert!(log.contains("config error, password is too short"), "{log}");
    assert!(!log.contains(&PSK[1..33]), "{log}");
}

/// What keeps charon from negotiating is in the status, with what to do, until it is over.
#[scenario(unless = without_charon)]
fn ipsec_status_says_why_there_are_no_keys() {
    let mut cluster = Ipsec::new(2, &net_conf(""));
    let host = cluster.host(1).handle();
    let wait_for_fault = |parts: &[&str]| {
        eventually(&format!("the status has {parts:?}"), TIMEOUT, || {
            let status = get(&host, "/readyz?verbose");
            assert!(!status.contains(&PSK[..32]), "{status}");
            let has_all = parts.iter().all(|part| status.contains(part));
            (has_all && status.contains("flanneld is not ready yet")).then_some(())
        });
    };
    let wait_until_ready = || {
        eventually("the status has no fault", TIMEOUT, || {
            let status = get(&host, "/readyz?verbose");
            (status.contains("flanneld is ready") && !status.contains("keys")).then_some(())
        });
    };
    // another program takes the port while no charon runs
    let first = cluster.wait_for_charon(1, None);
    host.sh("mkdir -p /run/empty; mount --bind /run/empty /usr/lib/ipsec");
    kill(first, Signal::SIGKILL).expect("kill");
    wait_for_fault(&["IPsec has no new keys", "apt install strongswan-charon"]);
    let taken = host.run(|| UdpSocket::bind("0.0.0.0:500")).expect("bind");
    host.sh("umount /usr/lib/ipsec");
    wait_for_fault(&["another program has UDP port 500", "ss -ulpn"]);
    drop(taken);
    cluster.wait_for_charon(1, Some(first));
    wait_until_ready();
    // a proposal that charon does not know
    cluster.nodes.stop(1);
    let unknown = net_conf(r#","ESPProposal":"rot13-md4""#);
    host.write("/run/net-conf.json", &unknown);
    cluster.start(1);
    wait_for_fault(&[
        &cluster.nodes.subnet(2),
        "charon refuses load-conn",
        "Backend.ESPProposal",
    ]);
    cluster.nodes.stop(1);
    host.write("/run/net-conf.json", &net_conf(""));
    cluster.start(1);
    wait_until_ready();
}

#[scenario(unless = without_charon)]
fn ipsec_cleanup_removes_policies_and_charon() {
    let mut cluster = Ipsec::new(2, &net_conf(""));
    let pid = cluster.wait_for_charon(1, None);
    cluster.wait_for_policies(1, 3);
    let stranger = "src 10.1.0.0/24 dst 10.2.0.0/24 dir out tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 11 mode tunnel";
    cluster
        .host(1)
        .sh(&format!("ip xfrm policy add {stranger}"));
    cluster.nodes.stop(1);
    let mut command = Command::new(tests::binaries::program("flanneld"));
    command.arg("cleanup");
    let output = cluster.host(1).output(command, "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("removed IPsec policy").count(), 3, "{text}");
    assert!(text.contains("removed charon"), "{text}");
    assert_ne!(cluster.charon(1), Some(pid));
    let left = cluster.policies(1);
    assert_eq!(left.matches("dir ").count(), 1, "{left}");
}

/// The pods of the nodes, which reach each other.
#[track_caller]
fn connected_pods(cluster: &Ipsec, nodes: usize) -> Vec<(usize, Pod<'_>)> {
    let pods: Vec<_> = (1..=nodes)
        .map(|node| (node, cluster.nodes.pod(node)))
        .collect();
    for (from, pod) in &pods {
        for (to, _) in pods.iter().filter(|(to, _)| to != from) {
            cluster.wait_for_keys(*from, *to);
            subnet_env::eventually_pings(pod, cluster.host(*to));
        }
    }
    pods
}

#[scenario(unless = no_esp)]
fn ipsec_pods_reach_each_other_encrypted() {
    let cluster = Ipsec::new(3, &net_conf(""));
    let pods = connected_pods(&cluster, 3);
    encrypted_only(&cluster, &pods, "encrypted");
    cluster.nodes.ping_all(&pods);
}

#[scenario(unless = no_esp)]
fn ipsec_pods_reach_each_other_encrypted_in_udp() {
    let cluster = Ipsec::new(2, &net_conf(r#","UDPEncap":true"#));
    let pods = connected_pods(&cluster, 2);
    encrypted_only(&cluster, &pods, "encrypted_in_udp");
    assert_eq!(cluster.nodes.env(1, "FLANNEL_MTU"), "1415");
}

#[scenario(unless = no_esp)]
fn ipsec_pods_reach_each_other_encrypted_over_both_families() {
    let cluster = Ipsec::new(2, &dual());
    let pods = connected_pods(&cluster, 2);
    cluster.nodes.ping_all(&pods);
    assert_eq!(cluster.nodes.env(1, "FLANNEL_MTU"), "1403");
}

/// Pings by the first pod; the link carries packets of that kind and none in clear text.
fn encrypted_only(cluster: &Ipsec, pods: &[(usize, Pod<'_>)], kind: &str) {
    let host = cluster.host(1);
    let before = encrypted(host);
    let wire = Wire::watch(cluster.host(2));
    for _ in 0..5 {
        subnet_env::ping(&pods[0].1, cluster.host(2));
    }
    let after = encrypted(host);
    assert!(after >= before + 10, "{before} {after}");
    let carried = wire.packets(kind);
    assert!(carried >= 5, "{carried}");
    assert_eq!(wire.packets("clear_text"), 0);
}

#[scenario(unless = no_esp)]
fn ipsec_restart_of_flanneld_loses_no_packet() {
    let mut cluster = Ipsec::new(2, &net_conf(""));
    drop(connected_pods(&cluster, 2));
    let pings = Pings::start(cluster.host(1), cluster.host(2));
    for node in [1, 2] {
        cluster.nodes.stop(node);
        cluster.start(node);
        cluster.nodes.wait_ready(node);
    }
    cluster.nodes.kill(1);
    cluster.start(1);
    cluster.nodes.wait_ready(1);
    pings.lose_nothing();
}

/// Keys of a charon that is killed stay in the kernel until the next one has new ones.
#[scenario(unless = no_esp)]
fn ipsec_pods_reach_each_other_again_after_charon_is_killed() {
    let cluster = Ipsec::new(2, &net_conf(""));
    let pods = connected_pods(&cluster, 2);
    for node in [1, 2] {
        let pid = cluster.wait_for_charon(node, None);
        kill(pid, Signal::SIGKILL).expect("kill");
        cluster.wait_for_charon(node, Some(pid));
        cluster.wait_for_connections(node, 1);
        thread::sleep(Duration::from_secs(2));
        subnet_env::eventually_pings(&pods[0].1, cluster.host(2));
        subnet_env::eventually_pings(&pods[1].1, cluster.host(1));
    }
}

/// Without keys, packets to other nodes' pods are dropped.
#[scenario(unless = no_esp)]
fn ipsec_without_keys_no_packet_leaves_in_clear_text() {
    let cluster = Ipsec::new(2, &net_conf(""));
    let pods = connected_pods(&cluster, 2);
    let host = cluster.host(1);
    let pid = cluster.wait_for_charon(1, None);
    kill(pid, Signal::SIGSTOP).expect("stop");
    host.sh("ip xfrm state flush");
    let wire = Wire::watch(cluster.host(2));
    let ip = &cluster.nodes.pod_ips(2)[0];
    let output = pods[0].1.try_sh(&format!("ping -c 3 -i 0.2 -W 1 {ip}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("100% packet loss"), "{text}");
    assert_eq!(wire.packets("clear_text"), 0);
    kill(pid, Signal::SIGCONT).expect("continue");
}
