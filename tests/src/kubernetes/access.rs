//! Who may do what at the API server of a test: users, tokens, RBAC, kubeconfig files.

use crate::underlay;
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

/// What flannel's manifest allows its service account.
pub(super) const FLANNEL_RBAC: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: flannel
  labels:
    k8s-app: flannel
rules:
- apiGroups: ['']
  resources: [pods]
  verbs: [get]
- apiGroups: ['']
  resources: [nodes]
  verbs: [get, list, watch]
- apiGroups: ['']
  resources: [nodes/status]
  verbs: [patch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: flannel
  labels:
    k8s-app: flannel
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: flannel
subjects:
- kind: ServiceAccount
  name: flannel
  namespace: kube-flannel
";

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
