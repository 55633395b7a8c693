//! What a client knows of the network, and how lines of the watch change it. Pure.
//!
//! A store that was lost comes back empty, or as an old backup, and fills up as the nodes register anew. Its first
//! pictures are not the truth about a network that works: leases that it does not know (yet) are carried on until they
//! would have ended, or until it gives their subnet or their node something else.
use crate::{
    model::Subnets,
    model::lease::{Lease, LeaseAttrs, Leases},
    subnet::embedded::wire::{Line, TTL},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// More leases than any network of this kind has; a bound for what a server can make a client hold.
const MOST: usize = 200_000;

type Map = BTreeMap<Subnets, Arc<Lease>>;

/// All that is known.
#[derive(Debug)]
pub struct Picture {
    store: Option<String>,
    cursor: u64,
    ttl: Duration,
    leases: Map,
    /// of a store that is no more: until when
    carried: BTreeMap<Subnets, (Arc<Lease>, Instant)>,
    /// pieces of a picture that is not whole yet
    pieces: Option<Map>,
    skipped: u64,
}

/// What a line did.
#[derive(Debug, Default, PartialEq)]
pub struct Effect {
    /// The picture is another one now.
    pub changed: bool,
    /// A whole picture has just arrived.
    pub whole: bool,
    /// These leases were revoked.
    pub revoked: Vec<Subnets>,
}

impl Default for Picture {
    fn default() -> Picture {
        Picture {
            store: None,
            cursor: 0,
            ttl: TTL,
            leases: Map::new(),
            carried: BTreeMap::new(),
            pieces: None,
            skipped: 0,
        }
    }
}

impl Picture {
    /// How to go on after the connection was lost: store and cursor.
    pub fn resume(&mut self) -> Option<(&str, u64)> {
        self.pieces = None;
        self.store.as_deref().map(|store| (store, self.cursor))
    }

    /// How long the store's leases live.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// False before the first whole picture.
    pub fn is_known(&self) -> bool {
        self.store.is_some()
    }

    /// Leases that were not understood, so far.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The store's lease with that name.
    pub fn get(&self, key: &Subnets) -> Option<&Lease> {
        self.leases.get(key).map(Arc::as_ref)
    }

    /// Everything, for the backends.
    pub fn leases(&self) -> Leases {
        let carried = self.carried.values().map(|(lease, _)| lease);
        Arc::new(self.leases.values().chain(carried).cloned().collect())
    }

    /// Takes a line in. Err: what is wrong with it; the picture stays as it was.
    pub fn apply(&mut self, line: Line, now: Instant) -> Result<Effect, String> {
        let cursor = match line.cursor.as_deref().map(str::parse::<u64>) {
            Some(Ok(cursor)) => Some(cursor),
            Some(Err(_)) => return Err(format!("bad cursor {:?}", line.cursor)),
            None => None,
        };
        if let Some(seconds) = line.ttl.filter(|ttl| *ttl > 0) {
            self.ttl = Duration::from_secs(seconds);
        }
        let mut effect = Effect {
            changed: self.drop_ended(now),
            ..Effect::default()
        };
        if let Some(leases) = line.snapshot {
            let mut pieces = self.pieces.take().unwrap_or_default();
            for lease in leases {
                if let Some(lease) = self.read(lease) {
                    pieces.insert(lease.subnets, lease);
                }
            }
            if pieces.len() > MOST {
                return Err(format!("more than {MOST} leases"));
            }
            match (cursor, line.store) {
                (Some(cursor), Some(store)) => {
                    effect.changed |= self.replace(store, cursor, pieces, now);
                    effect.whole = true;
                }
                _ => self.pieces = Some(pieces),
            }
            return Ok(effect);
        }
        for event in line.events {
            let Some(lease) = self.read(event.lease) else {
                continue;
            };
            if event.kind == "removed" {
                let key = lease.subnets;
                effect.changed |= self.leases.remove(&key).is_some();
                effect.changed |= self.carried.remove(&key).is_some();
                if event.reason == "revoked" {
                    effect.revoked.push(key);
                }
            } else {
                effect.changed |= self.put(lease);
            }
        }
        if self.leases.len() > MOST {
            return Err(format!("more than {MOST} leases"));
        }
        if let Some(cursor) = cursor.filter(|_| self.store.is_some()) {
            self.cursor = cursor;
        }
        Ok(effect)
    }

    fn replace(&mut self, store: String, cursor: u64, leases: Map, now: Instant) -> bool {
        let lost = match &self.store {
            Some(known) => *known != store || cursor < self.cursor,
            None => false,
        };
        if lost {
            tracing::warn!(
                "the lease server has another store than before: leases that it does not know are kept until their nodes register"
            );
        }
        let before = self.leases.len() + self.carried.len();
        let old = std::mem::take(&mut self.leases);
        let known = |key| {
            let carried = || self.carried.get(key).map(|(lease, _)| lease);
            old.get(key).or_else(carried)
        };
        let mut changed = leases.iter().any(|(key, lease)| known(key) != Some(lease));
        for (key, lease) in old {
            if lost && !leases.contains_key(&key) {
                self.carried.insert(key, (lease, now + self.ttl));
            }
        }
        for (_, lease) in leases {
            self.put(lease);
        }
        changed |= self.store.replace(store).is_none();
        self.cursor = cursor;
        changed || before != self.leases.len() + self.carried.len()
    }

    /// Adds or changes a lease of the store's; what it contradicts is no longer carried.
    fn put(&mut self, lease: Arc<Lease>) -> bool {
        let key = lease.subnets;
        self.carried.retain(|old, (carried, _)| {
            !old.overlaps(&key) && !carried.attrs.same_node(&lease.attrs)
        });
        let changed = self.leases.get(&key) != Some(&lease);
        self.leases.insert(key, lease);
        changed
    }

    fn drop_ended(&mut self, now: Instant) -> bool {
        let before = self.carried.len();
        self.carried.retain(|_, (_, end)| *end > now);
        before != self.carried.len()
    }

    /// A lease, or None, counted and told, if it cannot be understood: it must not hide the others.
    fn read(&mut self, lease: Value) -> Option<Arc<Lease>> {
        match go_compat::json::from_value::<Lease>(lease) {
            Ok(mut lease) => {
                normalise(&mut lease.attrs);
                Some(Arc::new(lease))
            }
            Err(error) => {
                self.skipped += 1;
                tracing::warn!("a lease is skipped: {error}");
                None
            }
        }
    }
}

/// `null` and nothing are the same thing for backends: compared, they must be equal.
pub fn normalise(attrs: &mut LeaseAttrs) {
    for data in [&mut attrs.backend_data, &mut attrs.backend_v6_data] {
        if data.as_ref().is_some_and(Value::is_null) {
            *data = None;
        }
    }
}

#[cfg(test)]
mod tests;
