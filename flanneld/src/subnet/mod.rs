//! Subnet managers: where leases come from. Each publishes snapshots of all leases; a newer one
//! replaces one that is not yet handled.

mod alloc;
pub(crate) mod embedded;
pub(crate) mod etcd;
#[cfg(test)]
pub(crate) mod fixtures;
pub(crate) mod kube;
mod last_known;
mod renewal;
mod tls;
pub(crate) mod transfer;
mod waiting;

pub(crate) use last_known::LastKnown;
pub(crate) use tls::{TlsError, TlsFiles};
pub(crate) use waiting::Waiting;

use crate::{
    model::Subnets,
    model::lease::{Lease, LeaseAttrs, Leases},
    model::network_config::NetworkConfig,
    model::node_record::NodeRecord,
};
use std::{
    future::{self, Future},
    pin::Pin,
    time::Duration,
};
use tokio::sync::watch;

/// The lifetime of a lease that is not renewed, as upstream.
const TTL: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a subnet manager and the daemon share while this node holds a lease.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// This node's lease. A manager replaces it when another party decides about it: a controller
    /// that assigns the subnet, an operator who overwrites the public IP.
    pub(crate) own: watch::Sender<Lease>,
    /// Every lease of the network; None until the manager knows the first whole snapshot.
    pub(crate) leases: watch::Sender<Option<Leases>>,
    /// True while devices, addresses, rules and subnet.env of this node are in place, for managers
    /// that publish it (Kubernetes: the condition NetworkUnavailable).
    pub(crate) node_ready: watch::Receiver<bool>,
}

/// A source of leases.
pub(crate) trait SubnetManager: Send + Sync {
    /// For logs and status: "embedded store at /var/lib/...", "lease server http://10.0.0.1:8888".
    fn describe(&self) -> String;
    /// The network configuration. Retries until there is one, and logs what it waits for.
    fn network_config(&self) -> BoxFuture<'_, Result<NetworkConfig, Error>>;
    /// The network configuration while the daemon runs; None if it is read at the start only.
    fn network_configs(&self) -> Option<watch::Receiver<NetworkConfig>> {
        None
    }
    /// What the store says of this node. Retries until the store answers.
    fn node_record(&self) -> BoxFuture<'_, Result<NodeRecord, Error>> {
        Box::pin(future::ready(Ok(NodeRecord::default())))
    }
    /// What the store says of this node's addresses while the daemon runs; None if that never
    /// changes.
    fn node_records(&self) -> Option<watch::Receiver<NodeRecord>> {
        None
    }
    /// Acquires a lease: the one this node has, else one for `previous` (from subnet.env) if free,
    /// else any.
    fn acquire<'a>(
        &'a self,
        attrs: &'a LeaseAttrs,
        previous: Subnets,
    ) -> BoxFuture<'a, Result<Lease, Error>>;
    /// As `acquire`, for a node that has a lease: a transient error where `acquire` would wait.
    fn acquire_once<'a>(
        &'a self,
        attrs: &'a LeaseAttrs,
        previous: Subnets,
    ) -> BoxFuture<'a, Result<Lease, Error>> {
        self.acquire(attrs, previous)
    }
    /// An earlier process of this node held the lease, since the machine's last boot. If the node
    /// is reached by other addresses now, it keeps the subnets.
    fn held(&self, _lease: &Lease) {}
    /// Renews this node's lease and publishes snapshots until the future is dropped. During an
    /// outage of the store the last snapshot stays. Returns only when the lease is lost:
    /// `Error::Revoked`,
    /// `Error::Taken`.
    fn run(&self, session: Session) -> BoxFuture<'_, Error>;
    /// True while the store does not answer and what it said last is used in its place.
    fn is_away(&self) -> bool {
        false
    }
    /// True while another node that runs has this node's lease, too.
    fn is_contended(&self) -> bool {
        false
    }
    /// True if other nodes get their leases from this process: it does not end with its own lease.
    fn serves_others(&self) -> bool {
        false
    }
}

/// Why a store does not grant or renew a lease.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// An operator took the lease away.
    #[error("lease for {0} has been revoked")]
    Revoked(Subnets),
    /// The subnet is another node's now.
    #[error(
        "subnet {subnets} now belongs to {by}: this node needs another subnet: restart flanneld, then recreate the node's pods"
    )]
    Taken { subnets: Subnets, by: String },
    /// The store came back with another network configuration than this run uses.
    #[error("the network configuration has changed since the last contact with the {store}")]
    ConfigChanged {
        store: String,
        config: Box<NetworkConfig>,
    },
    /// The store does not know the lease: it ended, or the store was lost.
    #[error("{0} is not leased or reserved here")]
    Unknown(Subnets),
    /// No subnet can be chosen.
    #[error(transparent)]
    Alloc(#[from] alloc::Error),
    /// The store refuses, and will refuse again.
    #[error(transparent)]
    Permanent(BoxError),
    /// The store cannot answer now; a later attempt may succeed.
    #[error(transparent)]
    Transient(BoxError),
}

impl Error {
    /// True if a later attempt may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Error::Transient(_) | Error::Unknown(_))
    }
}
