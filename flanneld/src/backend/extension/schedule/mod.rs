//! Which commands of peers are to run: pure, without clock, process and file. A peer has one
//! command at a time; peers do not wait for each other, except that of one node the commands of a
//! subnet that it left come first.

use super::{
    peer::{Key, PeerInput},
    record::Record,
};
use crate::retry::ExponentialBackoff;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// After a command that failed.
pub(super) const BACKOFF: ExponentialBackoff = ExponentialBackoff {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(60),
};

/// Attempts after which a peer whose command fails no longer affects readiness.
const ATTEMPTS_BEFORE_READY: u32 = 3;

/// What to run for one peer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Job {
    /// SubnetRemoveCommand for each of `undo`, whatever comes of it, then SubnetAddCommand.
    Add {
        key: Key,
        undo: Vec<PeerInput>,
        input: PeerInput,
    },
    /// SubnetRemoveCommand for each.
    Remove { key: Key, inputs: Vec<PeerInput> },
}

impl Job {
    pub(super) fn key(&self) -> Key {
        match self {
            Job::Add { key, .. } | Job::Remove { key, .. } => *key,
        }
    }

    /// The key of the network configuration that has the command.
    pub(super) fn command(&self) -> &'static str {
        match self {
            Job::Add { .. } => "SubnetAddCommand",
            Job::Remove { .. } => "SubnetRemoveCommand",
        }
    }
}

/// A peer whose command is to run, or runs.
#[derive(Debug)]
struct Pending {
    attempts: u32,
    /// Not before.
    due: Instant,
    /// An earlier SubnetAddCommand may have done a part.
    undo: bool,
}

/// The record and what is left to do.
#[derive(Debug)]
pub(super) struct Schedule {
    pub(super) record: Record,
    pending: BTreeMap<Key, Pending>,
    /// Peers of the record that are none any more.
    gone: BTreeSet<Key>,
    running: BTreeSet<Key>,
    /// The record has what must be on disk before a command starts.
    pub(super) must_save: bool,
}

impl Schedule {
    pub(super) fn new(record: Record, must_save: bool) -> Schedule {
        Schedule {
            record,
            pending: BTreeMap::new(),
            gone: BTreeSet::new(),
            running: BTreeSet::new(),
            must_save,
        }
    }

    /// The peers were added by another command: what that did is taken back first.
    pub(super) fn undo_all(&mut self, now: Instant) {
        for key in self.record.peers.keys() {
            self.pending.insert(*key, Pending::new(now, true));
        }
        self.must_save = true;
    }

    /// Takes over the peers as they are now.
    pub(super) fn follow(&mut self, peers: &BTreeMap<Key, PeerInput>, now: Instant) {
        for (key, input) in peers {
            let returned = self.gone.remove(key);
            if self.record.follow_peer(*key, input) {
                self.must_save = true;
                self.pending.insert(*key, Pending::new(now, false));
            } else if returned {
                let pending = Pending::new(now, true);
                self.pending.insert(*key, pending);
            }
            let is_added = self.record.peers.get(key).is_some_and(|peer| peer.added);
            if is_added && !self.running.contains(key) {
                self.pending.remove(key);
            } else {
                self.pending
                    .entry(*key)
                    .or_insert_with(|| Pending::new(now, false));
            }
        }
        for key in self.record.peers.keys() {
            if !peers.contains_key(key) && self.gone.insert(*key) {
                self.pending.insert(*key, Pending::new(now, false));
            }
        }
    }

    /// Takes at most `count` jobs that are due. They run from now on: what they need of the record
    /// on disk has to be saved first (`must_save`).
    pub(super) fn start(&mut self, count: usize, now: Instant) -> Vec<Job> {
        if count == 0 {
            return Vec::new();
        }
        let leaving: Vec<PeerInput> = self.leaving().cloned().collect();
        let due = self.pending.iter().filter(|(key, pending)| {
            let blocked = || {
                let peer = self.record.peers.get(key);
                let mut leaving = leaving.iter();
                peer.is_some_and(|peer| leaving.any(|other| other.shares_node(&peer.input)))
            };
            !self.running.contains(key)
                && pending.due <= now
                && (self.gone.contains(key) || leaving.is_empty() || !blocked())
        });
        let keys: Vec<Key> = due.map(|(key, _)| *key).take(count).collect();
        keys.into_iter().filter_map(|key| self.job(key)).collect()
    }

    /// Peers that went, and whose SubnetRemoveCommand has not ended once.
    fn leaving(&self) -> impl Iterator<Item = &PeerInput> {
        let first = |key: &&Key| self.pending.get(key).is_some_and(|p| p.attempts == 0);
        let gone = self.gone.iter().filter(first);
        gone.filter_map(|key| Some(&self.record.peers.get(key)?.input))
    }

    fn job(&mut self, key: Key) -> Option<Job> {
        let peer = self.record.peers.get_mut(&key)?;
        let pending = self.pending.get(&key)?;
        let mut undo = peer.earlier.clone();
        let job = if self.gone.contains(&key) {
            undo.push(peer.input.clone());
            Job::Remove { key, inputs: undo }
        } else {
            if pending.undo || pending.attempts > 0 {
                undo.push(peer.input.clone());
            }
            let input = peer.input.clone();
            Job::Add { key, undo, input }
        };
        // if the daemon is killed while the command runs, the peer counts as not added
        self.must_save |= std::mem::take(&mut peer.added);
        self.running.insert(key);
        Some(job)
    }

    /// A job ended. Returns when it is tried again, and the number of attempts, if it failed and
    /// still has to be done.
    pub(super) fn ended(&mut self, job: &Job, done: bool, now: Instant) -> Option<(u32, Duration)> {
        let key = job.key();
        self.running.remove(&key);
        match job {
            Job::Add { input, undo, .. } => {
                let earlier: Vec<_> = undo.iter().filter(|other| *other != input).collect();
                self.disturbed(key, &earlier, now);
                let is_gone = self.gone.contains(&key);
                let peer = self.record.peers.get_mut(&key)?;
                if is_gone || peer.input != *input {
                    return None;
                }
                if done {
                    peer.earlier.clear();
                    peer.added = true;
                    self.pending.remove(&key);
                    return None;
                }
            }
            Job::Remove { inputs, .. } => {
                self.disturbed(key, &inputs.iter().collect::<Vec<_>>(), now);
                if !self.gone.contains(&key) {
                    // it is back
                    self.pending.insert(key, Pending::new(now, true));
                    return None;
                }
                if done {
                    self.record.peers.remove(&key);
                    self.gone.remove(&key);
                    self.pending.remove(&key);
                    return None;
                }
            }
        }
        let pending = self.pending.get_mut(&key)?;
        pending.attempts = pending.attempts.saturating_add(1);
        let delay = BACKOFF.delay(pending.attempts);
        pending.due = now + delay;
        Some((pending.attempts, delay))
    }

    /// What was removed may be shared with another subnet of the same node, as its device's MAC is:
    /// that one is added anew.
    fn disturbed(&mut self, key: Key, removed: &[&PeerInput], now: Instant) {
        if removed.is_empty() {
            return;
        }
        let shares = |input: &PeerInput| removed.iter().any(|other| other.shares_node(input));
        let others = self.record.peers.iter_mut().filter(|(other, peer)| {
            **other != key && peer.added && !self.gone.contains(other) && shares(&peer.input)
        });
        for (other, peer) in others {
            peer.added = false;
            self.pending.insert(*other, Pending::new(now, true));
        }
    }

    /// When something becomes due that is not due yet.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let waiting = self.pending.iter();
        let waiting = waiting.filter(|(key, _)| !self.running.contains(key));
        let due = waiting.map(|(_, pending)| pending.due);
        due.filter(|due| *due > now).min()
    }

    /// The number of peers whose commands fail.
    pub(super) fn failing(&self) -> usize {
        let failing = self.pending.values().filter(|p| p.attempts > 0);
        failing.count()
    }

    /// True if every peer was added, except for those that failed several times.
    pub(super) fn is_settled(&self) -> bool {
        let mut pending = self.pending.iter();
        pending.all(|(key, pending)| {
            self.gone.contains(key) || pending.attempts >= ATTEMPTS_BEFORE_READY
        })
    }

    /// True if every command succeeded or was tried that often.
    pub(super) fn has_tried_all(&self, attempts: u32) -> bool {
        let mut pending = self.pending.values();
        self.running.is_empty() && pending.all(|pending| pending.attempts >= attempts)
    }

    /// True if nothing is left to do.
    pub(super) fn is_done(&self) -> bool {
        self.pending.is_empty() && self.running.is_empty()
    }
}

impl Pending {
    fn new(now: Instant, undo: bool) -> Pending {
        Pending {
            attempts: 0,
            due: now,
            undo,
        }
    }
}

#[cfg(test)]
mod tests;
