//! The store of leases: one redb file, and the same in memory.
//!
//! Each change is one transaction: decided on what is in memory, written durably, and only then seen by anybody. So an
//! answer that a node got survives kill -9 and power loss, and a change that was not written was never seen.
//!
//! Leases end by the monotonic clock, not by the time of day: a clock that is set (a board without battery, NTP at boot)
//! ends none. After a start a lease that ended meanwhile gets [`GRACE`], since its node had nobody to renew it with.
mod careful;
mod decide;
mod file;
mod state;

use super::wire;
use crate::{
    best_effort::best_effort,
    model::Subnets,
    model::lease::{Lease, LeaseAttrs},
    model::network_config::NetworkConfig,
    subnet::{self, alloc::Reservation},
};
use file::StoreFile;
pub use state::News;
use state::{Change, State};
use std::{
    fmt::Display,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// What a lease has at least after a start of the store.
const GRACE: Duration = Duration::from_secs(15 * 60);

/// The leases of one network.
pub struct Store {
    config: NetworkConfig,
    id: String,
    path: PathBuf,
    /// held through a change, so that there is one at a time; the state is locked only for moments
    file: Mutex<StoreFile>,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

/// Why a change was refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing is free.
    #[error(transparent)]
    Alloc(#[from] subnet::Error),
    /// No such lease or reservation.
    #[error("{0} is not leased or reserved here")]
    Unknown(Subnets),
    /// It was taken away.
    #[error("lease for {0} has been revoked")]
    Revoked(Subnets),
    /// It is somebody else's.
    #[error("{0} belongs to {1}")]
    HeldBy(Subnets, String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A bound was reached.
    #[error("this store holds at most {0} leases and reservations")]
    Full(usize),
    /// Another process has the file.
    #[error(
        "lease store {} is in use by another process: stop that flanneld, or give this one another store", .0.display()
    )]
    InUse(PathBuf),
    /// The file cannot be understood.
    #[error(
        "lease store {path} cannot be read: {reason}. Put a backup in its place, or move it away and start again: \
         nodes that are up keep their subnets and register them anew"
    )]
    Corrupt {
        /// the file
        path: String,
        /// what is wrong
        reason: String,
    },
    /// The file cannot be read or written.
    #[error("lease store {path}: {reason}")]
    File {
        /// the file
        path: String,
        /// what the system says
        reason: String,
    },
}

impl StoreError {
    fn file(path: &Path, reason: impl Display) -> StoreError {
        StoreError::File {
            path: path.display().to_string(),
            reason: reason.to_string(),
        }
    }

    fn corrupt(path: &Path, reason: impl Display) -> StoreError {
        StoreError::Corrupt {
            path: path.display().to_string(),
            reason: reason.to_string(),
        }
    }
}

impl From<StoreError> for subnet::Error {
    fn from(error: StoreError) -> subnet::Error {
        match error {
            StoreError::Alloc(error) => error,
            StoreError::Revoked(key) => subnet::Error::Revoked(key.to_string()),
            other => subnet::Error::Other(other.to_string()),
        }
    }
}

impl Store {
    /// Opens or creates the file (and its folder); `config` has passed `check_subnets`. The error of a file that is
    /// corrupt, foreign or in use says what to do.
    pub fn open(path: &Path, config: NetworkConfig) -> Result<Arc<Store>, subnet::Error> {
        Ok(Store::open_with(path, config, wire::TTL, GRACE)?)
    }

    /// With other times than a cluster has.
    pub(crate) fn open_with(
        path: &Path,
        config: NetworkConfig,
        ttl: Duration,
        grace: Duration,
    ) -> Result<Arc<Store>, StoreError> {
        let (file, content) = StoreFile::open(path)?;
        let mut state = State::new(content.revision, ttl);
        state.load(content.changes, grace);
        Ok(Arc::new(Store {
            config,
            id: content.id,
            path: path.to_owned(),
            file: Mutex::new(file),
            changed: watch::Sender::new(state.revision()),
            state: Mutex::new(state),
        }))
    }

    /// The network's configuration.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Random, made with the file.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How long a lease lives without renewal.
    pub fn ttl(&self) -> Duration {
        self.state().ttl()
    }

    /// Tells of each new revision.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What is new since a revision, and the revision that makes.
    pub fn since(&self, cursor: Option<u64>) -> (News, u64) {
        self.state().since(cursor)
    }

    /// All leases as JSON, and their revision.
    pub fn snapshot(&self) -> (Arc<[Arc<str>]>, u64) {
        let mut state = self.state();
        (state.snapshot(), state.revision())
    }

    /// All leases.
    pub fn leases(&self) -> Vec<Arc<Lease>> {
        self.state().leases()
    }

    /// One lease, and the revision.
    pub fn lease(&self, key: &Subnets) -> (Option<Lease>, u64) {
        let state = self.state();
        (state.lease(key).cloned(), state.revision())
    }

    /// All reservations.
    pub fn reservations(&self) -> Vec<Reservation> {
        self.state().reservations().cloned().collect()
    }

    /// A lease for the node: the one it has, else its reservation, else `previous`, else a free one. A node that has its
    /// lease under other public addresses says so by `formerly`.
    pub fn acquire(
        &self,
        attrs: LeaseAttrs,
        previous: Subnets,
        formerly: Option<LeaseAttrs>,
    ) -> Result<Lease, StoreError> {
        self.change(|state| {
            let random = getrandom::u64();
            let random = best_effort(random, "the first of the free subnets is taken").unwrap_or(0);
            let pick = |n: usize| random as usize % n.max(1);
            state.acquire(&self.config, attrs, previous, formerly.as_ref(), pick)
        })
    }

    /// The lease anew, with these attributes or else as it was.
    pub fn renew(&self, key: Subnets, attrs: Option<LeaseAttrs>) -> Result<Lease, StoreError> {
        self.change(|state| state.renew(&self.config, key, attrs))
    }

    /// Takes a lease away; its node is told.
    pub fn revoke(&self, key: Subnets) -> Result<(), StoreError> {
        self.change(|state| Ok((state.revoke(key)?, ())))
    }

    /// Keeps a subnet for a node.
    pub fn reserve(&self, reservation: Reservation) -> Result<(), StoreError> {
        self.change(|state| Ok((state.reserve(&self.config, reservation)?, ())))
    }

    /// Gives a reservation up.
    pub fn unreserve(&self, key: Subnets) -> Result<(), StoreError> {
        self.change(|state| Ok((state.unreserve(key)?, ())))
    }

    /// Takes away what has ended by `now`; gives when the next lease ends.
    pub fn expire(&self, now: Instant) -> Result<Option<Instant>, StoreError> {
        self.change(|state| Ok((state.expire(now), ())))?;
        Ok(self.state().next_deadline())
    }

    fn change<T>(
        &self,
        decide: impl FnOnce(&State) -> Result<(Vec<Change>, T), StoreError>,
    ) -> Result<T, StoreError> {
        let mut file = lock(&self.file);
        let (changes, value) = decide(&self.state())?;
        if changes.is_empty() {
            return Ok(value);
        }
        // at least as high as what applying them makes of it; after a restart the number only has to be no lower
        let revision = self.state().revision() + changes.len() as u64;
        if file.is_open() {
            file.commit(&changes, revision)?;
        } else {
            let mut all = self.state().dump();
            all.extend(changes.iter().cloned());
            file.rewrite(&all, revision)?;
        }
        let mut state = self.state();
        state.tell(&changes);
        state.apply(changes);
        let revision = state.revision();
        drop(state);
        self.changed.send_replace(revision);
        Ok(value)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// A panic while it was held can leave nothing half done: changes are made in one step at the end.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
