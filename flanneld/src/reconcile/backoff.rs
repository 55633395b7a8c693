//! When failed changes are tried again: each has its own exponential backoff, so that one that
//! keeps failing does not delay the others.

use super::diff::Change;
use crate::retry::ExponentialBackoff;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

const BACKOFF: ExponentialBackoff = ExponentialBackoff {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(30),
};

/// The changes that failed.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failed: HashMap<Change, Failure>,
}

/// A change that fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) attempts: u32,
    /// The change is not tried again before.
    pub(crate) retry_at: Instant,
    /// The last error.
    pub(crate) error: String,
}

impl Backoff {
    /// True if the change may be tried now.
    pub(crate) fn is_due(&self, change: &Change, now: Instant) -> bool {
        self.failed
            .get(change)
            .is_none_or(|failure| failure.retry_at <= now)
    }

    /// Records a failure; returns the number of attempts so far.
    pub(crate) fn failed(&mut self, change: &Change, error: String, now: Instant) -> u32 {
        let before = self
            .failed
            .get(change)
            .map_or(0, |failure| failure.attempts);
        let attempts = before.saturating_add(1);
        let failure = Failure {
            attempts,
            retry_at: now + BACKOFF.delay(attempts),
            error,
        };
        self.failed.insert(change.clone(), failure);
        attempts
    }

    /// Drops the failures of changes that are no longer pending.
    pub(crate) fn retain(&mut self, pending: &[Change]) {
        if !self.failed.is_empty() {
            let pending: HashSet<&Change> = pending.iter().collect();
            self.failed.retain(|change, _| pending.contains(change));
        }
    }

    pub(crate) fn succeeded(&mut self, change: &Change) {
        self.failed.remove(change);
    }

    /// Lets every change be tried at once: the host changed.
    pub(crate) fn clear(&mut self) {
        self.failed.clear();
    }

    /// When the next change is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.failed.values().map(|failure| failure.retry_at).min()
    }

    pub(crate) fn get(&self, change: &Change) -> Option<&Failure> {
        self.failed.get(change)
    }

    /// True if a failing change belongs to what every pod of the node needs.
    pub(crate) fn affects_node_setup(&self) -> bool {
        let mut failed = self.failed.keys();
        failed.any(|change| change.entry().is_node_setup())
    }

    pub(crate) fn failures(&self) -> Arc<[(Change, Failure)]> {
        let failed = self.failed.iter();
        failed
            .map(|(change, failure)| (change.clone(), failure.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::entry::Entry;

    fn change(device: &str) -> Change {
        Change::Delete(Entry::Address(
            device.into(),
            "10.1.0.0/32".parse().unwrap(),
        ))
    }

    #[test]
    fn each_change_has_its_own_delay_and_it_grows() {
        let (mut backoff, start) = (Backoff::default(), Instant::now());
        assert!(backoff.is_due(&change("a"), start));
        backoff.failed(&change("a"), "no".into(), start);
        assert!(!backoff.is_due(&change("a"), start));
        assert!(
            backoff.is_due(&change("b"), start),
            "another change is not delayed"
        );
        assert!(backoff.is_due(&change("a"), start + BACKOFF.first));
        for _ in 0..40 {
            backoff.failed(&change("a"), "no".into(), start);
        }
        assert_eq!(backoff.next(), Some(start + BACKOFF.longest));
    }

    #[test]
    fn failures_of_changes_that_are_no_longer_pending_are_dropped() {
        let (mut backoff, start) = (Backoff::default(), Instant::now());
        backoff.failed(&change("a"), "no".into(), start);
        backoff.retain(&[change("b")]);
        assert_eq!(backoff.next(), None);
        assert_eq!(backoff.failed(&change("a"), "no".into(), start), 1);
    }
}
