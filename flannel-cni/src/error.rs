//! The errors of this plugin and their CNI codes.

use crate::subnet_file::SubnetFileError;
use cni_conf::Code;
use go_compat::json;
use linux_net::error::io_reason;
use plugin::delegate::Failure;
use std::path::{Path, PathBuf};

/// An error of this plugin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A key of the configuration has a wrong type.
    #[error("failed to load flannel netconf file: {0}")]
    NetConf(#[source] cni_conf::Error),
    /// subnet.env is missing, malformed or not complete.
    #[error(
        "failed to load flannel 'subnet.env' file: {0}. Check the flannel pod log for this node."
    )]
    SubnetEnv(#[from] SubnetFileError),
    /// `delegate.type` is not a text.
    #[error("'delegate' dictionary, if present, must have (string) 'type' field")]
    DelegateType,
    /// `delegate` has a key that only flannel sets.
    #[error("'delegate' dictionary must not have '{0}' field, it'll be set by flannel")]
    DelegateKey(&'static str),
    /// `delegate.type` is `flannel`.
    #[error(
        "'delegate' dictionary must not have type 'flannel': flannel cannot delegate to itself"
    )]
    DelegateItself,
    /// `ipam.routes` is not a list of routes.
    #[error(
        "failed to assemble Delegate IPAM: failed to read IPAM routes: failed to parse ipam.routes: {0}"
    )]
    IpamRoutes(#[source] json::Error),
    /// An operation on a state file or its folder failed.
    #[error("{action} {}: {}", path.display(), io_reason(source))]
    State {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// CHECK of an attachment without a state file.
    #[error(
        "flannel has no state of container {container_id}, interface {ifname}: {} is missing or damaged; \
         recreate the pod to attach it anew",
        path.display()
    )]
    NoState {
        container_id: String,
        ifname: String,
        path: PathBuf,
    },
    /// An error of the frame or of the delegate, passed on unchanged.
    #[error(transparent)]
    Cni(#[from] cni_conf::Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        Error::Cni(failure.into())
    }
}

impl Error {
    /// Wraps an error of `action` ("open", "write", ...) on a state file, for `map_err`.
    pub(crate) fn state(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(std::io::Error) -> Error {
        move |source| Error::State {
            action,
            path: path.as_ref().to_owned(),
            source,
        }
    }
}

impl From<Error> for cni_conf::Error {
    /// Upstream has no codes of its own here, all are 999. A missing subnet.env is code 11: ADD can
    /// be tried again.
    fn from(error: Error) -> cni_conf::Error {
        match error {
            Error::Cni(error) => error,
            Error::NetConf(cni_conf::Error { code, .. }) => cni_conf::Error {
                code,
                msg: error.to_string(),
                details: String::new(),
            },
            Error::SubnetEnv(ref cause) if cause.is_absent() => {
                cni_conf::Error::new(Code::TryAgainLater, error.to_string())
            }
            Error::DelegateItself => {
                cni_conf::Error::new(Code::InvalidNetworkConfig, error.to_string())
            }
            _ => cni_conf::Error::internal(error),
        }
    }
}
