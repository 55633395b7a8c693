//! The Go flanneld on a host, as tests run ours.

use crate::{Host, Process, etcd, kubernetes, peers, process::eventually};
use nix::sys::signal::Signal;
use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    time::Duration,
};

const HEALTHZ_PORT: u16 = 8081;
const TIMEOUT: Duration = Duration::from_secs(60);

/// The reason to skip where the Go flanneld is missing.
pub fn without_go_flanneld() -> Option<String> {
    peers::built_from_go("flannel").err()
}

/// The reason to skip a scenario with the Go flanneld at an API server.
pub fn without_kubernetes_and_go_flanneld() -> Option<String> {
    without_go_flanneld().or_else(kubernetes::without_kubernetes)
}

/// The reason to skip a scenario with the Go flanneld at an etcd.
pub fn without_etcd_and_go_flanneld() -> Option<String> {
    without_go_flanneld().or_else(etcd::without_etcd)
}

/// A running Go flanneld; its files are the host's /run/flannel.
pub struct GoFlanneld {
    host: Host,
    process: Process,
}

impl GoFlanneld {
    /// `flanneld ARGUMENTS` with /healthz and /readyz at 127.0.0.1:8081.
    pub fn start(host: &Host, arguments: &[&str], variables: &[(&str, &str)]) -> GoFlanneld {
        let folder =
            peers::built_from_go("flannel").expect("without_go_flanneld() is checked before");
        let mut command = Command::new(folder.join("flannel"));
        command
            .args(arguments)
            .arg("-healthz-ip=127.0.0.1")
            .arg(format!("-healthz-port={HEALTHZ_PORT}"))
            .envs(variables.iter().copied());
        GoFlanneld {
            process: host.spawn(command),
            host: host.handle(),
        }
    }

    /// With the Kubernetes subnet manager, as the node of this name.
    pub fn kubernetes(host: &Host, node: &str, kubeconfig: &Path, net_conf: &str) -> GoFlanneld {
        host.write("/run/net-conf.json", net_conf);
        let kubeconfig = format!("-kubeconfig-file={}", kubeconfig.display());
        GoFlanneld::start(
            host,
            &[
                "-kube-subnet-mgr",
                &kubeconfig,
                "-net-config-path=/run/net-conf.json",
                "-ip-masq",
            ],
            &[("NODE_NAME", node)],
        )
    }

    /// With the etcd subnet manager and the default prefix.
    pub fn etcd(host: &Host, endpoints: &str) -> GoFlanneld {
        let endpoints = format!("-etcd-endpoints={endpoints}");
        GoFlanneld::start(host, &[&endpoints, "-ip-masq"], &[])
    }

    /// Waits until /readyz reports that it is ready.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let process = &mut self.process;
        eventually("the Go flanneld is ready", TIMEOUT, || {
            assert!(
                process.is_running(),
                "Go flanneld ended:\n{}",
                process.output()
            );
            let answer = self.host.run(|| get("/readyz")).unwrap_or_default();
            answer.contains("flanneld is ready").then_some(())
        });
    }

    /// The running process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// stdout and stderr so far.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// SIGTERM, and waits for the end; the log.
    #[track_caller]
    pub fn stop(mut self) -> String {
        self.process.signal(Signal::SIGTERM);
        self.process.wait(TIMEOUT);
        self.process.output()
    }

    /// SIGKILL.
    #[track_caller]
    pub fn kill(mut self) {
        self.process.signal(Signal::SIGKILL);
        self.process.wait(TIMEOUT);
    }
}

fn get(path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", HEALTHZ_PORT)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
