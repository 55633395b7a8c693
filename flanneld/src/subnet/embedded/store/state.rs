//! The content of the store in memory: plain data, and how each change alters it.

use crate::{
    model::Subnets,
    model::lease::{Lease, LeaseAttrs},
    subnet::{alloc::Reservation, embedded::wire::json},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// Changes that a watcher may miss without needing a whole snapshot.
const HISTORY: usize = 1024;

/// Why a lease was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// It was not renewed.
    Expired,
    /// An operator took it away.
    Revoked,
    /// Its node was granted another one.
    Replaced,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Reason::Expired => "expired",
            Reason::Revoked => "revoked",
            Reason::Replaced => "replaced",
        }
    }
}

/// One step; a transaction is a list of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    /// A lease is new or has changed.
    Put(Lease),
    /// A lease ends.
    Remove(Subnets, Reason),
    /// Remembers that a lease was revoked, so that its node learns it.
    Revoked(Subnets, LeaseAttrs),
    /// Forgets it.
    Forget(Subnets),
    /// Subnets are kept for a node.
    Reserve(Reservation),
    /// The reservation ends.
    Unreserve(Subnets),
    /// The lease belongs to the node that this certificate's name names.
    Own(Subnets, Arc<str>),
}

/// A lease, and its JSON as every watcher gets it.
pub(super) struct Held {
    pub(super) lease: Arc<Lease>,
    json: Arc<str>,
    /// None: it does not end. Monotonic, so that setting the clock changes no lease.
    deadline: Option<Instant>,
}

/// The content of the store.
#[derive(Default)]
pub(super) struct State {
    pub(super) leases: BTreeMap<Subnets, Held>,
    pub(super) reservations: BTreeMap<Subnets, Reservation>,
    pub(super) revoked: BTreeMap<Subnets, LeaseAttrs>,
    /// The names of the nodes that took leases, from their certificates.
    pub(super) owners: BTreeMap<Subnets, Arc<str>>,
    /// The number of the last change.
    pub(super) revision: u64,
    /// The last changes, as events.
    history: VecDeque<(u64, Arc<str>)>,
    /// All leases as JSON, until the next change.
    snapshot: Option<Arc<[Arc<str>]>>,
    pub(super) ttl: Duration,
}

/// What brings a watcher up to date.
pub(in super::super) enum Update {
    /// All leases as JSON.
    Snapshot(Arc<[Arc<str>]>),
    /// What changed, as JSON events; may be empty.
    Events(Arc<[Arc<str>]>),
}

impl State {
    /// The content of the file. A lease that ended while the store was away gets `grace`: its node
    /// may run, and could not renew it.
    pub(super) fn load(
        changes: Vec<Change>,
        revision: u64,
        ttl: Duration,
        grace: Duration,
    ) -> State {
        let mut state = State {
            ttl,
            ..State::default()
        };
        state.apply(changes);
        // an earlier version, which knows no owners, may have removed their leases
        let State { owners, leases, .. } = &mut state;
        owners.retain(|key, _| leases.contains_key(key));
        let now = SystemTime::now();
        for held in state.leases.values_mut() {
            held.deadline = held.lease.expiration.map(|end| {
                let left = end.duration_since(now).unwrap_or(Duration::ZERO);
                Instant::now() + left.clamp(grace.min(ttl), ttl)
            });
        }
        state.revision = revision;
        state.history.clear();
        state
    }

    /// The content as the changes that lead to it.
    pub(super) fn dump(&self) -> Vec<Change> {
        let leases = self
            .leases
            .values()
            .map(|held| Change::Put(Lease::clone(&held.lease)));
        let reservations = self.reservations.values().cloned().map(Change::Reserve);
        let revoked = self.revoked.iter();
        let revoked = revoked.map(|(key, attrs)| Change::Revoked(*key, attrs.clone()));
        let owners = self.owners.iter();
        let owners = owners.map(|(key, name)| Change::Own(*key, name.clone()));
        let kept = reservations.chain(revoked).chain(owners);
        leases.chain(kept).collect()
    }

    /// Logs the changes that matter to an operator.
    pub(super) fn log(&self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(lease) if self.lease(&lease.subnets).is_none() => {
                    tracing::info!("lease {} for {}", lease.subnets, lease.attrs.node());
                }
                Change::Remove(key, reason) => {
                    tracing::info!("lease {key} ends: {}", reason.as_str());
                }
                Change::Reserve(Reservation { subnets, attrs }) => {
                    tracing::info!("{subnets} is reserved for {}", attrs.node());
                }
                Change::Unreserve(key) => tracing::info!("{key} is no longer reserved"),
                Change::Own(key, name) => tracing::info!("lease {key} belongs to {name}"),
                Change::Put(_) | Change::Revoked(..) | Change::Forget(_) => {}
            }
        }
    }

    /// The revision to which changes of different leases lead.
    pub(super) fn revision_after(&self, changes: &[Change]) -> u64 {
        let visible = changes.iter().filter(|change| match change {
            Change::Put(lease) => self.is_visible(lease),
            Change::Remove(key, _) => self.leases.contains_key(key),
            Change::Revoked(..)
            | Change::Forget(_)
            | Change::Reserve(_)
            | Change::Unreserve(_)
            | Change::Own(..) => false,
        });
        self.revision + visible.count() as u64
    }

    /// Peers have no use for the new expiration of a lease that is only renewed.
    fn is_visible(&self, lease: &Lease) -> bool {
        match self.leases.get(&lease.subnets) {
            Some(held) => held.lease.attrs != lease.attrs,
            None => true,
        }
    }

    pub(super) fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Put(lease) => self.put(lease),
                Change::Remove(key, reason) => {
                    self.owners.remove(&key);
                    if let Some(held) = self.leases.remove(&key) {
                        let reason = reason.as_str();
                        self.record(format!(
                            r#"{{"type":"removed","reason":"{reason}","lease":{}}}"#,
                            held.json
                        ));
                    }
                }
                Change::Revoked(key, attrs) => {
                    self.revoked.insert(key, attrs);
                }
                Change::Forget(key) => {
                    self.revoked.remove(&key);
                }
                Change::Reserve(reservation) => {
                    self.reservations.insert(reservation.subnets, reservation);
                }
                Change::Unreserve(key) => {
                    self.reservations.remove(&key);
                }
                Change::Own(key, name) => {
                    self.owners.insert(key, name);
                }
            }
        }
        self.snapshot = None;
    }

    fn put(&mut self, lease: Lease) {
        let key = lease.subnets;
        let json: Arc<str> = json(&lease).into();
        if self.is_visible(&lease) {
            self.record(format!(r#"{{"type":"added","lease":{json}}}"#));
        }
        let deadline = lease.expiration.map(|_| Instant::now() + self.ttl);
        let held = Held {
            lease: Arc::new(lease),
            json,
            deadline,
        };
        self.leases.insert(key, held);
    }

    fn record(&mut self, event: String) {
        self.revision += 1;
        self.history.push_back((self.revision, event.into()));
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
    }

    /// What changed since a revision, and the revision that this leads to. None, or a revision that
    /// the history does not reach: a snapshot.
    pub(super) fn since(&mut self, cursor: Option<u64>) -> (Update, u64) {
        let oldest = self.history.front().map_or(self.revision + 1, |(n, _)| *n);
        let update = match cursor {
            Some(cursor) if cursor <= self.revision && cursor + 1 >= oldest => {
                let events = self.history.iter().filter(|(n, _)| *n > cursor);
                Update::Events(events.map(|(_, event)| event.clone()).collect())
            }
            _ => Update::Snapshot(self.snapshot()),
        };
        (update, self.revision)
    }

    /// All leases as JSON; shared until the next change.
    pub(super) fn snapshot(&mut self) -> Arc<[Arc<str>]> {
        let leases = &self.leases;
        self.snapshot
            .get_or_insert_with(|| leases.values().map(|held| held.json.clone()).collect())
            .clone()
    }

    /// The key of the lease that has these subnets, of which one family may be left out.
    pub(super) fn lease_key(&self, subnets: Subnets) -> Subnets {
        whole_key(&self.leases, subnets)
    }

    /// As [`lease_key`](Self::lease_key), of a reservation.
    pub(super) fn reservation_key(&self, subnets: Subnets) -> Subnets {
        whole_key(&self.reservations, subnets)
    }

    pub(super) fn lease(&self, key: &Subnets) -> Option<&Lease> {
        self.leases.get(key).map(|held| held.lease.as_ref())
    }

    /// The removal of the leases that have ended by `now`.
    pub(super) fn expire(&self, now: Instant) -> Vec<Change> {
        self.leases
            .iter()
            .filter(|(_, held)| held.deadline.is_some_and(|end| end <= now))
            .map(|(key, _)| Change::Remove(*key, Reason::Expired))
            .collect()
    }

    /// When the next lease ends.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.leases.values().filter_map(|held| held.deadline).min()
    }
}

fn whole_key<T>(entries: &BTreeMap<Subnets, T>, subnets: Subnets) -> Subnets {
    if entries.contains_key(&subnets) {
        return subnets;
    }
    let found = entries.keys().find(|key| key.includes(&subnets));
    found.copied().unwrap_or(subnets)
}
