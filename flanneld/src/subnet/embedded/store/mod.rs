//! The store of leases: one redb file, and the same content in memory.
//!
//! Each change is one transaction: decided on what is in memory, written durably, and visible only
//! after that. An answer that a node got survives kill -9 and power loss, and no client sees a
//! change that was not written.
//!
//! Leases end by the monotonic clock, not by the time of day: setting a clock (a board without
//! battery, NTP at boot) ends none. After a start a lease that ended meanwhile gets [`GRACE`],
//! since its node could not renew it.

mod access;
mod error;
mod file;
mod fuzz;
mod holders;
mod locked_file;
mod read_only_backend;
mod state;
mod transaction;
mod verified_backend;

pub(super) use access::Caller;
pub(crate) use error::StoreError;
pub(crate) use fuzz::{entries as fuzz_store_entries, file as fuzz_store, request as fuzz_request};
pub(super) use holders::random_session;
pub(super) use state::Update;

use crate::{
    best_effort::best_effort,
    model::Subnets,
    model::lease::{Lease, LeaseAttrs},
    model::network_config::NetworkConfig,
    subnet::{
        TTL,
        alloc::{Node, Reservation},
    },
    worker::Worker,
};
use access::{Permission, Request, authorize};
use file::{Opening, StoreFile};
use holders::Holders;
use state::{Change, State};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{oneshot::error::RecvError, watch};

/// The shortest remaining life of a lease after a start of the store.
const GRACE: Duration = Duration::from_secs(15 * 60);

/// The leases of one network.
pub(crate) struct Store {
    config: watch::Sender<NetworkConfig>,
    /// Random, made with the file.
    pub(super) id: String,
    pub(super) path: PathBuf,
    /// The shortest remaining life of a lease after this opening.
    pub(super) grace: Duration,
    /// The last one is the present one.
    openings: Vec<Opening>,
    /// Held through a change, so that there is one at a time; the state is locked for moments only.
    file: Mutex<StoreFile>,
    state: Mutex<State>,
    revision: watch::Sender<u64>,
    /// Locked before the file.
    holders: Mutex<Holders>,
    worker: Worker,
}

/// A process with an open watch, until it is dropped.
pub(super) struct Connected {
    store: Arc<Store>,
    session: String,
}

impl Drop for Connected {
    fn drop(&mut self) {
        lock(&self.store.holders).disconnect(&self.session, Instant::now());
    }
}

impl Store {
    /// Opens or creates the file (and its folder); `config` has passed `check_subnets`.
    pub(crate) fn open(path: &Path, config: NetworkConfig) -> Result<Arc<Store>, StoreError> {
        Store::open_with(path, config, TTL, GRACE)
    }

    /// As [`open`](Self::open), with other times than those of a cluster.
    pub(super) fn open_with(
        path: &Path,
        config: NetworkConfig,
        ttl: Duration,
        grace: Duration,
    ) -> Result<Arc<Store>, StoreError> {
        let (file, content) = StoreFile::open(path)?;
        let state = State::load(content.changes, content.revision, ttl, grace);
        Ok(Arc::new(Store {
            config: watch::Sender::new(config),
            id: content.id,
            path: path.to_owned(),
            grace: grace.min(ttl),
            openings: content.openings,
            file: Mutex::new(file),
            revision: watch::Sender::new(state.revision),
            state: Mutex::new(state),
            holders: Mutex::new(Holders::new(Instant::now())),
            worker: Worker::start("lease-store").map_err(StoreError::Thread)?,
        }))
    }

    /// The lifetime of a lease that is not renewed.
    pub(super) fn ttl(&self) -> Duration {
        self.state().ttl
    }

    /// The random name of this opening of the store.
    pub(super) fn epoch(&self) -> &str {
        self.openings.last().map_or("", |opening| &opening.0)
    }

    /// True if the revision, seen in that epoch, is one of this store's past. It is not if the file
    /// was restored from a backup that is older.
    pub(super) fn continues(&self, epoch: &str, seen: u64) -> bool {
        let mut later = self.openings.iter().skip_while(|known| known.0 != epoch);
        if later.next().is_none() {
            return false;
        }
        match later.next() {
            Some(next) => seen <= next.1,
            None => seen <= self.state().revision,
        }
    }

    /// The network configuration, which is not in the file.
    pub(crate) fn config(&self) -> NetworkConfig {
        self.config.borrow().clone()
    }

    /// The same, updated with each change.
    pub(super) fn configs(&self) -> watch::Receiver<NetworkConfig> {
        self.config.subscribe()
    }

    /// Gives every node another configuration, which has passed `check_subnets`. Leases stay as
    /// they are.
    pub(crate) fn set_config(&self, config: NetworkConfig) {
        self.config.send_replace(config);
    }

    /// The number of the last change, updated with each.
    pub(super) fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// What changed since a revision, and the revision that this leads to.
    pub(super) fn since(&self, cursor: Option<u64>) -> (Update, u64) {
        self.state().since(cursor)
    }

    /// All leases as JSON, and their revision.
    pub(super) fn snapshot(&self) -> (Arc<[Arc<str>]>, u64) {
        let mut state = self.state();
        (state.snapshot(), state.revision)
    }

    /// All leases.
    pub(super) fn leases(&self) -> Vec<Arc<Lease>> {
        let state = self.state();
        let leases = state.leases.values();
        leases.map(|held| held.lease.clone()).collect()
    }

    /// One lease, found by the subnets of either family or of both, and the revision.
    pub(super) fn lease(&self, key: &Subnets) -> (Option<Lease>, u64) {
        let state = self.state();
        (state.lease(&state.lease_key(*key)).cloned(), state.revision)
    }

    /// All reservations.
    pub(super) fn reservations(&self) -> Vec<Reservation> {
        self.state().reservations.values().cloned().collect()
    }

    /// Grants a lease to the node: the one it holds, else its reservation, else `previous`, else a
    /// free one. `former` names the node that holds it by other public addresses.
    pub(super) fn acquire(
        &self,
        attrs: LeaseAttrs,
        previous: Subnets,
        former: Option<LeaseAttrs>,
    ) -> Result<Lease, StoreError> {
        self.access(&TRUSTED).acquire(attrs, previous, former)
    }

    /// Renews a lease, with these attributes or else its own.
    #[cfg(test)]
    pub(super) fn renew(
        &self,
        key: Subnets,
        attrs: Option<LeaseAttrs>,
    ) -> Result<Lease, StoreError> {
        self.access(&TRUSTED).renew(key, attrs)
    }

    /// The process has an open watch.
    pub(super) fn connect(self: &Arc<Store>, session: String) -> Connected {
        lock(&self.holders).connect(&session, Instant::now());
        Connected {
            store: self.clone(),
            session,
        }
    }

    /// Takes a lease away; its node stops.
    #[cfg(test)]
    pub(super) fn revoke(&self, key: Subnets) -> Result<(), StoreError> {
        self.access(&TRUSTED).revoke(key)
    }

    /// Keeps subnets for a node.
    pub(super) fn reserve(&self, reservation: Reservation) -> Result<(), StoreError> {
        self.access(&TRUSTED).reserve(reservation)
    }

    /// Ends a reservation.
    #[cfg(test)]
    pub(super) fn unreserve(&self, key: Subnets) -> Result<(), StoreError> {
        self.access(&TRUSTED).unreserve(key)
    }

    /// The store as this caller may change it.
    pub(super) fn access<'a>(&'a self, caller: &'a Caller) -> Access<'a> {
        Access {
            store: self,
            caller,
        }
    }

    /// Works on the store on its own thread, since a change waits for the disk.
    pub(super) async fn on_thread<T: Send + 'static>(
        self: &Arc<Store>,
        work: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Result<T, RecvError> {
        let store = self.clone();
        self.worker.run(move || work(&store)).await
    }

    /// Removes the leases that have ended by `now`, and returns when the next one ends.
    pub(super) fn expire(&self, now: Instant) -> Result<Option<Instant>, StoreError> {
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
        let revision = self.state().revision_after(&changes);
        let all = || {
            let mut all = self.state().dump();
            all.extend(changes.iter().cloned());
            all
        };
        file.commit(&changes, all, revision)?;
        let mut state = self.state();
        state.log(&changes);
        state.apply(changes);
        let revision = state.revision;
        drop(state);
        self.revision.send_replace(revision);
        Ok(value)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// For changes that no certificate stands behind: imports, and what runs without TLS.
const TRUSTED: Caller = Caller::Trusted(None);

/// Changes of the store by one caller. Each is permitted and decided on the same state.
pub(super) struct Access<'a> {
    store: &'a Store,
    caller: &'a Caller,
}

impl Access<'_> {
    /// As [`acquire`](Self::acquire), unless another process that is connected holds the node's
    /// lease.
    pub(super) fn acquire_as(
        &self,
        session: Option<&str>,
        attrs: LeaseAttrs,
        previous: Subnets,
        former: Option<LeaseAttrs>,
    ) -> Result<Lease, StoreError> {
        let mut holders = lock(&self.store.holders);
        let key = {
            let state = self.store.state();
            let mut leases = state.leases.values();
            let held = leases.find(|held| held.lease.attrs.same_node(&attrs));
            held.map(|held| held.lease.subnets)
        };
        if key.is_some_and(|key| holders.is_held_by_another(&key, session)) {
            return Err(StoreError::NodeRuns(attrs.node()));
        }
        let own = self.own_lease();
        if let Some(own) = own.filter(|own| holders.is_held_by_another(&own.subnets, session)) {
            return Err(StoreError::CertificateRuns(own.attrs.node()));
        }
        // a copy of a disk that runs elsewhere is not the node that it was copied from
        let former = former.filter(|former| {
            let state = self.store.state();
            let mut leases = state.leases.values();
            let held = leases.find(|held| held.lease.attrs.same_node(former));
            !held.is_some_and(|held| holders.is_held_by_another(&held.lease.subnets, session))
        });
        let now = Instant::now();
        let gone = key.filter(|key| holders.is_gone(key, self.store.grace, now));
        let lease = self.acquire_from(gone, attrs, previous, former)?;
        holders.hold(lease.subnets, session, now);
        let state = self.store.state();
        holders.prune(state.leases.len(), |key| state.leases.contains_key(key));
        Ok(lease)
    }

    /// The lease of the node that the caller's certificate names.
    fn own_lease(&self) -> Option<Lease> {
        let state = self.store.state();
        let key = access::owned_by(self.caller, &state)?;
        state.lease(&key).cloned()
    }

    /// As [`renew`](Self::renew), unless another process that is connected holds the lease. One
    /// without a session, such as an operator's, may renew any.
    pub(super) fn renew_as(
        &self,
        session: Option<&str>,
        key: Subnets,
        attrs: Option<LeaseAttrs>,
    ) -> Result<Lease, StoreError> {
        let mut holders = lock(&self.store.holders);
        let key = self.store.state().lease_key(key);
        if session.is_none() {
            return self.renew(key, attrs);
        }
        if holders.is_held_by_another(&key, session) {
            let node = attrs.map_or_else(|| key.to_string(), |attrs| attrs.node());
            return Err(StoreError::NodeRuns(node));
        }
        let lease = self.renew(key, attrs)?;
        holders.hold(lease.subnets, session, Instant::now());
        Ok(lease)
    }

    /// As [`Store::acquire`].
    pub(super) fn acquire(
        &self,
        attrs: LeaseAttrs,
        previous: Subnets,
        former: Option<LeaseAttrs>,
    ) -> Result<Lease, StoreError> {
        self.acquire_from(None, attrs, previous, former)
    }

    /// The same. The node that holds the lease `gone` is gone.
    fn acquire_from(
        &self,
        gone: Option<Subnets>,
        attrs: LeaseAttrs,
        previous: Subnets,
        former: Option<LeaseAttrs>,
    ) -> Result<Lease, StoreError> {
        let mut granted = None;
        let acquired = self.store.change(|state| {
            let node = Node {
                attrs: &attrs,
                former: former.as_ref(),
            };
            let request = Request::Acquire {
                node,
                previous,
                gone,
            };
            let permission = self.permission(request, state)?;
            let ended = permission.ended;
            let former = permission.former.clone().or_else(|| former.clone());
            let random = getrandom::u64();
            let random = best_effort(random, "the first of the free subnets is taken").unwrap_or(0);
            let (config, former) = (self.store.config.borrow(), former.as_ref());
            let (mut changes, lease) =
                state.acquire(&config, attrs, previous, former, ended, random)?;
            changes.extend(permission.ownership(state, lease.subnets));
            granted = Some(lease.clone());
            Ok((changes, lease))
        });
        match (acquired, granted) {
            // a node that starts while nothing can be written goes on with the lease that it holds
            (Err(error), Some(lease)) if error.is_of_the_disk() => {
                let state = self.store.state();
                let held = state.lease(&lease.subnets).cloned();
                held.filter(|held| held.attrs == lease.attrs).ok_or(error)
            }
            (acquired, _) => acquired,
        }
    }

    /// Renews a lease, with these attributes or else its own.
    pub(super) fn renew(
        &self,
        key: Subnets,
        attrs: Option<LeaseAttrs>,
    ) -> Result<Lease, StoreError> {
        self.store.change(|state| {
            let permission = self.permission(Request::Renew(key), state)?;
            let (mut changes, lease) = state.renew(&self.store.config.borrow(), key, attrs)?;
            changes.extend(permission.ownership(state, key));
            Ok((changes, lease))
        })
    }

    /// Takes a lease away; its node stops.
    pub(super) fn revoke(&self, key: Subnets) -> Result<(), StoreError> {
        self.store.change(|state| {
            self.permission(Request::Revoke(key), state)?;
            Ok((state.revoke(key)?, ()))
        })
    }

    /// As [`Store::reserve`].
    pub(super) fn reserve(&self, reservation: Reservation) -> Result<(), StoreError> {
        self.store.change(|state| {
            self.permission(Request::Reserve, state)?;
            Ok((state.reserve(&self.store.config.borrow(), reservation)?, ()))
        })
    }

    /// Ends a reservation.
    pub(super) fn unreserve(&self, key: Subnets) -> Result<(), StoreError> {
        self.store.change(|state| {
            self.permission(Request::Reserve, state)?;
            Ok((state.unreserve(key)?, ()))
        })
    }

    fn permission(&self, request: Request<'_>, state: &State) -> Result<Permission, StoreError> {
        Ok(authorize(self.caller, request, state)?)
    }
}

/// A panic leaves no half-made change behind a lock: changes are applied in one step at the end.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
