//! Subnet managers: where leases come from. Each publishes the whole current picture; the newest replaces the one not yet handled.
pub mod alloc;
pub mod embedded;
pub(crate) mod retry;

use crate::{
    model::Subnets,
    model::lease::{Lease, LeaseAttrs, Leases},
    model::network_config::NetworkConfig,
};
use std::{future::Future, pin::Pin};
use tokio::sync::watch;

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a subnet manager and the daemon tell each other while this node holds a lease.
#[derive(Debug, Clone)]
pub struct Session {
    /// This node's lease. A manager replaces it when another party decides about it: a controller
    /// that assigns the subnet, an operator who overwrites the public IP.
    pub own: watch::Sender<Lease>,
    /// Every lease of the network; None until the manager knows the first whole snapshot.
    pub leases: watch::Sender<Option<Leases>>,
    /// True while devices, addresses, rules and subnet.env of this node are in place, for managers
    /// that publish it (Kubernetes: the condition NetworkUnavailable).
    #[allow(dead_code, reason = "the embedded managers publish no node condition")]
    pub node_ready: watch::Receiver<bool>,
}

/// A source of leases.
pub trait SubnetManager: Send + Sync {
    /// For logs and status: "embedded store at /var/lib/...", "lease server http://10.0.0.1:8888".
    fn describe(&self) -> String;
    /// The network configuration. Waits and retries (with a log line that says what it waits for) until there is one.
    fn network_config(&self) -> BoxFuture<'_, Result<NetworkConfig, Error>>;
    /// Acquires a lease: the one this node has, else one for `previous` (from subnet.env) if free, else any.
    fn acquire<'a>(
        &'a self,
        attrs: &'a LeaseAttrs,
        previous: Subnets,
    ) -> BoxFuture<'a, Result<Lease, Error>>;
    /// Renews this node's lease and publishes snapshots until the future is dropped. During an outage
    /// of the store the last snapshot stays. Returns only when the lease is lost: `Error::Revoked`,
    /// `Error::Taken`.
    fn run(&self, session: Session) -> BoxFuture<'_, Result<(), Error>>;
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Our own lease was taken away.
    #[error("lease for {0} has been revoked")]
    Revoked(String),
    /// Our subnet is another node's now.
    #[error(
        "subnet {subnet} now belongs to {by}: this node must take another one; start it again, then re-create its pods"
    )]
    Taken {
        /// which
        subnet: String,
        /// whose
        by: String,
    },
    /// No subnet is free.
    #[error(
        "out of subnets: every subnet between {min} and {max} is leased or reserved; enlarge Network, lower SubnetLen's size, or release leases of nodes that are gone"
    )]
    OutOfSubnets {
        /// first
        min: String,
        /// last
        max: String,
    },
    /// Anything else, with what to do.
    #[error("{0}")]
    Other(String),
}
