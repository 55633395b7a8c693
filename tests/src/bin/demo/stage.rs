//! The stage: underlay, hosts, daemons, pods.

use crate::say::step;
use std::{fs, process::Command, time::Duration};
use tests::{Host, Pod, Process, Underlay, binaries, process::eventually, underlay};

/// Hosts, pods per host.
pub const HOSTS: usize = 3;
const PODS: usize = 2;
/// What the lease server hands out.
pub const NET_CONF: &str = r#"{
  "Network": "10.244.0.0/16",
  "IPv6Network": "fd00:10:244::/48",
  "EnableIPv6": true,
  "EnableNFTables": true,
  "Backend": {"Type": "vxlan"}
}
"#;
const CONF_LIST: &str = include_str!("../../../../cni-conf/net.d/10-flannel.conflist");
/// The port of the embedded lease store.
const LEASE_PORT: u16 = 8888;
/// How `cnitool` is called on a host.
pub const CNITOOL: &str = "CNI_PATH=/opt/cni/bin NETCONFPATH=/opt/cni/net.d /opt/bin/cnitool";

/// A pod that runs.
#[derive(Clone)]
pub struct Attached {
    /// index of its host
    pub host: usize,
    /// its namespace's name
    pub name: String,
    /// its address
    pub ip: String,
    /// its IPv6 address
    pub ip6: String,
    /// the host's port that leads to its port 80
    pub host_port: u16,
}

/// Everything that is up.
pub struct Stage {
    /// the private network
    pub underlay: Underlay,
    /// a flanneld for each host, in the same order
    pub daemons: Vec<Process>,
    /// every pod
    pub pods: Vec<Attached>,
}

impl Stage {
    /// Hosts with the suite installed and flanneld ready.
    pub fn build() -> Stage {
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
        let mut stage = Stage {
            underlay,
            daemons: Vec::new(),
            pods: Vec::new(),
        };
        for number in 1..=HOSTS {
            stage.start_daemon(number);
        }
        stage
    }

    fn start_daemon(&mut self, number: usize) {
        let host = &self.underlay.hosts[number - 1];
        let store = format!("{}:{LEASE_PORT}", underlay::ip(1));
        let role = if number == 1 {
            vec![
                "--listen".to_owned(),
                store,
                "--net-config-path=/opt/flannel/net-conf.json".to_owned(),
            ]
        } else {
            vec!["--remote".to_owned(), store]
        };
        let mut command = Command::new("/opt/bin/flanneld");
        command.args(&role).args([
            "--insecure",
            "-iface=eth0",
            "-ip-masq",
            "-healthz-ip=127.0.0.1",
            "-healthz-port=8081",
        ]);
        step(&format!("{}: flanneld {}", host.name, role.join(" ")));
        let daemon = host.spawn(command);
        eventually(
            &format!("{}: /readyz says ready", host.name),
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
    pub fn attach_pods(&mut self) {
        let mut pods = Vec::new();
        for (index, host) in self.underlay.hosts.iter().enumerate() {
            for number in 1..=PODS {
                pods.push(attach(host, index, number));
            }
        }
        self.pods = pods;
    }

    /// The pod's namespace.
    pub fn pod(&self, pod: &Attached) -> Pod<'_> {
        Pod {
            name: pod.name.clone(),
            host: &self.underlay.hosts[pod.host],
        }
    }
}

fn install(host: &Host) {
    host.run(|| {
        binaries::install_suite("/opt/cni/bin".as_ref());
        fs::create_dir_all("/opt/bin")?;
        for name in ["cnitool", "flanneld"] {
            std::os::unix::fs::symlink(binaries::program(name), format!("/opt/bin/{name}"))?;
        }
        fs::create_dir_all("/opt/cni/net.d")?;
        fs::write("/opt/cni/net.d/10-flannel.conflist", CONF_LIST)?;
        fs::create_dir_all("/opt/flannel")?;
        fs::write("/opt/flannel/net-conf.json", NET_CONF)
    })
    .expect("install");
}

fn ready(host: &Host) -> bool {
    use std::{
        io::{Read, Write},
        net::TcpStream,
    };
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
    let address = |six: bool| {
        let ips = result["ips"].as_array().expect("ips");
        let of_family = |ip: &&str| ip.contains(':') == six;
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
