//! Why there is no client of an API server.

use crate::pki::Fault;
use kube::config::{InClusterError, KubeconfigError};
use std::path::PathBuf;

/// Why the API server cannot be named, or the credentials for it cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// `-kube-api-url` is not a URL.
    #[error("-kube-api-url {url:?} is not a URL like https://10.0.0.1:6443: {reason}")]
    Url { url: String, reason: String },
    /// A kubeconfig cannot be read or used.
    #[error(
        "cannot use the kubeconfig {}: {source}; correct it, or name another with -kubeconfig-file",
        path.display()
    )]
    Kubeconfig {
        path: PathBuf,
        source: Box<KubeconfigError>,
    },
    /// The pod's service account is not mounted whole.
    #[error(
        "cannot use the pod's service account: {0}; mount its token (automountServiceAccountToken), or give \
         -kubeconfig-file"
    )]
    ServiceAccount(#[source] Box<InClusterError>),
    /// A token file cannot be read.
    #[error("cannot read the token {}: {source}", path.display())]
    Token {
        path: PathBuf,
        source: std::io::Error,
    },
    /// Nothing names an API server.
    #[error(
        "-kube-subnet-mgr: nothing names an API server: give -kubeconfig-file or -kube-api-url, or run flanneld in a \
         pod (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT)"
    )]
    NoServer,
    /// The client certificate cannot be shown at all.
    #[error("the client certificate of {named_by}: {fault}; replace it")]
    Certificate { named_by: String, fault: Box<Fault> },
    /// Certificates, keys or proxies cannot be used.
    #[error(
        "cannot connect to {server}: {source}; check the certificates and keys that {named_by} names"
    )]
    Unusable {
        server: String,
        named_by: String,
        source: Box<kube::Error>,
    },
}
