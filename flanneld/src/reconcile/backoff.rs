//! When to try again what failed: each change by itself, so that one that cannot succeed holds nobody up.
use crate::reconcile::diff::Change;
use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// Changes that failed.
#[derive(Debug, Default)]
pub struct Backoff {
    failed: HashMap<Change, Failed>,
}

/// A change that failed, how often, and why.
#[derive(Debug, Clone)]
pub struct Failed {
    /// attempts so far
    pub attempts: u32,
    /// not before
    pub next: Instant,
    /// the last error
    pub error: String,
}

impl Backoff {
    /// True if it may be tried now.
    pub fn is_due(&self, change: &Change, now: Instant) -> bool {
        self.failed
            .get(change)
            .is_none_or(|failed| failed.next <= now)
    }

    /// It failed again; the number of attempts so far.
    pub fn failed(&mut self, change: &Change, error: String, now: Instant) -> u32 {
        let attempts = self
            .failed
            .get(change)
            .map_or(1, |failed| failed.attempts.saturating_add(1));
        let next = now + LONGEST.min(FIRST * 2u32.saturating_pow(attempts.min(20) - 1));
        self.failed.insert(
            change.clone(),
            Failed {
                attempts,
                next,
                error,
            },
        );
        attempts
    }

    /// Forgets what is no longer to be done, because it succeeded or is not wanted any more.
    pub fn keep_only(&mut self, pending: &[Change]) {
        if !self.failed.is_empty() {
            let pending: HashSet<&Change> = pending.iter().collect();
            self.failed.retain(|change, _| pending.contains(change));
        }
    }

    /// Succeeded.
    pub fn succeeded(&mut self, change: &Change) {
        self.failed.remove(change);
    }

    /// Everything may be tried at once: the host changed.
    pub fn forget(&mut self) {
        self.failed.clear();
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Instant> {
        self.failed.values().map(|failed| failed.next).min()
    }

    /// What is failing.
    pub fn failing(&self) -> impl Iterator<Item = (&Change, &Failed)> {
        self.failed.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet_filter::Family;

    fn change(name: &str) -> Change {
        Change::DeleteTable(Family::Ip, name.to_owned())
    }

    #[test]
    fn each_waits_by_itself_and_longer_each_time() {
        let (mut backoff, start) = (Backoff::default(), Instant::now());
        assert!(backoff.is_due(&change("a"), start));
        backoff.failed(&change("a"), "no".into(), start);
        assert!(!backoff.is_due(&change("a"), start));
        assert!(
            backoff.is_due(&change("b"), start),
            "another is not held up"
        );
        assert!(backoff.is_due(&change("a"), start + FIRST));
        for _ in 0..40 {
            backoff.failed(&change("a"), "no".into(), start);
        }
        assert_eq!(backoff.next(), Some(start + LONGEST));
    }

    #[test]
    fn what_is_not_wanted_any_more_is_forgotten() {
        let (mut backoff, start) = (Backoff::default(), Instant::now());
        backoff.failed(&change("a"), "no".into(), start);
        backoff.keep_only(&[change("b")]);
        assert_eq!(backoff.next(), None);
        assert_eq!(backoff.failed(&change("a"), "no".into(), start), 1);
    }
}
