//! A small cluster: hosts on an underlay with a flanneld on each, the first of which has the lease
//! store, and pods made by hand.

use linux_net::{
    Netlink,
    route::{Filter, Route},
};
use nix::sys::signal::Signal;
use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};
use tests::{
    Host, Pings, Pod, Process, Underlay,
    binaries::program,
    process::{deadline, eventually},
    subnet_env, underlay,
};

/// Nodes lease one of the first hundred free subnets: a scenario that needs one of no node takes
/// one above 10.244.102.0/24 for it.
pub(super) const V4: &str =
    r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;
pub(super) const V6: &str = r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;
pub(super) const DUAL: &str = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;

pub(super) const TIMEOUT: Duration = Duration::from_secs(15);

/// Nodes are numbered from 1.
pub(super) struct Cluster {
    pub underlay: Underlay,
    daemons: Vec<Option<Process>>,
}

impl Cluster {
    /// Starts every daemon and waits until all are ready and have a route to each other.
    pub(super) fn new(nodes: usize, net_conf: &str) -> Cluster {
        let mut cluster = Cluster::idle(nodes, net_conf);
        for node in 1..=nodes {
            cluster.start(node, &[]);
        }
        for node in 1..=nodes {
            cluster.wait_ready(node);
        }
        cluster.wait_for_peers();
        cluster
    }

    /// A node is ready before the nodes that join later are its peers.
    #[track_caller]
    pub(super) fn wait_for_peers(&self) {
        for host in &self.underlay.hosts {
            for (key, show) in [
                ("FLANNEL_SUBNET", "ip route show proto 70"),
                ("FLANNEL_IPV6_SUBNET", "ip -6 route show proto 70"),
            ] {
                if subnet_env::value(host, key).is_none() {
                    continue;
                }
                let what = format!("{} has a route to each node", host.name);
                eventually(&what, TIMEOUT, || {
                    let peers = host.sh(show).lines().count();
                    (peers + 1 == self.underlay.hosts.len()).then_some(())
                });
            }
        }
    }

    /// Starts no daemon.
    pub(super) fn idle(nodes: usize, net_conf: &str) -> Cluster {
        let underlay = Underlay::new(nodes);
        underlay.hosts[0].sh(&format!("echo '{net_conf}' > /run/net-conf.json"));
        Cluster {
            underlay,
            daemons: (0..nodes).map(|_| None).collect(),
        }
    }

    pub(super) fn host(&self, node: usize) -> &Host {
        &self.underlay.hosts[node - 1]
    }

    pub(super) fn daemon(&mut self, node: usize) -> &mut Process {
        self.daemons[node - 1].as_mut().expect("it runs")
    }

    /// Starts flanneld with further arguments.
    pub(super) fn start(&mut self, node: usize, more: &[&str]) {
        self.start_with(node, more, &[]);
    }

    /// Starts another copy of flanneld.
    pub(super) fn start_program(&mut self, node: usize, path: &str) {
        self.start_command(node, Command::new(path), &[], &[]);
    }

    /// Starts it with further arguments and variables.
    pub(super) fn start_with(&mut self, node: usize, more: &[&str], env: &[(&str, &str)]) {
        self.start_command(node, Command::new(program("flanneld")), more, env);
    }

    fn start_command(
        &mut self,
        node: usize,
        mut command: Command,
        more: &[&str],
        env: &[(&str, &str)],
    ) {
        let store = format!("{}:8888", underlay::ip(1));
        if node == 1 {
            command.args(["--listen", &store, "-net-config-path=/run/net-conf.json"]);
        } else {
            command.args(["-remote", &store]);
        }
        command.args([
            "--insecure",
            "-ip-masq",
            "-healthz-ip=127.0.0.1",
            "-healthz-port=8081",
        ]);
        command.args(more).envs(env.iter().copied());
        self.daemons[node - 1] = Some(self.host(node).spawn(command));
    }

    pub(super) fn is_ready(&self, node: usize) -> bool {
        get(self.host(node), "/readyz").contains("flanneld is ready")
    }

    #[track_caller]
    pub(super) fn wait_ready(&mut self, node: usize) {
        let daemon = self.daemons[node - 1].as_mut().expect("it runs");
        let host = &self.underlay.hosts[node - 1];
        eventually(&format!("{} is ready", host.name), TIMEOUT, || {
            assert!(daemon.is_running(), "flanneld ended:\n{}", daemon.output());
            get(host, "/readyz")
                .contains("flanneld is ready")
                .then_some(())
        });
    }

    /// Sends SIGTERM, waits for the end within a second, and returns the log.
    #[track_caller]
    pub(super) fn stop(&mut self, node: usize) -> String {
        let mut daemon = self.daemons[node - 1].take().expect("it runs");
        daemon.signal(Signal::SIGTERM);
        let status = daemon.wait(Duration::from_secs(1));
        assert!(status.success(), "{status}\n{}", daemon.output());
        daemon.output()
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self, node: usize) {
        let mut daemon = self.daemons[node - 1].take().expect("it runs");
        daemon.signal(Signal::SIGKILL);
        daemon.wait(Duration::from_secs(1));
    }

    /// One node after the other.
    #[track_caller]
    pub(super) fn kill_and_start_each(&mut self) {
        for node in 1..=self.underlay.hosts.len() {
            thread::sleep(Duration::from_millis(300));
            self.kill(node);
            thread::sleep(Duration::from_millis(300));
            self.start(node, &[]);
            self.wait_ready(node);
        }
    }

    /// Pings from the pod of a node to each address of that of another.
    pub(super) fn ping(&self, from: usize, to: usize) -> Pings {
        Pings::start(self.host(from), self.host(to))
    }

    /// A value of subnet.env.
    pub(super) fn env(&self, node: usize, key: &str) -> String {
        subnet_env::value(self.host(node), key).unwrap_or_else(|| panic!("no {key}"))
    }

    /// The node's IPv4 subnet, "10.244.7.0/24".
    pub(super) fn subnet(&self, node: usize) -> String {
        self.env(node, "FLANNEL_SUBNET").replace(".1/24", ".0/24")
    }

    /// The node's IPv6 subnet, "fd00:10:244:7::/64".
    pub(super) fn subnet6(&self, node: usize) -> String {
        self.env(node, "FLANNEL_IPV6_SUBNET")
            .replace("::1/64", "::/64")
    }

    /// The MAC of a node's device.
    pub(super) fn mac(&self, node: usize, device: &str) -> String {
        let link = self.host(node).sh(&format!("ip -j link show {device}"));
        let link: serde_json::Value = serde_json::from_str(&link).expect("JSON");
        link[0]["address"].as_str().expect("an address").to_owned()
    }

    /// The addresses of the node's pod.
    pub(super) fn pod_ips(&self, node: usize) -> Vec<String> {
        subnet_env::pod_addresses(self.host(node))
    }

    /// A pod on the node, on a bridge, as the plugins would make it.
    pub(super) fn pod(&self, node: usize) -> Pod<'_> {
        subnet_env::pod(self.host(node))
    }

    /// Every node's pod pings every other's, in each family, once they have learned of each other.
    #[track_caller]
    pub(super) fn eventually_ping_all(&self) {
        for from in &self.underlay.hosts {
            for to in self.underlay.hosts.iter().filter(|to| to.name != from.name) {
                subnet_env::eventually_pings(&subnet_env::made_pod(from), to);
            }
        }
    }

    /// Every node's pod pings every other's, in each family, with the time to live of two hops.
    #[track_caller]
    pub(super) fn ping_all(&self, pods: &[(usize, Pod<'_>)]) {
        for (from, pod) in pods {
            for (to, _) in pods.iter().filter(|(to, _)| to != from) {
                subnet_env::ping(pod, self.host(*to));
            }
        }
    }
}

/// Head and body of the admin endpoint's answer; empty without an answer in time.
pub(crate) fn get(host: &Host, path: &str) -> String {
    host.run(|| {
        let mut answer = String::new();
        let exchanged = TcpStream::connect("127.0.0.1:8081").and_then(|mut stream| {
            stream.set_read_timeout(Some(TIMEOUT))?;
            write!(
                stream,
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )?;
            stream.read_to_string(&mut answer)
        });
        exchanged.map(|_| answer).unwrap_or_default()
    })
}

/// The answer to a POST.
pub(crate) fn post(host: &Host, address: &str, path: &str, body: &str) -> String {
    request(host, address, "POST", path, body)
}

/// The answer to a DELETE.
pub(super) fn delete(host: &Host, address: &str, path: &str) -> String {
    request(host, address, "DELETE", path, "")
}

fn request(host: &Host, address: &str, method: &str, path: &str, body: &str) -> String {
    host.run(|| {
        let mut answer = String::new();
        let mut stream = TcpStream::connect(address).expect("connect");
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("send");
        stream.read_to_string(&mut answer).expect("answer");
        answer
    })
}

#[track_caller]
pub(super) fn eventually_shows(cluster: &Cluster, node: usize, command: &str, text: &str) {
    eventually(
        &format!("`{command}` on node {node} shows {text}"),
        TIMEOUT,
        || cluster.host(node).sh(command).contains(text).then_some(()),
    );
}

/// The routes of the main table of the calling thread's namespace.
pub(super) fn main_routes(netlink: &mut Netlink) -> Vec<Route> {
    let filter = Filter {
        table: Some(linux_net::route::MAIN_TABLE),
        ..Filter::default()
    };
    netlink.routes(filter).expect("routes")
}

/// Makes a change three times, and asserts that it is undone at a notification, which takes some
/// milliseconds, not at the next look, after ten seconds. On a busy machine one of three is
/// undisturbed. `make bench` measures how long it takes.
#[track_caller]
pub(super) fn is_restored_at_once(host: &Host, change: &str, is_undone: impl Fn() -> bool) {
    let times = (0..3).map(|_| {
        host.sh(change);
        let start = Instant::now();
        eventually(&format!("restored after `{change}`"), TIMEOUT, || {
            is_undone().then_some(())
        });
        start.elapsed()
    });
    let best = times.min().expect("three attempts");
    println!("{best:?} after `{change}`");
    assert!(
        best < deadline(Duration::from_secs(1)),
        "{best:?} after `{change}`"
    );
}
