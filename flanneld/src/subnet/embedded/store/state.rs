//! What the store holds, in memory: plain data and the rules of each change. Nothing here waits or writes.
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

/// Changes that a watcher may miss without needing the whole picture again.
const HISTORY: usize = 1024;

/// Why a lease went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It was not renewed.
    Expired,
    /// It was taken away.
    Revoked,
    /// Its node got another one.
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
pub enum Change {
    /// A lease is new or has changed.
    Put(Lease),
    /// A lease goes.
    Remove(Subnets, Reason),
    /// Remembers that a lease was revoked, so that its node can be told.
    Revoked(Subnets, LeaseAttrs),
    /// Forgets that.
    Forget(Subnets),
    /// A subnet is kept for a node.
    Reserve(Reservation),
    /// No longer.
    Unreserve(Subnets),
}

/// A lease and its JSON, made once for all watchers.
pub(super) struct Held {
    pub(super) lease: Arc<Lease>,
    json: Arc<str>,
    /// None: it does not end. Monotonic: a clock that is set changes no lease.
    deadline: Option<Instant>,
}

/// Everything.
pub struct State {
    pub(super) leases: BTreeMap<Subnets, Held>,
    pub(super) reservations: BTreeMap<Subnets, Reservation>,
    pub(super) revoked: BTreeMap<Subnets, LeaseAttrs>,
    revision: u64,
    history: VecDeque<(u64, Arc<str>)>,
    snapshot: Option<Arc<[Arc<str>]>>,
    pub(super) ttl: Duration,
}

/// What a watcher needs to be up to date.
pub enum News {
    /// Everything, as JSON leases.
    Snapshot(Arc<[Arc<str>]>),
    /// What changed, as JSON events; perhaps nothing.
    Events(Vec<Arc<str>>),
}

impl State {
    /// Empty, at a revision.
    pub fn new(revision: u64, ttl: Duration) -> State {
        State {
            leases: BTreeMap::new(),
            reservations: BTreeMap::new(),
            revoked: BTreeMap::new(),
            revision,
            history: VecDeque::new(),
            snapshot: None,
            ttl,
        }
    }

    /// How long a lease lives without renewal.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The number of the last change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Takes in what was in the file. A lease that ended while the store was away gets `grace`: its node may be well and
    /// was unable to renew it.
    pub fn load(&mut self, changes: Vec<Change>, grace: Duration) {
        let (now, revision) = (SystemTime::now(), self.revision);
        self.apply(changes);
        for held in self.leases.values_mut() {
            held.deadline = held.lease.expiration.map(|end| {
                let left = end.duration_since(now).unwrap_or_default();
                Instant::now() + left.clamp(grace.min(self.ttl), self.ttl)
            });
        }
        self.revision = revision;
        self.history.clear();
    }

    /// Everything, as the changes that lead here.
    pub fn dump(&self) -> Vec<Change> {
        let leases = self
            .leases
            .values()
            .map(|held| Change::Put(Lease::clone(&held.lease)));
        let reservations = self.reservations.values().cloned().map(Change::Reserve);
        let revoked = self.revoked.iter();
        let revoked = revoked.map(|(key, attrs)| Change::Revoked(*key, attrs.clone()));
        leases.chain(reservations).chain(revoked).collect()
    }

    /// Writes to the log what an operator wants to know.
    pub fn tell(&self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(lease) if self.lease(&lease.subnets).is_none() => {
                    tracing::info!("lease {} for {}", lease.subnets, lease.attrs.node());
                }
                Change::Remove(key, reason) => {
                    tracing::info!("lease {key} ends: {}", reason.as_str());
                }
                Change::Reserve(Reservation {
                    subnets: key,
                    attrs,
                }) => {
                    tracing::info!("{key} is reserved for {}", attrs.node());
                }
                Change::Unreserve(key) => tracing::info!("{key} is no longer reserved"),
                Change::Put(_) | Change::Revoked(..) | Change::Forget(_) => {}
            }
        }
    }

    /// Does them, in order.
    pub fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Put(lease) => self.put(lease),
                Change::Remove(key, reason) => {
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
            }
        }
        self.snapshot = None;
    }

    fn put(&mut self, lease: Lease) {
        let key = lease.subnets;
        let json: Arc<str> = json(&lease).into();
        // a renewal alone is no news: peers have no use for another node's expiration
        let news = match self.leases.get(&key) {
            Some(held) => held.lease.attrs != lease.attrs,
            None => true,
        };
        if news {
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

    /// What is new since a revision (of this store; None: from the start), and the revision that makes.
    pub fn since(&mut self, cursor: Option<u64>) -> (News, u64) {
        let oldest = self.history.front().map_or(self.revision + 1, |(n, _)| *n);
        let news = match cursor {
            Some(cursor) if cursor <= self.revision && cursor + 1 >= oldest => {
                let events = self.history.iter().filter(|(n, _)| *n > cursor);
                News::Events(events.map(|(_, event)| event.clone()).collect())
            }
            _ => News::Snapshot(self.snapshot()),
        };
        (news, self.revision)
    }

    /// All leases as JSON; shared until the next change.
    pub fn snapshot(&mut self) -> Arc<[Arc<str>]> {
        let leases = &self.leases;
        self.snapshot
            .get_or_insert_with(|| leases.values().map(|held| held.json.clone()).collect())
            .clone()
    }

    /// All leases.
    pub fn leases(&self) -> Vec<Arc<Lease>> {
        self.leases
            .values()
            .map(|held| held.lease.clone())
            .collect()
    }

    /// One lease.
    pub fn lease(&self, key: &Subnets) -> Option<&Lease> {
        self.leases.get(key).map(|held| held.lease.as_ref())
    }

    /// All reservations.
    pub fn reservations(&self) -> impl Iterator<Item = &Reservation> {
        self.reservations.values()
    }

    /// What has ended by `now`.
    pub fn expire(&self, now: Instant) -> Vec<Change> {
        self.leases
            .iter()
            .filter(|(_, held)| held.deadline.is_some_and(|end| end <= now))
            .map(|(key, _)| Change::Remove(*key, Reason::Expired))
            .collect()
    }

    /// When the next lease ends.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.leases.values().filter_map(|held| held.deadline).min()
    }
}
