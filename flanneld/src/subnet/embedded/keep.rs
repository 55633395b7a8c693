//! Keeping a lease. What a store may answer to a renewal, and what a node makes of it:
//!
//! - renewed: go on;
//! - revoked: somebody wants this node off its subnet. Stop;
//! - unknown: the lease ended during an outage, or the store was lost and begun anew. That is no reason to take a working
//!   node down: it asks for the same subnet again, and goes on if it gets it;
//! - somebody else's: two nodes must not use one subnet, and the store's word counts. Stop;
//! - no answer: go on and try again; peers keep what they know meanwhile.
use crate::{
    model::Subnets,
    model::lease::{Lease, LeaseAttrs},
    subnet::Error,
};
use std::{
    future::Future,
    sync::{Mutex, PoisonError},
};
use tokio::time::Instant;

/// The lease that was given or renewed last, and when: a node whose address changes asks for the same subnet in the name
/// of the address it had.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Option<(Subnets, LeaseAttrs, Instant)>>);

impl Memory {
    /// A lease was given or renewed just now.
    pub fn note(&self, lease: &Lease) {
        *self.lock() = Some((lease.subnets, lease.attrs.clone(), Instant::now()));
    }

    /// When the lease with that name was given or renewed.
    pub fn renewed(&self, key: &Subnets) -> Option<Instant> {
        let memory = self.lock();
        memory
            .as_ref()
            .filter(|(known, ..)| known == key)
            .map(|(.., at)| *at)
    }

    /// The attributes of before, if they name another node than these.
    pub fn formerly(&self, attrs: &LeaseAttrs) -> Option<LeaseAttrs> {
        let memory = self.lock();
        memory
            .as_ref()
            .filter(|(_, known, _)| !known.same_node(attrs))
            .map(|(_, known, _)| known.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Subnets, LeaseAttrs, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a store did not renew or give a lease.
#[derive(Debug)]
pub enum Refused {
    /// The lease was taken away.
    Revoked,
    /// There is no such lease.
    Unknown,
    /// It is that node's.
    HeldBy(String),
    /// It cannot say now, and why.
    NotNow(String),
    /// It never will.
    Never(Error),
}

/// A store, near or far.
pub trait Source: Sync {
    /// The lease anew, with its attributes.
    fn renew(&self, lease: &Lease) -> impl Future<Output = Result<Lease, Refused>> + Send;
    /// A lease for the node with these attributes.
    fn acquire(
        &self,
        attrs: &LeaseAttrs,
        previous: Subnets,
    ) -> impl Future<Output = Result<Lease, Refused>> + Send;
}

/// Why a lease was not kept.
#[derive(Debug)]
pub enum NotKept {
    /// The node has to stop.
    Lost(Error),
    /// Try again later.
    NotNow(String),
}

/// Renews the lease, or takes the same subnets again.
pub async fn keep(source: &impl Source, own: &Lease) -> Result<Lease, NotKept> {
    let key = own.subnets;
    let lost = |refused| match refused {
        Refused::NotNow(reason) => NotKept::NotNow(reason),
        Refused::Never(error) => NotKept::Lost(error),
        Refused::Revoked => NotKept::Lost(Error::Revoked(key.to_string())),
        Refused::HeldBy(by) => NotKept::Lost(Error::Taken {
            subnet: key.to_string(),
            by,
        }),
        Refused::Unknown => NotKept::NotNow(format!("{key} is unknown there")),
    };
    match source.renew(own).await {
        Ok(lease) => return Ok(lease),
        Err(Refused::Unknown) => {}
        Err(refused) => return Err(lost(refused)),
    }
    tracing::warn!("the lease for {key} is unknown to its store: asking for the same subnet again");
    let previous = own.subnets;
    let lease = source.acquire(&own.attrs, previous).await.map_err(lost)?;
    if lease.subnets == key {
        Ok(lease)
    } else {
        Err(lost(Refused::HeldBy(format!(
            "another node (this one was given {})",
            lease.subnets
        ))))
    }
}
