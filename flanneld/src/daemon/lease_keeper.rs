//! Keeps this node's lease: runs the subnet manager, and acquires the lease again when this node
//! comes to be reached by another address or publishes other backend data.

use super::Error;
use crate::{
    backend::Backend,
    model::{
        Subnets,
        lease::{Lease, LeaseAttrs},
    },
    reconcile::Outcome,
    subnet::{self, Session, SubnetManager},
    underlay::Underlay,
};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::watch;
use tracing::warn;

/// Delay before a lease is acquired again after the store refused it.
const REACQUIRE_DELAY: Duration = Duration::from_secs(10);

/// The task that keeps the lease.
pub(super) struct LeaseKeeper<'a> {
    pub(super) manager: &'a dyn SubnetManager,
    pub(super) backend: Arc<dyn Backend>,
    /// How this node is reached, as the lease says it.
    pub(super) underlay: Underlay,
    pub(super) outcomes: watch::Receiver<Option<Outcome>>,
}

impl LeaseKeeper<'_> {
    /// Returns only when the lease is lost.
    pub(super) async fn run(mut self, session: Session) -> Result<Infallible, Error> {
        loop {
            let published = self.backend.lease_attrs(&self.underlay);
            tokio::select! {
                ended = self.manager.run(session.clone()) => match ended {
                    ended @ (subnet::Error::Revoked(_) | subnet::Error::Taken { .. })
                        if self.manager.serves_others() =>
                    {
                        warn!("{ended}: this node asks for another subnet and goes on serving leases");
                        self.acquire_again(&session.own, Subnets::default()).await;
                        continue;
                    }
                    subnet::Error::Revoked(_) => return Err(Error::Revoked),
                    error => return Err(error.into()),
                },
                underlay = underlay_changed(&mut self.outcomes, &self.backend, &published) => {
                    self.underlay = underlay?;
                }
            }
            let subnets = session.own.borrow().subnets;
            self.acquire_again(&session.own, subnets).await;
        }
    }

    /// Publishes the changed attributes, for the previous subnets if the store still grants them.
    async fn acquire_again(&self, current: &watch::Sender<Lease>, previous: Subnets) {
        let own = current.borrow().clone();
        let attrs = self.backend.lease_attrs(&self.underlay);
        match self.manager.acquire(&attrs, previous).await {
            Ok(lease) => {
                if lease.subnets != own.subnets {
                    warn!(
                        "this node's subnet changed from {} to {}: restart the pods that run on it",
                        own.subnets.cidrs(),
                        lease.subnets.cidrs()
                    );
                }
                current.send_replace(lease);
            }
            Err(error) => {
                warn!(
                    "cannot publish that this node is now reached by {}: {error}",
                    self.underlay
                );
                tokio::time::sleep(REACQUIRE_DELAY).await;
            }
        }
    }
}

/// Waits until the attributes that this node publishes differ from `published`.
async fn underlay_changed(
    outcomes: &mut watch::Receiver<Option<Outcome>>,
    backend: &Arc<dyn Backend>,
    published: &LeaseAttrs,
) -> Result<Underlay, Error> {
    loop {
        let changed = outcomes.changed().await;
        changed.map_err(|_| Error::ReconcilerStopped)?;
        let outcome = outcomes.borrow_and_update();
        if let Some(outcome) = outcome.as_ref()
            && backend.lease_attrs(&outcome.underlay) != *published
        {
            return Ok(outcome.underlay.clone());
        }
    }
}
