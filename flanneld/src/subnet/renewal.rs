//! Renewal of a lease, for every store whose leases end. What a store answers, and what follows:
//!
//! - renewed: nothing else to do;
//! - revoked: an operator wants this node off its subnet; the daemon stops;
//! - unknown: the lease ended during an outage, or the store was lost. That must not take a working
//!   node down: it asks for the same subnets again;
//! - another node's: two nodes must not use one subnet, and the store decides; the daemon stops;
//! - no answer: the next attempt follows; peers keep what they know meanwhile.

use super::Error;
use crate::model::{
    Subnets,
    lease::{Lease, LeaseAttrs},
};
use std::{
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tracing::warn;

/// The lease that was granted or renewed last. A node whose address changes names the address
/// under which it holds its lease.
#[derive(Debug, Default)]
pub(super) struct LastRenewal(Mutex<Option<(Lease, Instant)>>);

impl LastRenewal {
    /// A lease was granted or renewed just now.
    pub(super) fn record(&self, lease: &Lease) {
        let last = Some((lease.clone(), Instant::now()));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }

    fn last(&self) -> Option<(Lease, Instant)> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }

    /// When the lease is to be renewed: `margin` before its end; at once if it was never granted.
    pub(super) fn next(&self, subnets: &Subnets, ttl: Duration, margin: Duration) -> Instant {
        let after = if margin < ttl { ttl - margin } else { ttl / 2 };
        match self.last() {
            Some((lease, at)) if lease.subnets == *subnets => at + after,
            _ => Instant::now(),
        }
    }

    /// The attributes of the last lease, if they name this node by other addresses than `attrs`.
    pub(super) fn former(&self, attrs: &LeaseAttrs) -> Option<LeaseAttrs> {
        let (lease, _) = self.last()?;
        (!lease.attrs.same_node(attrs)).then_some(lease.attrs)
    }
}

/// A store whose leases end unless they are renewed.
pub(super) trait LeaseStore: Sync {
    /// Renews a lease and writes its attributes. `Error::Unknown` if there is no such lease.
    fn renew(&self, lease: &Lease) -> impl Future<Output = Result<Lease, Error>> + Send;
    /// Grants a lease to the node with these attributes.
    fn grant(
        &self,
        attrs: &LeaseAttrs,
        previous: Subnets,
    ) -> impl Future<Output = Result<Lease, Error>> + Send;
}

/// Renews this node's lease, or takes the same subnets again.
pub(super) async fn renew(store: &impl LeaseStore, own: &Lease) -> Result<Lease, Error> {
    match store.renew(own).await {
        Err(Error::Unknown(_)) => {}
        answer => return answer,
    }
    let subnets = own.subnets;
    warn!("the store does not know the lease for {subnets}: acquiring the same subnets again");
    let lease = store.grant(&own.attrs, subnets).await?;
    if lease.subnets == subnets {
        return Ok(lease);
    }
    Err(Error::Taken {
        subnets,
        by: format!("another node (this one was given {})", lease.subnets),
    })
}
