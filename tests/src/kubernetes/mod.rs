//! A Kubernetes API server with an etcd of its own, for tests: real nodes, real RBAC, real watches.
//!
//! It listens in a namespace of its own at port 6443. A host reaches it through a
//! [`FaultProxy`](crate::FaultProxy), or after [`ApiServer::join`] directly.

mod access;
mod client;
mod kubelets;
mod node;
mod pool;

pub use access::User;
pub use client::{Client, Patch};
pub use kubelets::KubeletUpdates;
pub use node::Node;
pub use pool::PooledApiServer;

use crate::{
    Etcd, Host, Process, Underlay, etcd, peers,
    pki::{Authority, Identity},
    process::eventually,
    sandbox, shell, underlay,
};
use access::{NAMESPACE, TOKENS};
use client::RequestError;
use nix::sys::signal::Signal;
use pool::Permit;
use serde_json::Value;
use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};
use tempfile::TempDir;

/// The port of the API server.
pub const PORT: u16 = 6443;
/// The number of the API server's addresses on an underlay: 172.31.0.200, fd31::c8.
const UNDERLAY_NUMBER: usize = 200;
const TIMEOUT: Duration = Duration::from_secs(60);

/// The reason to skip where kube-apiserver, etcd or kubectl is missing.
pub fn without_kubernetes() -> Option<String> {
    let missing = peers::kube_apiserver().err();
    missing
        .or_else(etcd::without_etcd)
        .or_else(|| peers::without_program("kubectl", "kubernetes-client"))
}

/// The reason to skip where the API server streams no lists (`sendInitialEvents`).
pub fn without_streaming_lists() -> Option<String> {
    without_kubernetes().or_else(|| {
        let debians = peers::etcd_of_kubernetes().is_relative();
        debians.then(|| {
            "streaming lists need etcd 3.4.25 or newer; KUBEBUILDER_ASSETS has none".into()
        })
    })
}

/// A running API server. What it stores disappears with it.
pub struct ApiServer {
    process: Option<Process>,
    etcd: Etcd,
    host: Host,
    authority: Authority,
    serving: Identity,
    client: Client,
    // after the processes, so that they end before their files go
    folder: TempDir,
    _permit: Permit,
}

impl ApiServer {
    /// An API server from the process's pool: it has no nodes, and flannel's namespace, service
    /// account and RBAC. When the value is dropped, the pool deletes the nodes and the pods of
    /// that namespace, and lends the server to the next scenario.
    ///
    /// A scenario that makes other objects, restarts the server or fills it takes
    /// [`ApiServer::new`].
    pub fn pooled() -> PooledApiServer {
        pool::take()
    }

    /// An API server of the caller's own. Waits while as many run as memory allows; a scenario
    /// therefore holds one at a time.
    pub fn new() -> ApiServer {
        ApiServer::start_with(Permit::acquire())
    }

    fn start_with(permit: Permit) -> ApiServer {
        let folder = sandbox::shared_folder("kubernetes");
        let host = Host::new("control-plane");
        let authority = Authority::new(folder.path());
        let serving = authority.issue("apiserver", &access::server_names());
        authority.issue("service-accounts", &[]);
        fs::write(folder.path().join("tokens.csv"), TOKENS).expect("tokens");
        let mut server = ApiServer {
            process: None,
            etcd: Etcd::of_kubernetes(&host),
            client: Client::new(&host, &authority.ca()),
            host,
            authority,
            serving,
            folder,
            _permit: permit,
        };
        server.start();
        server.restore_objects().expect("flannel's objects");
        server
    }

    /// Starts it on the data that it had, and waits until it is ready.
    #[track_caller]
    pub fn start(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    /// Starts it, and does not wait.
    pub fn spawn(&mut self) {
        let program = peers::kube_apiserver().expect("without_kubernetes() is checked before");
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let mut command = Command::new(program);
        command.args([
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            format!("--cert-dir={}", path("certificates")),
            format!("--tls-cert-file={}", self.serving.cert.display()),
            format!("--tls-private-key-file={}", self.serving.key.display()),
            format!(
                "--service-account-key-file={}",
                path("service-accounts.crt")
            ),
            format!(
                "--service-account-signing-key-file={}",
                path("service-accounts.key")
            ),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            format!("--token-auth-file={}", path("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            format!("--secure-port={PORT}"),
            // a namespace without a default route has no address to find
            "--advertise-address=127.0.0.1".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
        ]);
        self.process = Some(self.host.spawn(command));
    }

    /// Waits until /readyz reports that it is ready.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        eventually("the API server is ready", TIMEOUT, || {
            let process = self.process.as_mut().expect("it runs");
            assert!(
                process.is_running(),
                "kube-apiserver ended:\n{}",
                process.output()
            );
            let answer = self.client.try_request("GET", "/readyz", None, None).ok()?;
            (answer.0 == 200).then_some(())
        });
    }

    /// SIGKILL, so that clients see their connections end at once.
    #[track_caller]
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.signal(Signal::SIGKILL);
        process.wait(TIMEOUT);
    }

    /// Stops the process without ending it (SIGSTOP), or lets it continue (SIGCONT).
    pub fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("it runs").signal(signal);
    }

    /// stdout and stderr of kube-apiserver.
    pub fn output(&self) -> String {
        let process = self.process.as_ref();
        process.map(Process::output).unwrap_or_default()
    }

    /// The process id of kube-apiserver.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").pid()
    }

    /// The etcd behind it.
    pub fn etcd(&mut self) -> &mut Etcd {
        &mut self.etcd
    }

    /// The namespace that it listens in.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Puts it on an underlay; the URL at which the hosts reach it.
    pub fn join(&self, underlay: &Underlay) -> String {
        // that of an earlier scenario, if the kernel has not deleted it yet
        self.host.try_sh("ip link delete eth0");
        underlay.attach(&self.host, UNDERLAY_NUMBER);
        format!("https://{}:{PORT}", underlay::ip(UNDERLAY_NUMBER))
    }

    /// The file of the authority that signed the server's certificate; every host sees it.
    pub fn ca(&self) -> PathBuf {
        self.authority.ca()
    }

    /// The server's certificate and key, which are valid for a proxy on an underlay, too.
    pub fn serving(&self) -> &Identity {
        &self.serving
    }

    /// The file of a kubeconfig; every host sees it.
    pub fn kubeconfig(&self, server: &str, user: User) -> PathBuf {
        self.kubeconfig_with_token(server, user.token())
    }

    /// The same with any bearer token.
    pub fn kubeconfig_with_token(&self, server: &str, token: &str) -> PathBuf {
        let (mut file, path) = tempfile::Builder::new()
            .prefix("kubeconfig-")
            .tempfile_in(self.folder.path())
            .and_then(|file| file.keep().map_err(Into::into))
            .expect("kubeconfig");
        let text = access::kubeconfig(server, &self.ca(), token);
        file.write_all(text.as_bytes()).expect("kubeconfig");
        path
    }

    /// Gives a host the files of a pod's service account and returns the variables that a pod has:
    /// with both a daemon finds the API server at `address` as in a cluster.
    pub fn in_cluster(&self, host: &Host, address: &str, port: u16) -> [(String, String); 2] {
        let folder = "/run/secrets/kubernetes.io/serviceaccount";
        let ca = fs::read_to_string(self.ca()).expect("ca.crt");
        host.write(&format!("{folder}/ca.crt"), &ca);
        host.write(&format!("{folder}/token"), User::Flannel.token());
        host.write(&format!("{folder}/namespace"), NAMESPACE);
        [
            ("KUBERNETES_SERVICE_HOST".to_owned(), address.to_owned()),
            ("KUBERNETES_SERVICE_PORT".to_owned(), port.to_string()),
        ]
    }

    /// `kubectl ARGUMENTS` as administrator; its stdout.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let shown = format!("kubectl {}", arguments.join(" "));
        shell::checked("kubectl", &shown, &self.try_kubectl(arguments, ""))
    }

    /// `kubectl apply` of YAML or JSON.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        let output = self.try_kubectl(&["apply", "--validate=false", "-f", "-"], manifest);
        shell::checked("kubectl", "kubectl apply", &output)
    }

    /// kubectl with a text on stdin, where it may fail.
    pub fn try_kubectl(&self, arguments: &[&str], stdin: &str) -> Output {
        let server = format!("https://127.0.0.1:{PORT}");
        let mut command = Command::new(peers::program("kubectl"));
        command
            .args(["--server", &server, "--token", User::Admin.token()])
            .arg("--certificate-authority")
            .arg(self.ca())
            .arg("--cache-dir")
            .arg(self.folder.path().join("kubectl"))
            .args(arguments)
            .env("KUBECONFIG", "/dev/null");
        self.host.output(command, stdin)
    }

    /// Requests as administrator over HTTP/1.1, without kubectl.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Creates a node.
    #[track_caller]
    pub fn create_node(&self, node: &Node) {
        self.client
            .ok("POST", "/api/v1/nodes", None, Some(&node.object()));
    }

    /// Creates many nodes over a few connections.
    #[track_caller]
    pub fn create_nodes(&self, nodes: impl IntoIterator<Item = Node, IntoIter: Send>) {
        self.client
            .create_all("/api/v1/nodes", nodes.into_iter().map(|node| node.text()));
    }

    /// Deletes a node.
    #[track_caller]
    pub fn delete_node(&self, name: &str) {
        self.client.ok("DELETE", &node_path(name), None, None);
    }

    /// A node as the API server has it.
    #[track_caller]
    pub fn node(&self, name: &str) -> Value {
        self.client.ok("GET", &node_path(name), None, None)
    }

    /// An annotation of a node.
    #[track_caller]
    pub fn annotation(&self, name: &str, key: &str) -> Option<String> {
        let value = &self.node(name)["metadata"]["annotations"][key];
        value.as_str().map(str::to_owned)
    }

    /// Sets annotations of a node, or removes those without a value.
    #[track_caller]
    pub fn annotate(&self, name: &str, annotations: &[(&str, Option<&str>)]) {
        let annotations = serde_json::Map::from_iter(
            annotations
                .iter()
                .map(|(key, value)| ((*key).to_owned(), Value::from(*value))),
        );
        let patch = serde_json::json!({"metadata": {"annotations": annotations}});
        self.client
            .ok("PATCH", &node_path(name), Some(Patch::Merge), Some(&patch));
    }

    /// Gives a node without podCIDRs its podCIDRs; they cannot be changed later.
    #[track_caller]
    pub fn assign_pod_cidrs(&self, name: &str, pod_cidrs: &[&str]) {
        let patch =
            serde_json::json!({"spec": {"podCIDR": pod_cidrs.first(), "podCIDRs": pod_cidrs}});
        self.client.ok(
            "PATCH",
            &node_path(name),
            Some(Patch::Strategic),
            Some(&patch),
        );
    }

    /// A condition of a node.
    #[track_caller]
    pub fn condition(&self, name: &str, kind: &str) -> Option<Value> {
        let node = self.node(name);
        let conditions = node["status"]["conditions"].as_array()?;
        let found = conditions
            .iter()
            .find(|condition| condition["type"] == kind);
        found.cloned()
    }

    /// Sets a condition of a node, as the controller manager or a kubelet does.
    #[track_caller]
    pub fn set_condition(&self, name: &str, condition: &Value) {
        let patch = serde_json::json!({"status": {"conditions": [condition]}});
        let path = format!("{}/status", node_path(name));
        self.client
            .ok("PATCH", &path, Some(Patch::Strategic), Some(&patch));
    }

    /// Removes a condition of a node.
    #[track_caller]
    pub fn remove_condition(&self, name: &str, kind: &str) {
        let removed = serde_json::json!({"$patch": "delete", "type": kind});
        self.set_condition(name, &removed);
    }

    /// Updates the status of nodes as their kubelets do, until the value is dropped.
    pub fn simulate_kubelets(&self, names: Vec<String>, interval: Duration) -> KubeletUpdates {
        KubeletUpdates::start(&self.client, names, interval)
    }

    /// Creates a pod of flannel's namespace on a node, as the DaemonSet does.
    #[track_caller]
    pub fn create_pod(&self, name: &str, node: &str) {
        let pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {
                "nodeName": node, "serviceAccountName": "flannel", "hostNetwork": true,
                "containers": [{"name": "kube-flannel", "image": "flannel"}],
            },
        });
        self.client.ok("POST", &pods(), None, Some(&pod));
    }

    /// Deletes the nodes and the pods of flannel's namespace, and restores what a scenario finds.
    fn reset(&self) -> Result<(), RequestError> {
        let pods = format!("{}?gracePeriodSeconds=0", pods());
        for path in ["/api/v1/nodes", &pods] {
            self.client.succeed("DELETE", path, None)?;
        }
        self.restore_objects()
    }

    fn restore_objects(&self) -> Result<(), RequestError> {
        for (path, object) in access::objects() {
            match self.client.succeed("PUT", &path, Some(&object)) {
                // no PUT creates these
                Err(RequestError::Status(404, _)) => {
                    let (collection, _) = path.rsplit_once('/').expect("a path");
                    self.client.succeed("POST", collection, Some(&object))?;
                }
                put => put?,
            }
        }
        // the server's authorizer follows the stored roles with a delay
        let flannel = self.client.as_user(User::Flannel);
        eventually("flannel's account may list nodes", TIMEOUT, || {
            flannel.succeed("GET", "/api/v1/nodes?limit=1", None).ok()
        });
        Ok(())
    }
}

impl Default for ApiServer {
    fn default() -> ApiServer {
        ApiServer::new()
    }
}

fn node_path(name: &str) -> String {
    format!("/api/v1/nodes/{name}")
}

/// The path of the pods of flannel's namespace.
fn pods() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods")
}
