//! Who may do what at the API server of a test: users, tokens, RBAC, kubeconfig files.

use crate::underlay;
use serde_json::{Value, json};
use std::path::Path;

/// The namespace of flannel's service account.
pub(super) const NAMESPACE: &str = "kube-flannel";

/// The file of `--token-auth-file`: token, user, uid, groups.
pub(super) const TOKENS: &str = "\
admin-token,admin,1,system:masters
flannel-token,system:serviceaccount:kube-flannel:flannel,2,\"system:serviceaccounts,system:serviceaccounts:kube-flannel\"
flannel-token-renewed,system:serviceaccount:kube-flannel:flannel,2,\"system:serviceaccounts,system:serviceaccounts:kube-flannel\"
stranger-token,stranger,3,
";

/// What exists before a scenario: what flannel's manifest allows its service account, and that
/// account with its namespace. The path of each object, and the object.
pub(super) fn objects() -> Vec<(String, Value)> {
    let core = "/api/v1/namespaces";
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let account = |name: &str| {
        let object = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": NAMESPACE},
        });
        (format!("{core}/{NAMESPACE}/serviceaccounts/{name}"), object)
    };
    let rule = |resource: &str, verbs: &[&str]| json!({"apiGroups": [""], "resources": [resource], "verbs": verbs});
    vec![
        (
            format!("{core}/{NAMESPACE}"),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        ),
        account("default"),
        account("flannel"),
        (
            format!("{rbac}/clusterroles/flannel"),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": "flannel"},
                "rules": [
                    rule("pods", &["get"]),
                    rule("nodes", &["get", "list", "watch"]),
                    rule("nodes/status", &["patch"]),
                ],
            }),
        ),
        (
            format!("{rbac}/clusterrolebindings/flannel"),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": {"name": "flannel"},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                    "name": "flannel",
                },
                "subjects": [
                    {"kind": "ServiceAccount", "name": "flannel", "namespace": NAMESPACE},
                ],
            }),
        ),
    ]
}

/// A user whom the API server knows by a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// May do everything.
    Admin,
    /// The service account flannel in the namespace kube-flannel, with what flannel's manifest
    /// allows it.
    Flannel,
    /// The same with another token, as after a rotation.
    FlannelRenewed,
    /// May do nothing.
    Stranger,
}

impl User {
    /// The bearer token.
    pub fn token(self) -> &'static str {
        match self {
            User::Admin => "admin-token",
            User::Flannel => "flannel-token",
            User::FlannelRenewed => "flannel-token-renewed",
            User::Stranger => "stranger-token",
        }
    }
}

/// The addresses and names that the serving certificate is valid for: loopback, the underlay's
/// gateway and every host of an underlay that tests use.
pub(super) fn server_names() -> Vec<&'static str> {
    vec![
        "127.0.0.1",
        "::1",
        "localhost",
        "kubernetes.default.svc",
        underlay::GATEWAY,
        underlay::GATEWAY6,
        "172.31.0.200",
        "fd31::c8",
    ]
}

/// A kubeconfig file.
pub(super) fn kubeconfig(server: &str, ca: &Path, token: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: test
  cluster:
    server: {server}
    certificate-authority: {}
users:
- name: test
  user:
    token: {token}
contexts:
- name: test
  context:
    cluster: test
    user: test
current-context: test
",
        ca.display()
    )
}
