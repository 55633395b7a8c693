//! The leases that etcd has, and how listings and events change them. Pure.
//!
//! - A key or value that cannot be read is reported once for each change of it and counted. The
//!   last lease that was read from the key stays in use for as long as the key is there.
//! - A listing replaces everything at once, so that a watch that has to start over withdraws
//!   nothing in between.
//! - A store that was lost comes back empty, or as an old backup, and fills up as the nodes
//!   register again. Leases that it does not know (yet) are retained until they would have ended,
//!   or until it gives their subnet or their node something else.

use super::keys::{self, Keys, Unreadable};
use crate::{
    model::Subnets,
    model::lease::{Lease, LeaseAttrs, Leases},
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tracing::warn;

/// A key with its value, as etcd has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) key: Vec<u8>,
    /// None for a value that is longer than a message.
    pub(super) value: Option<Vec<u8>>,
    pub(super) mod_revision: i64,
    /// The etcd lease that the key ends with; 0 for none.
    pub(super) lease_id: i64,
}

/// Every key of the leases at one revision.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) store: StoreRevision,
    pub(super) records: Vec<Record>,
}

/// Which store answered, and how far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct StoreRevision {
    pub(super) cluster: u64,
    pub(super) revision: i64,
}

/// An event of the watch.
#[derive(Debug)]
pub(super) enum Change {
    Put(Record),
    Delete { key: Vec<u8>, mod_revision: i64 },
}

/// A lease with what etcd says of its key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) lease: Arc<Lease>,
    pub(super) mod_revision: i64,
    pub(super) lease_id: i64,
}

/// What a listing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Replaced {
    /// The leases are not the same as before.
    pub(super) changed: bool,
    /// The store is another one than before, or an older state of it.
    pub(super) lost: bool,
}

#[derive(Debug)]
pub(super) struct LeaseCache {
    keys: Keys,
    /// The lifetime of a lease.
    ttl: Duration,
    entries: BTreeMap<Subnets, Entry>,
    /// Keys that cannot be read, or whose value cannot, with their revision.
    unreadable: BTreeMap<Vec<u8>, i64>,
    /// Leases of a lost store, and when they would have ended.
    retained: BTreeMap<Subnets, (Arc<Lease>, Instant)>,
    /// The revision that the entries show; None before the first listing.
    store: Option<StoreRevision>,
    /// False after a watch that cannot be resumed.
    resumable: bool,
}

impl LeaseCache {
    pub(super) fn new(keys: Keys, ttl: Duration) -> LeaseCache {
        LeaseCache {
            keys,
            ttl,
            entries: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            retained: BTreeMap::new(),
            store: None,
            resumable: false,
        }
    }

    /// True if a watch can go on in a store that now answers with `current`.
    pub(super) fn is_resumable(&self, current: StoreRevision) -> bool {
        let known = self.store.filter(|_| self.resumable);
        known.is_some_and(|known| !is_lost(&known, &current))
    }

    /// The revision that follows the one which the entries show.
    pub(super) fn next_revision(&self) -> Option<i64> {
        self.store.map(|store| store.revision.saturating_add(1))
    }

    /// False before the first listing.
    pub(super) fn is_complete(&self) -> bool {
        self.store.is_some()
    }

    /// The watch cannot go on: the next one starts from a listing.
    pub(super) fn start_over(&mut self) {
        self.resumable = false;
    }

    /// True if the entries show this revision, or a later one.
    pub(super) fn shows(&self, revision: i64) -> bool {
        self.store.is_some_and(|store| store.revision >= revision)
    }

    pub(super) fn get(&self, subnets: &Subnets) -> Option<&Entry> {
        self.entries.get(subnets)
    }

    /// True if the key of these subnets has a value that cannot be read.
    pub(super) fn is_unreadable(&self, subnets: &Subnets) -> bool {
        let key = self.keys.subnet(subnets);
        self.unreadable.contains_key(key.as_bytes())
    }

    /// The holder of a lease that shares an address with `subnets`, other than the lease for
    /// exactly these.
    pub(super) fn overlapping(&self, subnets: &Subnets) -> impl Iterator<Item = &Lease> {
        let others = self.entries.iter();
        let others = others.filter(move |(key, _)| *key != subnets && key.overlaps(subnets));
        others.map(|(_, entry)| &*entry.lease)
    }

    /// Every known lease, in no order.
    pub(super) fn leases(&self) -> Leases {
        let entries = self.entries.values().map(|entry| &entry.lease);
        let retained = self.retained.values().map(|(lease, _)| lease);
        Arc::new(entries.chain(retained).cloned().collect())
    }

    /// Takes over a listing.
    pub(super) fn replace(&mut self, listing: Listing, now: Instant) -> Replaced {
        let lost = (self.store).is_some_and(|known| is_lost(&known, &listing.store));
        let first = self.store.replace(listing.store).is_none();
        self.resumable = true;
        let mut old = std::mem::take(&mut self.entries);
        let mut unreadable = std::mem::take(&mut self.unreadable);
        if lost {
            warn!(
                "etcd has another store than before: leases that it does not know are retained until their nodes register"
            );
            // revisions of another store say nothing about the known leases
            old.values_mut().for_each(|entry| entry.mod_revision = -1);
            unreadable.clear();
        }
        let mut changed = first | self.remove_ended(now);
        let mut records = listing.records;
        records.sort_by_key(|record| record.mod_revision);
        let count = records.len();
        for (index, record) in records.into_iter().enumerate() {
            // the order of the ends is that of the writes
            let age = Duration::from_micros(u64::try_from(count - index).unwrap_or(0));
            let known = self.key(&record).and_then(|subnets| old.remove(&subnets));
            let reported = unreadable.get(&record.key) == Some(&record.mod_revision);
            changed |= self.put(record, known, reported, age);
        }
        changed |= !old.is_empty();
        for (subnets, entry) in old {
            if lost {
                self.retained.insert(subnets, (entry.lease, now + self.ttl));
            }
        }
        let entries = std::mem::take(&mut self.entries);
        for entry in entries.values() {
            changed |= self.drop_contradicted(&entry.lease);
        }
        self.entries = entries;
        Replaced { changed, lost }
    }

    /// Takes in an event; true if the leases are not the same as before.
    pub(super) fn apply(&mut self, change: Change, now: Instant) -> bool {
        let ended = self.remove_ended(now);
        let (revision, changed) = match change {
            Change::Put(record) => {
                let revision = record.mod_revision;
                let subnets = self.key(&record);
                let known = subnets.and_then(|subnets| self.entries.remove(&subnets));
                let reported = self.unreadable.remove(&record.key) == Some(revision);
                let changed = self.put(record, known, reported, Duration::ZERO);
                let entry = subnets.and_then(|subnets| self.entries.get(&subnets));
                let lease = entry.map(|entry| entry.lease.clone());
                let dropped = lease.is_some_and(|lease| self.drop_contradicted(&lease));
                (revision, changed | dropped)
            }
            Change::Delete { key, mod_revision } => {
                self.unreadable.remove(&key);
                let subnets = self.keys.parse(&key).ok();
                let entry = subnets.and_then(|subnets| self.entries.remove(&subnets));
                let retained = subnets.and_then(|subnets| self.retained.remove(&subnets));
                (mod_revision, entry.is_some() | retained.is_some())
            }
        };
        self.advance(revision);
        ended | changed
    }

    /// Every event up to this revision has arrived.
    pub(super) fn advance(&mut self, revision: i64) {
        if let Some(store) = &mut self.store {
            store.revision = store.revision.max(revision);
        }
    }

    fn key(&self, record: &Record) -> Option<Subnets> {
        self.keys.parse(&record.key).ok()
    }

    /// Enters a record whose key had the lease `known`; `reported` if it was found unreadable as
    /// it is. True if the leases are not the same as before.
    fn put(&mut self, record: Record, known: Option<Entry>, reported: bool, age: Duration) -> bool {
        if let Some(known) = &known
            && known.mod_revision == record.mod_revision
        {
            self.entries.insert(known.lease.subnets, known.clone());
            if reported {
                self.unreadable.insert(record.key, record.mod_revision);
            }
            return false;
        }
        match self.read(&record) {
            Ok((subnets, attrs)) => {
                let mut lease = Lease {
                    subnets,
                    attrs,
                    expiration: None,
                };
                if record.lease_id != 0 {
                    lease.expiration = Some(SystemTime::now() + self.ttl - age);
                }
                let same = known.filter(|known| is_same(&known.lease, &lease));
                let changed = same.is_none();
                let entry = Entry {
                    lease: same.map_or_else(|| Arc::new(lease), |known| known.lease),
                    mod_revision: record.mod_revision,
                    lease_id: record.lease_id,
                };
                self.entries.insert(subnets, entry);
                changed
            }
            Err(reason) => {
                self.unreadable
                    .insert(record.key.clone(), record.mod_revision);
                let kept = match known {
                    Some(_) => "the last lease that was read from it stays in use",
                    None => "it is skipped",
                };
                if !reported {
                    warn!(
                        "etcd key {} cannot be read: {reason}; {kept}; the other leases are not affected ({} such keys)",
                        keys::shown(&record.key),
                        self.unreadable.len()
                    );
                }
                if let Some(mut known) = known {
                    known.mod_revision = record.mod_revision;
                    known.lease_id = record.lease_id;
                    self.entries.insert(known.lease.subnets, known);
                }
                false
            }
        }
    }

    fn read(&self, record: &Record) -> Result<(Subnets, LeaseAttrs), Unreadable> {
        let subnets = self.keys.parse(&record.key)?;
        let value = record.value.as_deref().ok_or(Unreadable::TooLong)?;
        Ok((subnets, keys::parse_value(value)?))
    }

    /// What a lease of the store contradicts is no longer retained.
    fn drop_contradicted(&mut self, lease: &Lease) -> bool {
        let before = self.retained.len();
        self.retained.retain(|old, (lost, _)| {
            !old.overlaps(&lease.subnets) && !lost.attrs.same_node(&lease.attrs)
        });
        before != self.retained.len()
    }

    fn remove_ended(&mut self, now: Instant) -> bool {
        let before = self.retained.len();
        self.retained.retain(|_, (_, end)| *end > now);
        before != self.retained.len()
    }
}

/// True if `current` cannot be the store that was at `known`.
fn is_lost(known: &StoreRevision, current: &StoreRevision) -> bool {
    known.cluster != current.cluster || current.revision < known.revision
}

/// True if the leases differ in nothing but their end. A renewal is no change.
fn is_same(a: &Lease, b: &Lease) -> bool {
    a.attrs == b.attrs && a.expiration.is_none() == b.expiration.is_none()
}

#[cfg(test)]
mod tests;
