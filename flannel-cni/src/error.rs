//! What can go wrong, and the code under which a runtime is told.
use cni_conf::Code;
use std::path::PathBuf;

/// An error of this plugin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration has a key of a wrong type.
    #[error("failed to load flannel netconf file: {0}")]
    NetConf(#[source] cni_conf::Error),
    /// subnet.env is not there: flanneld has not written it yet.
    #[error(
        "failed to load flannel 'subnet.env' file: {0}. Check the flannel pod log for this node."
    )]
    NoSubnetEnv(String),
    /// subnet.env is there, and broken.
    #[error(
        "failed to load flannel 'subnet.env' file: {0}. Check the flannel pod log for this node."
    )]
    BadSubnetEnv(String),
    /// `delegate.type` is no text.
    #[error("'delegate' dictionary, if present, must have (string) 'type' field")]
    DelegateType,
    /// `delegate` has a key that is not the user's to set.
    #[error("'delegate' dictionary must not have '{0}' field, it'll be set by flannel")]
    DelegateKey(&'static str),
    /// `ipam.routes` is no list of routes.
    #[error(
        "failed to assemble Delegate IPAM: failed to read IPAM routes: failed to parse ipam.routes: {0}"
    )]
    IpamRoutes(#[source] serde_json::Error),
    /// A state file can be neither read nor written.
    #[error("{action} {}: {reason}", path.display())]
    State {
        /// "open", "write", ...
        action: &'static str,
        /// the file or folder
        path: PathBuf,
        /// the kernel's word for it
        reason: String,
    },
    /// CHECK of an attachment that ADD has left no state of.
    #[error(
        "flannel has no state of container {container_id}, interface {ifname}: {} is missing or damaged; \
         recreate the pod to attach it anew",
        path.display()
    )]
    NoState {
        /// CNI_CONTAINERID
        container_id: String,
        /// CNI_IFNAME
        ifname: String,
        /// the file that is expected
        path: PathBuf,
    },
    /// The frame's or the delegate's own error, told as it is.
    #[error(transparent)]
    Cni(#[from] cni_conf::Error),
}

impl Error {
    pub(crate) fn state(
        action: &'static str,
        path: impl Into<PathBuf>,
        error: &std::io::Error,
    ) -> Error {
        Error::State {
            action,
            path: path.into(),
            reason: linux_net::error::io_reason(error),
        }
    }
}

impl From<Error> for cni_conf::Error {
    /// Upstream has no codes of its own here (all are 999); subnet.env that is not there yet is the
    /// one case for trying again.
    fn from(error: Error) -> cni_conf::Error {
        match error {
            Error::Cni(error) => error,
            Error::NetConf(cni_conf::Error { code, .. }) => cni_conf::Error {
                code,
                msg: error.to_string(),
                details: String::new(),
            },
            Error::NoSubnetEnv(_) => cni_conf::Error::new(Code::TryAgainLater, error.to_string()),
            _ => cni_conf::Error::internal(error),
        }
    }
}
