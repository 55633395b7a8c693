//! Why the daemon ends.

use super::{InstanceError, admin, duplicates::Duplicate, privilege, subnet_manager};
use crate::{backend, cli::options, model::network_config, reconcile, subnet, underlay};
use std::io;

/// Every error here ends the daemon; systemd or Kubernetes starts it again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The system refuses threads or descriptors.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] io::Error),
    /// The process lacks a capability.
    #[error(transparent)]
    Privilege(#[from] privilege::Error),
    /// The admin endpoint cannot be bound.
    #[error(transparent)]
    Admin(#[from] admin::Error),
    #[error("the admin endpoint stopped")]
    AdminClosed,
    /// The options name no usable subnet manager.
    #[error(transparent)]
    SubnetManager(#[from] subnet_manager::Error),
    /// An option has a value that cannot be used.
    #[error(transparent)]
    Options(#[from] options::Error),
    /// The network configuration or a lease cannot be had.
    #[error(transparent)]
    Subnet(#[from] subnet::Error),
    /// Upstream's words, its grammar included.
    #[error("none defined stack: the network configuration enables neither IPv4 nor IPv6")]
    NoFamily,
    /// The network configuration does not fit this node, or its lease.
    #[error("the network configuration cannot be used: {0}")]
    Config(#[from] network_config::Error),
    /// Another daemon manages a device or file of this one.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The host's network cannot be read.
    #[error(transparent)]
    Netlink(#[from] linux_net::Error),
    /// No interface is usable as underlay.
    #[error(transparent)]
    Underlay(#[from] underlay::Error),
    /// The network configuration names no backend, or one that cannot be used.
    #[error(transparent)]
    Backend(#[from] backend::Error),
    /// The reconciler cannot go on.
    #[error(transparent)]
    Reconcile(#[from] reconcile::Error),
    /// The process that moves packets cannot be supervised.
    #[error("cannot start the data path: {0}")]
    DataPath(#[source] io::Error),
    /// Another node has the keys by which peers find this node: a start with new ones follows.
    #[error("{0}")]
    KeyInUse(Duplicate),
    /// Upstream's words.
    #[error("Lease has been revoked. Shutting down daemon.")]
    Revoked,
    #[error("the reconciler stopped")]
    ReconcilerStopped,
}

impl Error {
    /// True if the way in which flanneld was started is the reason: the next start fails, too.
    pub(super) fn is_usage(&self) -> bool {
        match self {
            Error::Options(_) | Error::Privilege(_) => true,
            Error::SubnetManager(error) => error.is_usage(),
            _ => false,
        }
    }
}
