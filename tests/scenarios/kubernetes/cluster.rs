//! Nodes of one API server, on hosts of an underlay, with a flanneld of either make on each. The
//! hosts reach the API server through a proxy.

use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::Command,
    time::Duration,
};
use tests::{
    FaultProxy, GoFlanneld, Host, Process, Underlay,
    binaries::program,
    kubernetes::{ApiServer, Node, PooledApiServer, User},
    process::eventually,
};

pub(super) const V4: &str =
    r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;
pub(super) const V6: &str = r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;
pub(super) const DUAL: &str = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;

pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const PREFIX: &str = "flannel.alpha.coreos.com/";
const NET_CONF_PATH: &str = "/run/net-conf.json";

/// Hosts are numbered from 1; the node of host N is "hostN".
pub(super) struct Cluster {
    pub(super) underlay: Underlay,
    pub(super) proxy: FaultProxy,
    pub(super) net_conf: &'static str,
    kubeconfig: PathBuf,
    // the proxy uses it
    pub(super) server: PooledApiServer,
}

impl Cluster {
    /// Hosts without nodes.
    pub(super) fn without_nodes(hosts: usize, net_conf: &'static str) -> Cluster {
        let server = ApiServer::pooled();
        let underlay = Underlay::new(hosts);
        let proxy = FaultProxy::kubernetes(&server, &underlay.switch, "172.31.0.254:6443");
        Cluster {
            kubeconfig: server.kubeconfig(&proxy.url(), User::Flannel),
            underlay,
            proxy,
            net_conf,
            server,
        }
    }

    /// A node for each host, with podCIDRs of the network's families.
    pub(super) fn new(hosts: usize, net_conf: &'static str) -> Cluster {
        let cluster = Cluster::without_nodes(hosts, net_conf);
        for number in 1..=hosts {
            cluster.create_node(number, number);
        }
        cluster
    }

    /// The node of a host, with the podCIDRs of that number.
    pub(super) fn create_node(&self, host: usize, subnet: usize) {
        let pod_cidrs = self.pod_cidrs(subnet);
        let pod_cidrs: Vec<&str> = pod_cidrs.iter().map(String::as_str).collect();
        self.server
            .create_node(&Node::of_host(host).pod_cidrs(&pod_cidrs));
    }

    /// 10.244.N.0/24, fd00:10:244:N::/64
    pub(super) fn pod_cidrs(&self, number: usize) -> Vec<String> {
        let v4 = (self.net_conf != V6).then(|| format!("10.244.{number}.0/24"));
        let v6 = (self.net_conf != V4).then(|| format!("fd00:10:244:{number}::/64"));
        v4.into_iter().chain(v6).collect()
    }

    pub(super) fn host(&self, number: usize) -> &Host {
        &self.underlay.hosts[number - 1]
    }

    /// Our flanneld on a host.
    pub(super) fn start(&self, number: usize) -> Flanneld {
        let name = format!("host{number}");
        self.start_with(number, &[], &[("NODE_NAME", &name)])
    }

    /// With further arguments, and these variables only.
    pub(super) fn start_with(
        &self,
        number: usize,
        more: &[&str],
        variables: &[(&str, &str)],
    ) -> Flanneld {
        let kubeconfig = format!("-kubeconfig-file={}", self.kubeconfig.display());
        let arguments: Vec<&str> = [kubeconfig.as_str()]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        self.host(number).write(NET_CONF_PATH, self.net_conf);
        Flanneld::start(self.host(number), &arguments, variables)
    }

    /// Our flanneld on every host, ready.
    pub(super) fn start_all(&self) -> Vec<Flanneld> {
        let mut daemons: Vec<_> = (1..=self.underlay.hosts.len())
            .map(|number| self.start(number))
            .collect();
        for daemon in &mut daemons {
            daemon.wait_ready();
        }
        daemons
    }

    /// The Go flanneld on a host.
    pub(super) fn start_go(&self, number: usize) -> GoFlanneld {
        let name = format!("host{number}");
        GoFlanneld::kubernetes(self.host(number), &name, &self.kubeconfig, self.net_conf)
    }

    /// flannel's annotations of a node, without their prefix.
    pub(super) fn annotations(&self, number: usize) -> BTreeMap<String, String> {
        let node = self.server.node(&format!("host{number}"));
        let Some(annotations) = node["metadata"]["annotations"].as_object() else {
            return BTreeMap::new();
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        annotations
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?.to_owned(), text(value))))
            .collect()
    }

    /// An annotation of a node; empty if there is none.
    pub(super) fn annotation(&self, number: usize, name: &str) -> String {
        self.annotations(number).remove(name).unwrap_or_default()
    }

    /// Sets or removes an annotation of a node.
    pub(super) fn annotate(&self, number: usize, name: &str, value: Option<&str>) {
        let key = format!("{PREFIX}{name}");
        self.server
            .annotate(&format!("host{number}"), &[(&key, value)]);
    }

    /// Waits until an annotation of a node has a value.
    #[track_caller]
    pub(super) fn wait_annotation(&self, number: usize, name: &str, value: &str) {
        eventually(
            &format!("annotation {name} of host{number} is {value:?}"),
            TIMEOUT,
            || (self.annotation(number, name) == value).then_some(()),
        );
    }

    /// The condition NetworkUnavailable of a node.
    pub(super) fn condition(&self, number: usize) -> Option<Value> {
        self.server
            .condition(&format!("host{number}"), "NetworkUnavailable")
    }

    /// Waits until flanneld set the condition.
    #[track_caller]
    pub(super) fn wait_condition(&self, number: usize) -> Value {
        eventually(
            &format!("NetworkUnavailable of host{number} is False"),
            TIMEOUT,
            || {
                self.condition(number).filter(|condition| {
                    condition["status"] == "False" && condition["reason"] == "FlannelIsUp"
                })
            },
        )
    }

    /// Waits until a command on a host shows a text.
    #[track_caller]
    pub(super) fn wait_shows(&self, number: usize, command: &str, text: &str) {
        eventually(
            &format!("`{command}` on host{number} shows {text}"),
            TIMEOUT,
            || {
                // a device that is made again is missing for a moment
                let output = self.host(number).try_sh(command);
                String::from_utf8_lossy(&output.stdout)
                    .contains(text)
                    .then_some(())
            },
        );
    }
}

/// Our flanneld with the Kubernetes subnet manager.
pub(super) struct Flanneld {
    host: Host,
    pub(super) process: Process,
}

impl Flanneld {
    /// With the network configuration that the host has at /run/net-conf.json.
    pub(super) fn start(host: &Host, more: &[&str], variables: &[(&str, &str)]) -> Flanneld {
        let mut command = Command::new(program("flanneld"));
        command
            .args([
                "-kube-subnet-mgr",
                "-net-config-path=/run/net-conf.json",
                "-ip-masq",
                "-healthz-ip=127.0.0.1",
                "-healthz-port=8081",
            ])
            .args(more)
            .envs(variables.iter().copied());
        Flanneld {
            process: host.spawn(command),
            host: host.handle(),
        }
    }

    /// Head and body of /readyz?verbose; empty without an answer.
    pub(super) fn status(&self) -> String {
        self.host.run(|| {
            let mut answer = String::new();
            let exchanged = TcpStream::connect("127.0.0.1:8081").and_then(|mut stream| {
                write!(stream, "GET /readyz?verbose HTTP/1.0\r\n\r\n")?;
                stream.read_to_string(&mut answer)
            });
            exchanged.map(|_| answer).unwrap_or_default()
        })
    }

    /// Waits until /readyz answers 200.
    #[track_caller]
    pub(super) fn wait_ready(&mut self) {
        eventually(&format!("{} is ready", self.host.name), TIMEOUT, || {
            self.assert_runs();
            self.status().contains(" 200 ").then_some(())
        });
    }

    /// Waits until /readyz?verbose shows each text.
    #[track_caller]
    pub(super) fn wait_status(&mut self, texts: &[&str]) {
        let mut status = String::new();
        let deadline = std::time::Instant::now() + TIMEOUT;
        while !texts.iter().all(|text| status.contains(text)) {
            self.assert_runs();
            let output = self.output();
            assert!(
                std::time::Instant::now() < deadline,
                "not shown: {texts:?}; shown: {status}\n{output}"
            );
            std::thread::sleep(Duration::from_millis(10));
            status = self.status();
        }
    }

    #[track_caller]
    fn assert_runs(&mut self) {
        assert!(
            self.process.is_running(),
            "flanneld ended:\n{}",
            self.output()
        );
    }

    pub(super) fn output(&self) -> String {
        self.process.output()
    }

    /// SIGTERM, and waits for the end; the log.
    #[track_caller]
    pub(super) fn stop(mut self) -> String {
        self.process.signal(nix::sys::signal::Signal::SIGTERM);
        let status = self.process.wait(Duration::from_secs(2));
        assert!(status.success(), "{status}\n{}", self.output());
        self.output()
    }
}
