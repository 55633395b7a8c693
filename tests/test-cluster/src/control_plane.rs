//! etcd, API server, controller manager and scheduler, on a host of their own.

use crate::{machine::Programs, users};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};
use tempfile::TempDir;
use tests::{
    Etcd, Host, Process, Underlay, pki::Authority, process::eventually, sandbox, underlay,
};

/// The number of the control plane's addresses on the underlay.
const NUMBER: usize = 200;
const PORT: u16 = 6443;
/// Of the pods.
pub(crate) const CLUSTER_CIDR: &str = "10.244.0.0/16";
const SERVICE_CIDR: &str = "10.96.0.0/16";
const READY_TIMEOUT: Duration = Duration::from_secs(90);

/// The control plane of a cluster.
pub(crate) struct ControlPlane {
    pub(crate) host: Host,
    processes: Vec<Process>,
    controller_manager: Option<Process>,
    _etcd: Etcd,
    kubernetes: PathBuf,
    folder: TempDir,
}

impl ControlPlane {
    /// Starts it and waits until the API server is ready. Nodes get no podCIDR yet.
    pub(crate) fn start(programs: &Programs, underlay: &Underlay) -> ControlPlane {
        let folder = sandbox::shared_folder("control-plane");
        let host = Host::new("control-plane");
        underlay.attach(&host, NUMBER);
        let authority = Authority::new(folder.path());
        let names = [
            &address(),
            "127.0.0.1",
            "10.96.0.1",
            "localhost",
            "kubernetes.default.svc",
        ];
        authority.issue("apiserver", &names);
        authority.issue("service-accounts", &[]);
        fs::write(folder.path().join("tokens.csv"), users::tokens()).expect("tokens");
        let mut control_plane = ControlPlane {
            processes: Vec::new(),
            controller_manager: None,
            _etcd: Etcd::of_kubernetes(&host),
            kubernetes: programs.kubernetes.clone(),
            host,
            folder,
        };
        control_plane.start_api_server();
        control_plane.start_controller_manager(false);
        let kubeconfig = control_plane.kubeconfig(users::SCHEDULER);
        control_plane.start_program(
            "kube-scheduler",
            &[
                format!("--kubeconfig={}", kubeconfig.display()),
                "--leader-elect=false".into(),
                "--bind-address=127.0.0.1".into(),
            ],
        );
        control_plane
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn spawn(&self, name: &str, arguments: &[String]) -> Process {
        let mut command = Command::new(self.kubernetes.join(name));
        command.args(arguments);
        self.host.spawn(command)
    }

    fn start_program(&mut self, name: &str, arguments: &[String]) {
        let process = self.spawn(name, arguments);
        self.processes.push(process);
    }

    fn start_api_server(&mut self) {
        let service_accounts = self.path("service-accounts.key");
        self.start_program(
            "kube-apiserver",
            &[
                "--etcd-servers=http://127.0.0.1:2379".into(),
                format!("--cert-dir={}", self.path("certificates")),
                format!("--tls-cert-file={}", self.path("apiserver.crt")),
                format!("--tls-private-key-file={}", self.path("apiserver.key")),
                format!(
                    "--service-account-key-file={}",
                    self.path("service-accounts.crt")
                ),
                format!("--service-account-signing-key-file={service_accounts}"),
                "--service-account-issuer=https://kubernetes.default.svc".into(),
                format!("--service-cluster-ip-range={SERVICE_CIDR}"),
                format!("--token-auth-file={}", self.path("tokens.csv")),
                "--authorization-mode=Node,RBAC".into(),
                "--enable-admission-plugins=NodeRestriction".into(),
                "--allow-privileged=true".into(),
                format!("--secure-port={PORT}"),
                format!("--advertise-address={}", address()),
                "--kubelet-preferred-address-types=InternalIP".into(),
            ],
        );
        eventually("the API server is ready", READY_TIMEOUT, || {
            let process = &mut self.processes[0];
            assert!(
                process.is_running(),
                "kube-apiserver:\n{}",
                process.output()
            );
            self.try_kubectl(&["get", "--raw", "/readyz"], "")
                .status
                .success()
                .then_some(())
        });
    }

    /// Starts the controller manager, or replaces it: with or without podCIDRs for nodes.
    pub(crate) fn start_controller_manager(&mut self, allocate_pod_cidrs: bool) {
        self.controller_manager = None;
        let kubeconfig = self.kubeconfig(users::ADMIN);
        let process = self.spawn(
            "kube-controller-manager",
            &[
                format!("--kubeconfig={}", kubeconfig.display()),
                "--leader-elect=false".into(),
                "--bind-address=127.0.0.1".into(),
                format!(
                    "--service-account-private-key-file={}",
                    self.path("service-accounts.key")
                ),
                format!("--root-ca-file={}", self.path("ca.crt")),
                format!("--allocate-node-cidrs={allocate_pod_cidrs}"),
                format!("--cluster-cidr={CLUSTER_CIDR}"),
                format!("--service-cluster-ip-range={SERVICE_CIDR}"),
            ],
        );
        self.controller_manager = Some(process);
    }

    /// The file of a kubeconfig; every host sees it.
    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        let path = self
            .folder
            .path()
            .join(format!("{}.kubeconfig", user.replace(':', "-")));
        let server = format!("https://{}:{PORT}", address());
        let text = users::kubeconfig(&server, &self.path("ca.crt"), user);
        fs::write(&path, text).expect("kubeconfig");
        path
    }

    /// `kubectl ARGUMENTS` as administrator; its stdout.
    #[track_caller]
    pub(crate) fn kubectl(&self, arguments: &str) -> String {
        let words: Vec<_> = arguments.split(' ').collect();
        self.checked(&words, "")
    }

    /// `kubectl apply` of YAML.
    #[track_caller]
    pub(crate) fn apply(&self, manifest: &str) -> String {
        self.checked(&["apply", "-f", "-"], manifest)
    }

    /// An object, or a list of them, as JSON.
    #[track_caller]
    pub(crate) fn get(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.kubectl(&format!("get {arguments} -o json"))).expect("JSON")
    }

    #[track_caller]
    fn checked(&self, words: &[&str], stdin: &str) -> String {
        let output = self.try_kubectl(words, stdin);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "kubectl {}: {}{}",
            words.join(" "),
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// kubectl where it may fail.
    pub(crate) fn try_kubectl(&self, words: &[&str], stdin: &str) -> Output {
        let kubeconfig = self.kubeconfig_path();
        let mut command = Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(["--cache-dir", &self.path("kubectl")])
            .args(words);
        self.host.output(command, stdin)
    }

    fn kubeconfig_path(&self) -> PathBuf {
        let path = self
            .folder
            .path()
            .join(format!("{}.kubeconfig", users::ADMIN));
        if Path::exists(&path) {
            path
        } else {
            self.kubeconfig(users::ADMIN)
        }
    }

    /// The end of each program's log, for a failure.
    pub(crate) fn logs(&self) -> String {
        let processes = self.processes.iter().chain(&self.controller_manager);
        processes
            .map(|process| crate::node::tail(&process.output()))
            .collect()
    }
}

/// The address of the API server.
pub(crate) fn address() -> String {
    underlay::ip(NUMBER)
}
