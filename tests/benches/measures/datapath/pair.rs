//! Two hosts with a pod on each.

use super::processors;
use std::{net::IpAddr, process::Command, time::Duration};
use tests::{
    Etcd, GoFlanneld, Host, Pod, Process, Underlay, binaries::program, process::eventually,
    subnet_env, underlay,
};

const SUBNET_ENV: &str = "/run/flannel/subnet.env";
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// Two hosts of one underlay, and what moves packets between their pods.
pub(in crate::measures) struct Pair {
    pub(in crate::measures) underlay: Underlay,
    // they run while it exists
    _daemons: Vec<Process>,
    _go: Vec<GoFlanneld>,
    _etcd: Option<Etcd>,
}

/// Where a stream begins or ends.
pub(super) struct Place<'p> {
    host: &'p Host,
    /// 0: the first host.
    index: usize,
    /// On the host itself else.
    in_pod: bool,
    /// Its IPv4 address.
    pub(super) ip: String,
}

impl Place<'_> {
    /// Starts a program there.
    pub(super) fn spawn(&self, command: Command) -> Process {
        self.on_processors(|| match self.pod() {
            Some(pod) => pod.spawn(command),
            None => self.host.spawn(command),
        })
    }

    /// Runs `f` in its network namespace.
    pub(super) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        match self.pod() {
            Some(pod) => pod.run(f),
            None => self.host.run(f),
        }
    }

    /// Runs `f` on its processors.
    pub(super) fn on_processors<T>(&self, f: impl FnOnce() -> T) -> T {
        processors::of_host(self.index, f)
    }

    pub(super) fn address(&self) -> IpAddr {
        self.ip.parse().expect("an address")
    }

    fn pod(&self) -> Option<Pod<'_>> {
        let name = "pod".to_owned();
        let host = self.host;
        self.in_pod.then_some(Pod { name, host })
    }
}

/// Makes devices and routes; the processes that move the packets.
pub(super) type ByHand = fn(&Pair) -> Vec<Process>;

/// A network with this backend.
fn net_conf(backend: &str) -> String {
    format!(r#"{{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{backend}}}"#)
}

impl Pair {
    /// Our flanneld on both hosts, with the lease store on the first. The error is the last line of
    /// one that ended.
    pub(in crate::measures) fn ours(backend: &str) -> Result<Pair, String> {
        let underlay = Underlay::new(2);
        let [server, client] = &underlay.hosts[..] else {
            panic!("two hosts");
        };
        server.write("/run/net-conf.json", &net_conf(backend));
        let store = format!("{}:8888", underlay::ip(1));
        let start = |index: usize, host: &Host, more: &[&str]| {
            let mut command = Command::new(program("flanneld"));
            command.args(["--insecure", "-ip-masq"]).args(more);
            processors::of_host(index, || host.spawn(command))
        };
        let mut daemons = vec![
            start(
                0,
                server,
                &["--listen", &store, "-net-config-path=/run/net-conf.json"],
            ),
            start(1, client, &["-remote", &store]),
        ];
        for (host, daemon) in underlay.hosts.iter().zip(&mut daemons) {
            eventually("flanneld writes subnet.env", TIMEOUT, || {
                let written = host.try_sh(&format!("test -e {SUBNET_ENV}"));
                if written.status.success() {
                    return Some(Ok(()));
                }
                let output = daemon.output();
                let last = output.lines().next_back().unwrap_or_default();
                (!daemon.is_running()).then(|| Err(last.to_owned()))
            })?;
        }
        Ok(Pair::with_pods(underlay, daemons, Vec::new(), None))
    }

    /// The Go flanneld on both hosts, with etcd.
    pub(super) fn go(backend: &str) -> Pair {
        let underlay = Underlay::new(2);
        let etcd = Etcd::new(&underlay.switch, underlay::GATEWAY);
        etcd.put("/coreos.com/network/config", &net_conf(backend));
        let endpoints = etcd.endpoints();
        let hosts = underlay.hosts.iter().enumerate();
        let mut go: Vec<_> = hosts
            .map(|(index, host)| processors::of_host(index, || GoFlanneld::etcd(host, &endpoints)))
            .collect();
        go.iter_mut().for_each(GoFlanneld::wait_ready);
        Pair::with_pods(underlay, Vec::new(), go, Some(etcd))
    }

    /// Hosts with the subnets and the packet filter's rules of ours, whose devices and routes
    /// `make` makes.
    pub(super) fn by_hand(ours: &Pair, make: ByHand) -> Pair {
        let underlay = Underlay::new(2);
        for (host, model) in underlay.hosts.iter().zip(&ours.underlay.hosts) {
            host.write(SUBNET_ENV, &model.sh(&format!("cat {SUBNET_ENV}")));
            host.write("/run/rules.nft", &model.sh("nft list ruleset"));
            host.sh("nft -f /run/rules.nft");
        }
        let pair = Pair {
            underlay,
            _daemons: Vec::new(),
            _go: Vec::new(),
            _etcd: None,
        };
        let processes = make(&pair);
        Pair::with_pods(pair.underlay, processes, Vec::new(), None)
    }

    /// Makes the pods, with the MTU that the plugins would give them, and waits until they reach
    /// each other.
    fn with_pods(
        underlay: Underlay,
        daemons: Vec<Process>,
        go: Vec<GoFlanneld>,
        etcd: Option<Etcd>,
    ) -> Pair {
        for host in &underlay.hosts {
            subnet_env::pod(host);
            let mtu = subnet_env::value(host, "FLANNEL_MTU").expect("FLANNEL_MTU");
            host.sh(&format!(
                "ip link set veth0 mtu {mtu} && ip -n pod link set eth0 mtu {mtu} \
                 && ip link set cni0 mtu {mtu}"
            ));
        }
        let pair = Pair {
            underlay,
            _daemons: daemons,
            _go: go,
            _etcd: etcd,
        };
        let [here, there] = pair.pods();
        for (from, to) in [(&here, &there), (&there, &here)] {
            let pod = from.pod().expect("a pod");
            subnet_env::eventually_pings(&pod, to.host);
        }
        pair
    }

    /// From a pod of the first host to one of the second.
    pub(super) fn pods(&self) -> [Place<'_>; 2] {
        let place = |index: usize| {
            let host = &self.underlay.hosts[index];
            let ip = subnet_env::pod_addresses(host).remove(0);
            Place {
                host,
                index,
                in_pod: true,
                ip,
            }
        };
        [0, 1].map(place)
    }

    /// From the first host to the second.
    pub(super) fn hosts(&self) -> [Place<'_>; 2] {
        let place = |index: usize| Place {
            host: &self.underlay.hosts[index],
            index,
            in_pod: false,
            ip: underlay::ip(index + 1),
        };
        [0, 1].map(place)
    }

    /// For each host: the host, its subnet "10.244.7.0/24", the other one's subnet and address.
    pub(super) fn peers(&self) -> [(&Host, String, String, String); 2] {
        let subnet = |index: usize| {
            let gateway = subnet_env::value(&self.underlay.hosts[index], "FLANNEL_SUBNET");
            gateway.expect("FLANNEL_SUBNET").replace(".1/", ".0/")
        };
        [0, 1].map(|index| {
            let (host, other) = (&self.underlay.hosts[index], 1 - index);
            (host, subnet(index), subnet(other), underlay::ip(other + 1))
        })
    }
}
