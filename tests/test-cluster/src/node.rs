//! A node: containerd, kubelet and kube-proxy on a host.

use crate::{control_plane::ControlPlane, machine, machine::Programs, users, workload};
use runtimes::image;
use serde_json::json;
use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tests::{Host, Pod, Process, page::Page, process::eventually, underlay};

const SOCKET: &str = "/run/containerd/containerd.sock";
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// What kubelet wants of the kernel.
const SYSCTLS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];
/// The lines of a log that a failure shows.
const LAST_LINES: usize = 30;

/// A running node.
pub(crate) struct Node<'u> {
    pub(crate) name: String,
    pub(crate) host: &'u Host,
    number: usize,
    kubernetes: PathBuf,
    containerd: Process,
    proxy: Process,
    kubelet: Process,
}

impl<'u> Node<'u> {
    /// Starts a node on host N (from 1) of the underlay, with the images of the test in containerd.
    pub(crate) fn start(
        programs: &Programs,
        control_plane: &ControlPlane,
        host: &'u Host,
        number: usize,
    ) -> Node<'u> {
        let name = format!("node{number}");
        prepare(host);
        let containerd = start_containerd(programs, host);
        import(programs, host, &programs.image);
        import(
            programs,
            host,
            &Path::new(workload::IMAGE_FOLDER).join("busybox.tar"),
        );
        let kubernetes = programs.kubernetes.clone();
        let proxy = start_proxy(&kubernetes, control_plane, host, &name);
        let kubelet = start_kubelet(&kubernetes, control_plane, host, number);
        Node {
            name,
            host,
            number,
            kubernetes,
            containerd,
            proxy,
            kubelet,
        }
    }

    /// Imports the archive of an image.
    pub(crate) fn import(&self, programs: &Programs, archive: &Path) {
        import(programs, self.host, archive);
    }

    /// Ends kubelet and starts it again: it registers its node if that was deleted.
    pub(crate) fn restart_kubelet(&mut self, control_plane: &ControlPlane) {
        self.kubelet.signal(nix::sys::signal::Signal::SIGTERM);
        self.kubelet.wait(START_TIMEOUT);
        self.kubelet = start_kubelet(&self.kubernetes, control_plane, self.host, self.number);
    }

    /// The network namespace of the pod with an address.
    #[track_caller]
    pub(crate) fn pod(&self, address: &str) -> Pod<'u> {
        let name = self.host.sh(&format!(
            "for ns in /run/netns/*; do
                nsenter --net=$ns ip -o -4 address | grep -q ' {address}/' && basename $ns
            done; true"
        ));
        assert_eq!(name.lines().count(), 1, "{}: {address}: {name}", self.name);
        Pod {
            name: name.trim().to_owned(),
            host: self.host,
        }
    }

    /// The end of each program's log, for a failure.
    pub(crate) fn logs(&self) -> String {
        let logs = [&self.containerd, &self.proxy, &self.kubelet];
        logs.map(|process| tail(&process.output())).concat()
    }
}

/// The end of a log.
pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    format!("...\n{}\n", last.join("\n"))
}

/// Gives a host its own /etc and /var/log, and keeps kubelet from the machine's sysctls: it reads
/// the value that it wants from a file that is mounted over each, and writes nothing.
fn prepare(host: &Host) {
    host.sh(
        "mkdir -p /run/etc/new /run/etc/work \
        && mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/new,workdir=/run/etc/work overlay /etc \
        && mkdir -p /etc/cni/net.d /opt/cni/bin && rm -rf /etc/cni/net.d/* \
        && mount -t tmpfs tmpfs /var/log",
    );
    for (sysctl, value) in SYSCTLS {
        let file = format!("/run/sysctl/{sysctl}");
        host.write(&file, value);
        host.sh(&format!("mount --bind {file} /proc/sys/{sysctl}"));
    }
}

fn start_containerd(programs: &Programs, host: &Host) -> Process {
    let settings = Page::open("runtimes.md").file("containerd 2", "toml");
    let configuration = format!(
        "root = '/var/lib/containerd'
state = '/run/containerd'
disabled_plugins = ['io.containerd.internal.v1.opt']
{settings}
[grpc]
address = '{SOCKET}'
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
disable_apparmor = true
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{}'
",
        image::NAME
    );
    host.write("/run/containerd.toml", &configuration);
    let mut command = Command::new(programs.containerd.join("containerd"));
    let path = env::var("PATH").unwrap_or_default();
    command
        .args(["--config", "/run/containerd.toml"])
        .env("PATH", format!("{}:{path}", programs.containerd.display()));
    let mut process = host.spawn(command);
    eventually("containerd answers", START_TIMEOUT, || {
        assert!(process.is_running(), "containerd:\n{}", process.output());
        let version = format!("{} version", ctr(programs));
        host.try_sh(&version).status.success().then_some(())
    });
    process
}

fn ctr(programs: &Programs) -> String {
    format!(
        "{} --address {SOCKET}",
        programs.containerd.join("ctr").display()
    )
}

fn import(programs: &Programs, host: &Host, archive: &Path) {
    host.sh(&format!(
        "{} -n k8s.io images import {}",
        ctr(programs),
        archive.display()
    ));
}

fn start_proxy(
    kubernetes: &Path,
    control_plane: &ControlPlane,
    host: &Host,
    node: &str,
) -> Process {
    let kubeconfig = control_plane.kubeconfig(users::PROXY);
    let mut command = Command::new(kubernetes.join("kube-proxy"));
    command
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--hostname-override={node}"))
        .arg(format!("--cluster-cidr={}", crate::control_plane::CLUSTER_CIDR))
        // these sysctls are the whole machine's
        .args(["--conntrack-max-per-core=0", "--conntrack-min=0"])
        .args(["--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0"])
        .args(["--proxy-mode=iptables", "--healthz-bind-address=127.0.0.1"]);
    host.spawn(command)
}

fn start_kubelet(
    kubernetes: &Path,
    control_plane: &ControlPlane,
    host: &Host,
    number: usize,
) -> Process {
    let name = format!("node{number}");
    let group = machine::control_group(&name);
    host.run(|| machine::create_control_group(&group));
    let configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": group,
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        // the folders of the node are in memory
        "evictionHard": {"memory.available": "1Mi"},
        "imageMinimumGCAge": "1h",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "resolvConf": "",
    });
    host.write("/run/kubelet.json", &configuration.to_string());
    let kubeconfig = control_plane.kubeconfig(&users::kubelet(&name));
    let mut command = Command::new(kubernetes.join("kubelet"));
    command
        .args([
            "--config=/run/kubelet.json",
            "--cert-dir=/var/lib/kubelet/pki",
        ])
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--hostname-override={name}"))
        .arg(format!("--node-ip={}", underlay::ip(number)));
    host.spawn(command)
}
