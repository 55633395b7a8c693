//! This node's lease: when it is to be renewed, and what a change of its key means. Pure.

use super::{
    cache::{Entry, LeaseCache},
    registry::Written,
};
use crate::{
    best_effort::best_effort,
    model::lease::{Lease, LeaseAttrs},
};
use serde_json::Value;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Keep-alives in the life of a lease. They leave an outage almost the whole life of the lease,
/// where the renewal alone leaves it the margin.
const KEEP_ALIVES: u32 = 24;
/// A renewal comes earlier by up to this part of its time, so that nodes that started together do
/// not renew together.
const RENEWAL_JITTER: f64 = 0.05;
/// Delay before a renewal that failed is tried again.
pub(super) const RENEWAL_RETRY_DELAY: Duration = Duration::from_secs(60);
/// Least time between two writes of the same lease because another party wrote its key.
pub(super) const REWRITE_INTERVAL: Duration = Duration::from_secs(60);

/// A moment by both clocks. The monotonic one decides when to renew; a suspended machine shows on
/// the other only.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    pub(super) fn now() -> Moment {
        Moment {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// The longer of the times that the clocks measured.
    fn elapsed(&self) -> Duration {
        let wall = self.wall.elapsed().unwrap_or_default();
        self.monotonic.elapsed().max(wall)
    }
}

/// The lease that this node holds.
#[derive(Debug, Clone)]
pub(super) struct OwnLease {
    pub(super) lease: Lease,
    /// The etcd lease; 0 for a reservation.
    pub(super) lease_id: i64,
    pub(super) mod_revision: i64,
    /// The time to live of an etcd lease.
    ttl: Duration,
    /// When the etcd lease was granted or kept alive last.
    alive: Moment,
    renew_at: Instant,
    keep_alive_at: Instant,
    /// When this node may write because another party wrote the key.
    rewrite_at: Option<Instant>,
    /// True while this node waits for that moment.
    rewrite_pending: bool,
    /// True if the store that had the key was lost.
    store_lost: bool,
}

/// What is next for a lease that is as it should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    KeepAlive,
    Renewal,
}

/// What the key of the own lease is, compared with what this node wrote.
#[derive(Debug, PartialEq)]
pub(super) enum Finding {
    /// As written, or the events do not show the last write yet.
    Unchanged,
    /// Another party wrote the key, with the same content.
    Rewritten { mod_revision: i64, lease_id: i64 },
    /// Another party wrote other content for this node, or what cannot be read.
    Overwritten,
    /// Another node that has this node's public IP wrote how it is reached.
    Contended,
    /// The key is another node's.
    Taken { by: String },
    /// The key is gone, and the lease may have ended by itself.
    Ended,
    /// The key was deleted.
    Deleted,
}

impl OwnLease {
    /// A lease that was written just now; `asked` is a moment before.
    pub(super) fn new(
        lease: Lease,
        written: Written,
        asked: Moment,
        ttl: Duration,
        margin: Duration,
    ) -> OwnLease {
        let mut own = OwnLease {
            lease,
            lease_id: 0,
            mod_revision: 0,
            ttl,
            alive: asked,
            renew_at: asked.monotonic,
            keep_alive_at: asked.monotonic,
            rewrite_at: None,
            rewrite_pending: false,
            store_lost: false,
        };
        own.written(written, asked, margin);
        own
    }

    /// The lease was written again, as of `asked`.
    pub(super) fn written(&mut self, written: Written, asked: Moment, margin: Duration) {
        self.lease_id = written.lease_id;
        self.mod_revision = written.mod_revision;
        self.store_lost = false;
        self.lease.expiration = (written.lease_id != 0).then(|| SystemTime::now() + self.ttl);
        let latest = match margin < self.ttl {
            true => self.ttl - margin,
            false => self.ttl / 2,
        };
        let random = best_effort(getrandom::u32(), "the renewal has no jitter").unwrap_or(0);
        let earlier = RENEWAL_JITTER * f64::from(random) / f64::from(u32::MAX);
        self.renew_at = asked.monotonic + latest.mul_f64(1.0 - earlier);
        self.kept_alive(asked);
    }

    /// Another party wrote the key with the same content.
    pub(super) fn rewritten(&mut self, mod_revision: i64, lease_id: i64) {
        self.mod_revision = mod_revision;
        self.lease_id = lease_id;
        self.store_lost = false;
        self.rewrite_pending = false;
        // it is not known when the other party's etcd lease ends: one of ours takes its place, but
        // not at once, since two parties that answer each other would never stop
        self.renew_at = Instant::now() + REWRITE_INTERVAL;
    }

    /// The store that had the key was lost; its revisions mean nothing to the present one.
    pub(super) fn store_lost(&mut self) {
        self.mod_revision = 0;
        self.store_lost = true;
    }

    /// The etcd lease was kept alive, as of `asked`.
    pub(super) fn kept_alive(&mut self, asked: Moment) {
        self.alive = asked;
        self.keep_alive_at = asked.monotonic + self.ttl / KEEP_ALIVES;
    }

    /// A renewal or keep-alive failed.
    pub(super) fn postpone(&mut self) {
        let retry = Instant::now() + RENEWAL_RETRY_DELAY;
        self.renew_at = self.renew_at.max(retry);
        self.keep_alive_at = self.keep_alive_at.max(retry);
    }

    pub(super) fn is_reservation(&self) -> bool {
        self.lease_id == 0
    }

    pub(super) fn ttl(&self) -> Option<Duration> {
        (!self.is_reservation()).then_some(self.ttl)
    }

    /// When something is due next; None for a reservation that is as it should be.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let renewal = (!self.is_reservation()).then(|| self.renew_at.min(self.keep_alive_at));
        let rewrite = self.rewrite_at.filter(|_| self.rewrite_pending);
        renewal.into_iter().chain(rewrite).min()
    }

    pub(super) fn due(&self) -> Due {
        let now = Instant::now();
        match self.is_reservation() {
            true => Due::Nothing,
            false if now >= self.renew_at => Due::Renewal,
            false if now >= self.keep_alive_at => Due::KeepAlive,
            false => Due::Nothing,
        }
    }

    /// True, once in [`REWRITE_INTERVAL`], if this node may write because another party wrote.
    pub(super) fn may_rewrite(&mut self) -> bool {
        let now = Instant::now();
        let may = self.rewrite_at.is_none_or(|at| now >= at);
        if may {
            self.rewrite_at = Some(now + REWRITE_INTERVAL);
        }
        self.rewrite_pending = !may;
        may
    }

    /// This lease may be that of another node with the same public IP. If that one runs, it writes
    /// its data again, and this node, which came later, leaves them.
    pub(super) fn leave_to_holder(&mut self) {
        self.rewrite_at = Some(Instant::now() + REWRITE_INTERVAL);
    }

    /// The write that [`OwnLease::may_rewrite`] allowed failed.
    pub(super) fn rewrite_later(&mut self) {
        self.rewrite_pending = true;
    }

    /// The key is as it should be.
    pub(super) fn intact(&mut self) {
        self.rewrite_pending = false;
    }

    /// True if the lease may have ended by itself: etcd was away for as long as it lives.
    fn may_have_ended(&self) -> bool {
        !self.is_reservation() && self.alive.elapsed() + self.ttl / 20 >= self.ttl
    }

    /// The attributes, if they name this node by other addresses than `attrs`.
    pub(super) fn former(&self, attrs: &LeaseAttrs) -> Option<LeaseAttrs> {
        let own = &self.lease.attrs;
        (!own.same_node(attrs)).then(|| own.clone())
    }

    /// Compares the key in the cache with what this node wrote.
    pub(super) fn inspect(&self, cache: &LeaseCache) -> Finding {
        let subnets = &self.lease.subnets;
        let found = cache.get(subnets);
        if found.is_some_and(|entry| entry.mod_revision == self.mod_revision)
            || !cache.shows(self.mod_revision)
        {
            return Finding::Unchanged;
        }
        match found {
            Some(entry) => self.inspect_entry(entry, cache.is_unreadable(subnets)),
            None if cache.is_unreadable(subnets) => Finding::Overwritten,
            None if self.store_lost || self.may_have_ended() => Finding::Ended,
            None => Finding::Deleted,
        }
    }

    fn inspect_entry(&self, entry: &Entry, unreadable: bool) -> Finding {
        let attrs = &entry.lease.attrs;
        let mod_revision = entry.mod_revision;
        if unreadable {
            Finding::Overwritten
        } else if *attrs == self.lease.attrs {
            Finding::Rewritten {
                mod_revision,
                lease_id: entry.lease_id,
            }
        } else if attrs.same_node(&self.lease.attrs) {
            match is_of_another_node(attrs, &self.lease.attrs) {
                true => Finding::Contended,
                false => Finding::Overwritten,
            }
        } else {
            Finding::Taken { by: attrs.node() }
        }
    }
}

/// True if `found`, which has the public IP of `own`, names another node to the backends.
pub(super) fn is_of_another_node(found: &LeaseAttrs, own: &LeaseAttrs) -> bool {
    let differs = |found: &Option<Value>, own: &Option<Value>| found.is_some() && found != own;
    differs(&found.backend_data, &own.backend_data)
        || differs(&found.backend_v6_data, &own.backend_v6_data)
}

#[cfg(test)]
mod tests;
