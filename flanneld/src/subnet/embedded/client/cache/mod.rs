//! The leases that a client knows, and how lines of the watch change them. Pure.
//!
//! A store that was lost comes back empty, or as an old backup, and fills up as the nodes register
//! again. Its first snapshots are not the truth about a network that works: leases that it does not
//! know (yet) are retained until they would have ended, or until it gives their subnet or their
//! node something else.

use crate::{
    failure_log::FailureLog,
    model::Subnets,
    model::lease::{Lease, Leases},
    one_line::one_line,
    subnet::{TTL, embedded::wire::Line},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// A server that names a longer life means this one: a century, which a clock can add.
const LONGEST_TTL: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Longest id of a store or an epoch, bytes: twice that of ours.
const LONGEST_ID: usize = 64;
/// Leases that cannot be understood.
static SKIPPED: FailureLog = FailureLog::new();
/// Leases that a server can make a client hold: more than any network of this kind has.
const MAX_LEASES: usize = 200_000;

type Map = BTreeMap<Subnets, Arc<Lease>>;

#[derive(Debug)]
pub(super) struct LeaseCache {
    store: Option<String>,
    /// The opening of the store that the cursor is of; None with a server that names none.
    epoch: Option<String>,
    /// The opening that the last line named.
    opening: Option<String>,
    cursor: u64,
    ttl: Duration,
    leases: Map,
    /// Leases of a lost store, and when they would have ended.
    retained: BTreeMap<Subnets, (Arc<Lease>, Instant)>,
    /// The lines so far of a snapshot that is not complete.
    partial: Option<Map>,
}

/// A line that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    /// The cursor is not a revision.
    #[error("bad cursor {0:?}")]
    Cursor(String),
    /// The id of a store, or of an epoch, is a part of the next request.
    #[error("bad id {0:?}")]
    Id(String),
    /// The server sends more leases than a client holds.
    #[error("more than {MAX_LEASES} leases")]
    TooManyLeases,
}

/// What a line changed.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Effect {
    /// The leases are not the same as before.
    pub(super) changed: bool,
    /// A snapshot is complete.
    pub(super) snapshot: bool,
    pub(super) revoked: Vec<Subnets>,
    /// The store was opened since the line before, or this is the first line: the shortest
    /// lifetime of a lease from then on.
    pub(super) opened: Option<Duration>,
}

impl Default for LeaseCache {
    fn default() -> LeaseCache {
        LeaseCache {
            store: None,
            epoch: None,
            opening: None,
            cursor: 0,
            ttl: TTL,
            leases: Map::new(),
            retained: BTreeMap::new(),
            partial: None,
        }
    }
}

impl LeaseCache {
    /// Where the watch goes on after the connection was lost, as a part of the query.
    pub(super) fn resume(&mut self) -> Option<String> {
        self.partial = None;
        let store = self.store.as_deref()?;
        let mut query = format!("store={store}&next={}", self.cursor);
        if let Some(epoch) = &self.epoch {
            query.push_str("&epoch=");
            query.push_str(epoch);
        }
        Some(query)
    }

    /// How many leases the store had last.
    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }

    /// The lifetime of the store's leases.
    pub(super) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// False before the first snapshot is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.store.is_some()
    }

    /// The store's lease for these subnets.
    pub(super) fn get(&self, key: &Subnets) -> Option<&Lease> {
        self.leases.get(key).map(Arc::as_ref)
    }

    /// Every known lease, in no order.
    pub(super) fn leases(&self) -> Leases {
        let retained = self.retained.values().map(|(lease, _)| lease);
        Arc::new(self.leases.values().chain(retained).cloned().collect())
    }

    /// Takes in a line. After an error the watch cannot go on.
    pub(super) fn apply(&mut self, line: Line, now: Instant) -> Result<Effect, LineError> {
        let cursor = match line.cursor {
            Some(text) => match text.parse() {
                Ok(cursor) => Some(cursor),
                Err(_) => return Err(LineError::Cursor(one_line(&text))),
            },
            None => None,
        };
        for id in [&line.store, &line.epoch].into_iter().flatten() {
            if !is_id(id) {
                return Err(LineError::Id(one_line(id)));
            }
        }
        if let Some(seconds) = line.ttl.filter(|ttl| *ttl > 0) {
            self.ttl = Duration::from_secs(seconds).min(LONGEST_TTL);
        }
        let mut effect = Effect {
            changed: self.remove_ended(now),
            ..Effect::default()
        };
        if line.epoch.is_some() && self.opening != line.epoch {
            self.opening.clone_from(&line.epoch);
            effect.opened = Some(line.grace.map_or(self.ttl, |grace| {
                // a number from the network
                Duration::from_secs(grace).min(self.ttl)
            }));
        }
        if line.continues == Some(true) {
            self.epoch.clone_from(&line.epoch);
        }
        if let Some(leases) = line.snapshot {
            let mut snapshot = self.partial.take().unwrap_or_default();
            let leases = leases.into_iter().filter_map(read);
            snapshot.extend(leases.map(|lease| (lease.subnets, lease)));
            if snapshot.len() > MAX_LEASES {
                return Err(LineError::TooManyLeases);
            }
            match (cursor, line.store) {
                (Some(cursor), Some(store)) => {
                    effect.changed |= self.replace(store, line.epoch, cursor, snapshot, now);
                    effect.snapshot = true;
                }
                _ => self.partial = Some(snapshot),
            }
            return Ok(effect);
        }
        for event in line.events {
            let Some(lease) = read(event.lease) else {
                continue;
            };
            if event.kind == "removed" {
                let key = lease.subnets;
                effect.changed |= self.leases.remove(&key).is_some();
                effect.changed |= self.retained.remove(&key).is_some();
                if event.reason == "revoked" {
                    effect.revoked.push(key);
                }
            } else {
                effect.changed |= self.put(lease);
            }
        }
        if self.leases.len() > MAX_LEASES {
            return Err(LineError::TooManyLeases);
        }
        if let Some(cursor) = cursor.filter(|_| self.store.is_some()) {
            self.cursor = cursor;
        }
        Ok(effect)
    }

    fn replace(
        &mut self,
        store: String,
        epoch: Option<String>,
        cursor: u64,
        leases: Map,
        now: Instant,
    ) -> bool {
        let same_store = self.store.as_ref().is_none_or(|known| *known == store);
        let continues = match (&self.epoch, &epoch) {
            // the server has said so if the epoch is not the same any longer
            (Some(known), Some(epoch)) => known == epoch,
            _ => cursor >= self.cursor,
        };
        let lost = !same_store || !continues;
        if lost {
            tracing::warn!(
                "the lease server has another store than before: leases that it does not know are retained until their nodes register"
            );
        }
        let before = self.leases.len() + self.retained.len();
        let old = std::mem::take(&mut self.leases);
        let known = |key| {
            let retained = || self.retained.get(key).map(|(lease, _)| lease);
            old.get(key).or_else(retained)
        };
        let mut changed = leases.iter().any(|(key, lease)| known(key) != Some(lease));
        for (key, lease) in old {
            if lost && !leases.contains_key(&key) {
                self.retained.insert(key, (lease, now + self.ttl));
            }
        }
        for (_, lease) in leases {
            self.put(lease);
        }
        changed |= self.store.replace(store).is_none();
        self.epoch = epoch;
        self.cursor = cursor;
        changed || before != self.leases.len() + self.retained.len()
    }

    /// Adds or changes a lease of the store; what it contradicts is no longer retained.
    fn put(&mut self, lease: Arc<Lease>) -> bool {
        let key = lease.subnets;
        self.retained
            .retain(|old, (lost, _)| !old.overlaps(&key) && !lost.attrs.same_node(&lease.attrs));
        let changed = self.leases.get(&key) != Some(&lease);
        self.leases.insert(key, lease);
        changed
    }

    fn remove_ended(&mut self, now: Instant) -> bool {
        let before = self.retained.len();
        self.retained.retain(|_, (_, end)| *end > now);
        before != self.retained.len()
    }
}

/// True for an id that a query holds as it is (RFC 3986, "unreserved"). Servers make hexadecimal
/// ones.
fn is_id(text: &str) -> bool {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(is_unreserved)
}

/// A lease; None, with a log line, if it cannot be understood: the others are not affected.
fn read(lease: Value) -> Option<Arc<Lease>> {
    match go_compat::json::from_value::<Lease>(lease) {
        Ok(lease) => Some(Arc::new(lease)),
        Err(error) => {
            SKIPPED.failed(format_args!("a lease is skipped: {error}"));
            None
        }
    }
}

#[cfg(test)]
mod tests;
