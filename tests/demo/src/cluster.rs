//! The cluster of the demo: underlay, hosts, daemons and pods.

use crate::print::step;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::symlink,
    process::Command,
    time::Duration,
};
use tests::{
    Host, Pod, Process, Underlay,
    binaries::{self, BIN},
    process::eventually,
    underlay,
};

const HOSTS: usize = 3;
const PODS_PER_HOST: usize = 2;
/// The network configuration that the lease server serves.
const NET_CONF: &str = r#"{
  "Network": "10.244.0.0/16",
  "IPv6Network": "fd00:10:244::/48",
  "EnableIPv6": true,
  "EnableNFTables": true,
  "Backend": {"Type": "vxlan"}
}
"#;
const CONF_LIST: &str = include_str!("../../../cni-conf/net.d/10-flannel.conflist");
/// The port of the lease server.
const LEASE_PORT: u16 = 8888;
/// `cnitool` with its environment on a host.
pub(crate) const CNITOOL: &str =
    "CNI_PATH=/opt/cni/bin NETCONFPATH=/opt/cni/net.d /opt/bin/cnitool";

/// A pod that is attached to the network.
#[derive(Clone)]
pub(crate) struct Attached {
    /// Index of the host.
    pub host: usize,
    /// Name of the namespace.
    pub name: String,
    /// IPv4 address.
    pub ip: String,
    /// IPv6 address.
    pub ip6: String,
    /// Port of the host that portmap maps to port 80 of the pod.
    pub host_port: u16,
}

/// Hosts with daemons and pods.
pub(crate) struct Cluster {
    /// The network between the hosts.
    pub underlay: Underlay,
    /// The flanneld of each host, in the same order.
    pub daemons: Vec<Process>,
    /// The pods of all hosts.
    pub pods: Vec<Attached>,
}

impl Cluster {
    /// Hosts with the suite installed and flanneld ready.
    pub(crate) fn build() -> Cluster {
        let underlay = Underlay::new(HOSTS);
        for (number, host) in (1..).zip(&underlay.hosts) {
            install(host);
            step(&format!(
                "{}: eth0 {} and {}",
                host.name,
                underlay::ip(number),
                underlay::ip6(number)
            ));
        }
        let mut cluster = Cluster {
            underlay,
            daemons: Vec::new(),
            pods: Vec::new(),
        };
        for number in 1..=HOSTS {
            cluster.start_daemon(number);
        }
        cluster
    }

    fn start_daemon(&mut self, number: usize) {
        let host = &self.underlay.hosts[number - 1];
        let store = format!("{}:{LEASE_PORT}", underlay::ip(1));
        let role = if number == 1 {
            vec![
                "-listen".to_owned(),
                store,
                "-net-config-path=/opt/flannel/net-conf.json".to_owned(),
            ]
        } else {
            vec!["-remote".to_owned(), store]
        };
        let mut command = Command::new("/opt/bin/flanneld");
        command.args(&role).args([
            "-insecure",
            "-iface=eth0",
            "-ip-masq",
            "-healthz-ip=127.0.0.1",
            "-healthz-port=8081",
        ]);
        step(&format!("{}: flanneld {}", host.name, role.join(" ")));
        let daemon = host.spawn(command);
        eventually(
            &format!("{}: /readyz reports ready", host.name),
            Duration::from_secs(20),
            || {
                assert!(
                    fs::exists(format!("/proc/{}", daemon.pid())).unwrap_or(false),
                    "flanneld ended:\n{}",
                    daemon.output()
                );
                ready(host).then_some(())
            },
        );
        self.daemons.push(daemon);
    }

    /// Makes the pods' namespaces and attaches them.
    pub(crate) fn attach_pods(&mut self) {
        let mut pods = Vec::new();
        for (index, host) in self.underlay.hosts.iter().enumerate() {
            for number in 1..=PODS_PER_HOST {
                pods.push(attach(host, index, number));
            }
        }
        self.pods = pods;
    }

    /// The pod's namespace.
    pub(crate) fn pod(&self, pod: &Attached) -> Pod<'_> {
        Pod {
            name: pod.name.clone(),
            host: &self.underlay.hosts[pod.host],
        }
    }
}

fn install(host: &Host) {
    host.write("/opt/cni/net.d/10-flannel.conflist", CONF_LIST);
    host.write("/opt/flannel/net-conf.json", NET_CONF);
    host.run(|| {
        binaries::install_suite(BIN.as_ref());
        fs::create_dir_all("/opt/bin")?;
        ["cnitool", "flanneld"]
            .into_iter()
            .try_for_each(|name| symlink(binaries::program(name), format!("/opt/bin/{name}")))
    })
    .expect("install");
}

fn ready(host: &Host) -> bool {
    host.run(|| {
        let mut answer = String::new();
        TcpStream::connect("127.0.0.1:8081")
            .and_then(|mut stream| {
                stream.write_all(
                    b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                )?;
                stream.read_to_string(&mut answer)
            })
            .is_ok()
            && answer.starts_with("HTTP/1.1 200")
    })
}

fn attach(host: &Host, index: usize, number: usize) -> Attached {
    let name = format!("{}-pod{number}", host.name);
    let host_port = 8080 + number as u16;
    let pod = host.pod(&name);
    let ports = format!(
        r#"{{"portMappings":[{{"hostPort":{host_port},"containerPort":80,"protocol":"tcp"}}]}}"#
    );
    let result = host.sh(&format!(
        "CAP_ARGS='{ports}' {CNITOOL} add cbr0 {}",
        pod.path()
    ));
    let result: serde_json::Value = serde_json::from_str(&result).expect("cnitool prints a result");
    let address = |v6: bool| {
        let ips = result["ips"].as_array().expect("ips");
        let of_family = |ip: &&str| ip.contains(':') == v6;
        let cidr = ips
            .iter()
            .filter_map(|ip| ip["address"].as_str())
            .find(of_family);
        cidr.and_then(|cidr| cidr.split('/').next())
            .expect("an address of each family")
            .to_owned()
    };
    let attached = Attached {
        host: index,
        ip: address(false),
        ip6: address(true),
        name,
        host_port,
    };
    step(&format!(
        "{}: cnitool add cbr0 {} -> {} and {}, host port {host_port} -> 80",
        host.name,
        pod.path(),
        attached.ip,
        attached.ip6
    ));
    attached
}
