//! Keeps this node's lease: runs the subnet manager, and acquires the lease again when this node
//! comes to be reached by another address or publishes other backend data.
use crate::{
    backend::Backend,
    model::lease::{Lease, LeaseAttrs},
    reconcile::pass::Outcome,
    subnet::{self, Session, SubnetManager},
    underlay::Underlay,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;
use tracing::warn;

/// Delay before a lease is acquired again after the store refused it.
const REACQUIRE_DELAY: Duration = Duration::from_secs(10);

/// The task that keeps the lease.
pub(crate) struct LeaseKeeper<'a> {
    pub(crate) manager: &'a dyn SubnetManager,
    pub(crate) backend: Arc<dyn Backend>,
    /// How this node is reached, as the lease says it.
    pub(crate) underlay: Underlay,
    pub(crate) own: watch::Sender<Lease>,
    pub(crate) outcomes: watch::Receiver<Option<Outcome>>,
}

impl LeaseKeeper<'_> {
    /// Returns only when the lease is lost.
    pub(crate) async fn run(mut self, session: Session) -> Result<(), String> {
        loop {
            let published = self.backend.lease_attrs(&self.underlay);
            tokio::select! {
                ended = self.manager.run(session.clone()) => return Err(match ended {
                    Err(subnet::Error::Revoked(_)) => {
                        "Lease has been revoked. Shutting down daemon.".to_owned()
                    }
                    Err(error) => error.to_string(),
                    Ok(()) => "the subnet manager stopped".to_owned(),
                }),
                underlay = underlay_changed(&mut self.outcomes, &self.backend, &published) => {
                    self.underlay = underlay?;
                }
            }
            self.acquire_again().await;
        }
    }

    /// Publishes the changed attributes, for the same subnet if the store still grants it.
    async fn acquire_again(&mut self) {
        let own = self.own.borrow().clone();
        let attrs = self.backend.lease_attrs(&self.underlay);
        match self.manager.acquire(&attrs, own.subnets).await {
            Ok(lease) => {
                if lease.subnets != own.subnets {
                    warn!(
                        "this node's subnet changed from {} to {}: restart the pods that run on it",
                        own.subnets.cidrs(),
                        lease.subnets.cidrs()
                    );
                }
                self.own.send_replace(lease);
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
) -> Result<Underlay, String> {
    let outcome = outcomes
        .wait_for(|outcome| {
            let underlay = outcome.as_ref().map(|outcome| &outcome.underlay);
            underlay.is_some_and(|underlay| backend.lease_attrs(underlay) != *published)
        })
        .await
        .map_err(|_| "the reconciler stopped".to_owned())?;
    outcome
        .as_ref()
        .map(|outcome| outcome.underlay.clone())
        .ok_or_else(|| "the reconciler stopped".to_owned())
}
