//! Hosts with one etcd, a flanneld of either make on each, and pods made by hand.

use crate::flanneld::cluster::get;
use nix::sys::signal::Signal;
use std::{process::Command, time::Duration};
use tests::{
    Etcd, GoFlanneld, Host, Pings, Process, Underlay, binaries::program, process::eventually,
    subnet_env, underlay,
};

pub(crate) const V4: &str =
    r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;
pub(crate) const V6: &str = r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;
pub(crate) const DUAL: &str = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;

pub(crate) const PREFIX: &str = "/coreos.com/network";
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

enum Daemon {
    Ours(Process),
    Go(GoFlanneld),
}

/// Nodes are numbered from 1.
pub(crate) struct Cluster {
    pub(crate) underlay: Underlay,
    pub(crate) etcd: Etcd,
    /// Each node's `-etcd-endpoints`.
    pub(crate) endpoints: String,
    daemons: Vec<Option<Daemon>>,
}

impl Cluster {
    /// Starts etcd, in a namespace of its own, and no daemon.
    pub(crate) fn new(nodes: usize, net_conf: &str) -> Cluster {
        let underlay = Underlay::new(nodes);
        let etcd = Etcd::new(&underlay.switch, underlay::GATEWAY);
        Cluster::with(underlay, etcd, net_conf)
    }

    /// Three members of etcd, each on a host of its own after the nodes.
    pub(crate) fn with_three_members(nodes: usize, net_conf: &str) -> Cluster {
        let mut underlay = Underlay::new(nodes + 3);
        let members = underlay.hosts.split_off(nodes);
        let ips: Vec<String> = (nodes + 1..=nodes + 3).map(underlay::ip).collect();
        let places = members.iter().zip(&ips).map(|(host, ip)| (host, &ip[..]));
        let etcd = Etcd::cluster(&places.collect::<Vec<_>>());
        Cluster::with(underlay, etcd, net_conf)
    }

    pub(crate) fn with(underlay: Underlay, etcd: Etcd, net_conf: &str) -> Cluster {
        etcd.put(&format!("{PREFIX}/config"), net_conf);
        Cluster {
            daemons: underlay.hosts.iter().map(|_| None).collect(),
            endpoints: etcd.endpoints(),
            underlay,
            etcd,
        }
    }

    pub(crate) fn host(&self, node: usize) -> &Host {
        &self.underlay.hosts[node - 1]
    }

    /// Starts our flanneld with further arguments.
    pub(crate) fn start(&mut self, node: usize, more: &[&str]) {
        let mut command = Command::new(program("flanneld"));
        let endpoints = format!("-etcd-endpoints={}", self.endpoints);
        command.args([&endpoints, "-ip-masq"]);
        command.args(["-healthz-ip=127.0.0.1", "-healthz-port=8081"]);
        command.args(more);
        let process = self.host(node).spawn(command);
        self.daemons[node - 1] = Some(Daemon::Ours(process));
    }

    /// Starts the Go flanneld.
    pub(crate) fn start_go(&mut self, node: usize) {
        let daemon = GoFlanneld::etcd(self.host(node), &self.endpoints);
        self.daemons[node - 1] = Some(Daemon::Go(daemon));
    }

    /// Starts our flanneld on every node, and makes a pod on each when all are ready.
    pub(crate) fn start_all(&mut self) {
        let nodes: Vec<_> = (1..=self.daemons.len()).collect();
        self.start_nodes(&nodes);
        nodes.iter().for_each(|node| self.make_pod(*node));
    }

    /// Starts our flanneld on these nodes at once, and waits until all are ready.
    #[track_caller]
    pub(crate) fn start_nodes(&mut self, nodes: &[usize]) {
        nodes.iter().for_each(|node| self.start(*node, &[]));
        nodes.iter().for_each(|node| self.wait_ready(*node));
    }

    /// The process of our flanneld.
    pub(crate) fn daemon(&mut self, node: usize) -> &mut Process {
        match self.daemons[node - 1].as_mut().expect("it runs") {
            Daemon::Ours(process) => process,
            Daemon::Go(go) => go.process(),
        }
    }

    #[track_caller]
    pub(crate) fn wait_ready(&mut self, node: usize) {
        let host = self.host(node).handle();
        let process = match self.daemons[node - 1].as_mut().expect("it runs") {
            Daemon::Go(go) => return go.wait_ready(),
            Daemon::Ours(process) => process,
        };
        eventually(&format!("{} is ready", host.name), TIMEOUT, || {
            assert!(
                process.is_running(),
                "flanneld ended:\n{}",
                process.output()
            );
            get(&host, "/readyz")
                .contains("flanneld is ready")
                .then_some(())
        });
    }

    /// SIGTERM, and waits for the end; the log.
    #[track_caller]
    pub(crate) fn stop(&mut self, node: usize) -> String {
        match self.daemons[node - 1].take().expect("it runs") {
            Daemon::Go(go) => go.stop(),
            Daemon::Ours(mut process) => {
                process.signal(Signal::SIGTERM);
                let status = process.wait(Duration::from_secs(2));
                assert!(status.success(), "{status}\n{}", process.output());
                process.output()
            }
        }
    }

    /// Waits for the end of a daemon that ends by itself; its exit code and log.
    #[track_caller]
    pub(crate) fn wait_end(&mut self, node: usize) -> (Option<i32>, String) {
        let process = self.daemon(node);
        let code = process.wait(TIMEOUT).code();
        let log = process.output();
        self.daemons[node - 1] = None;
        (code, log)
    }

    #[track_caller]
    pub(crate) fn eventually_logs(&mut self, node: usize, text: &str) {
        let process = self.daemon(node);
        let what = format!("the log of node {node} says {text:?}");
        eventually(&what, TIMEOUT, || {
            process.output().contains(text).then_some(())
        });
    }

    pub(crate) fn make_pod(&self, node: usize) {
        subnet_env::pod(self.host(node));
    }

    /// Every node's pod reaches every other's, in each family.
    #[track_caller]
    pub(crate) fn all_ping(&self, nodes: &[usize]) {
        for from in nodes {
            for to in nodes.iter().filter(|to| *to != from) {
                for ip in subnet_env::pod_addresses(self.host(*to)) {
                    eventually(&format!("node {from} pings {ip}"), TIMEOUT, || {
                        let ping = format!("ip netns exec pod ping -n -c1 -W1 {ip}");
                        self.host(*from)
                            .try_sh(&ping)
                            .status
                            .success()
                            .then_some(())
                    });
                }
            }
        }
    }

    /// Node 1 with Go's flanneld and the other ones with ours, a pod on each; all reach each other.
    pub(crate) fn beside_go(nodes: usize, net_conf: &str) -> Cluster {
        let mut cluster = Cluster::new(nodes, net_conf);
        cluster.start_go(1);
        for node in 2..=nodes {
            cluster.start(node, &[]);
        }
        let all: Vec<_> = (1..=nodes).collect();
        for node in &all {
            cluster.wait_ready(*node);
            cluster.make_pod(*node);
        }
        cluster.all_ping(&all);
        cluster
    }

    /// Ours in the place of Go's on node 1, with its lease; no packet between the nodes is lost,
    /// and no route of Go's stays.
    #[track_caller]
    pub(crate) fn take_over_from_go(&mut self) {
        let leases = self.leases();
        let pings = [self.ping(1, 2), self.ping(2, 1)];
        self.stop(1);
        self.start(1, &[]);
        self.wait_ready(1);
        pings.into_iter().for_each(Pings::lose_nothing);
        assert_eq!(self.leases(), leases);
        let boot = self.host(1).sh("ip route show proto boot");
        assert!(!boot.contains("10.244."), "{boot}");
    }

    /// Pings from the pod of a node to each address of that of another.
    pub(crate) fn ping(&self, from: usize, to: usize) -> Pings {
        Pings::start(self.host(from), self.host(to))
    }

    /// The keys of the leases, without the prefix.
    pub(crate) fn leases(&self) -> Vec<String> {
        let below = format!("{PREFIX}/subnets/");
        let keys = self.etcd.keys(&below);
        keys.iter().map(|key| key.replace(&below, "")).collect()
    }

    /// The key and the value of the lease whose value contains a text.
    #[track_caller]
    pub(crate) fn lease_of(&self, text: &str) -> (String, serde_json::Value) {
        let keys = self.etcd.keys(&format!("{PREFIX}/subnets/"));
        let found = keys.into_iter().find_map(|key| {
            let value = self.etcd.get(&key)?;
            let json = serde_json::from_str(&value).ok()?;
            value.contains(text).then_some((key, json))
        });
        found.unwrap_or_else(|| panic!("no lease with {text}"))
    }

    /// What a node publishes in its lease, but for its IPv4 address.
    #[track_caller]
    pub(crate) fn published(&self, node: usize) -> serde_json::Value {
        let (_, mut value) = self.lease_of(&format!("{:?}", underlay::ip(node)));
        value.as_object_mut().expect("an object").remove("PublicIP");
        value
    }

    /// The etcd lease of a key, as etcdctl shows it.
    #[track_caller]
    pub(crate) fn lease_id(&self, key: &str) -> String {
        let answer = self.etcd.ctl(&["get", key, "-w", "json"]);
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        let lease = answer["kvs"][0]["lease"].as_i64().expect("a lease");
        format!("{lease:x}")
    }

    /// Ifindex, name and MAC of the overlay's devices.
    pub(crate) fn devices(&self, node: usize) -> String {
        self.host(node)
            .sh("ip -o link show type vxlan | sed 's/<.*link.ether/ /; s/ brd.*//'")
    }

    /// A value of subnet.env.
    pub(crate) fn env(&self, node: usize, key: &str) -> String {
        subnet_env::value(self.host(node), key).unwrap_or_else(|| panic!("no {key}"))
    }
}
