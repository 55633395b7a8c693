//! When a request to the API server is tried again, and how often this node writes at most.

use super::client::Failure;
use crate::retry::ExponentialBackoff;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// After a failure. With jitter, 5,000 nodes that the API server left at one moment return over
/// half a minute.
const BACKOFF: ExponentialBackoff = ExponentialBackoff {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(30),
};
/// No server makes a node wait longer than this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Between writes of the same thing, when another party keeps changing it.
const WRITE_BACKOFF: ExponentialBackoff = ExponentialBackoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(30),
};
/// A thing that stayed as written for this long is no matter of dispute.
const PEACE_INTERVAL: Duration = Duration::from_secs(60);

/// Retries of one request.
#[derive(Debug, Default)]
pub(super) struct ApiRetry {
    attempt: u32,
}

impl ApiRetry {
    /// Waits after a failure; without one, after an answer that does not help yet.
    pub(super) async fn wait(&mut self, failure: Option<&Failure>) {
        self.attempt = self.attempt.saturating_add(1);
        let asked = failure.and_then(|failure| failure.retry_after);
        let asked = asked.unwrap_or_default().min(LONGEST_RETRY_AFTER);
        sleep(BACKOFF.jittered(self.attempt).max(asked)).await;
    }
}

/// Limits how often this node writes one thing, and how often it says that somebody else does.
#[derive(Debug, Default)]
pub(super) struct WriteLimiter {
    last: Option<Instant>,
    writes: u32,
    logged: Option<Instant>,
}

impl WriteLimiter {
    /// How long the next write has to wait.
    pub(super) fn delay(&self, now: Instant) -> Duration {
        match self.last {
            Some(last) => WRITE_BACKOFF
                .delay(self.writes)
                .saturating_sub(now.duration_since(last)),
            None => Duration::ZERO,
        }
    }

    /// The thing was written.
    pub(super) fn written(&mut self, now: Instant) {
        if self.last.is_none_or(|last| is_peace(last, now)) {
            self.writes = 0;
        }
        self.last = Some(now);
        self.writes = self.writes.saturating_add(1);
    }

    /// The thing was written because another party had changed it. True if that should be logged:
    /// once a minute.
    pub(super) fn written_again(&mut self, now: Instant) -> bool {
        self.written(now);
        let log = self.logged.is_none_or(|logged| is_peace(logged, now));
        if log {
            self.logged = Some(now);
        }
        log
    }
}

fn is_peace(last: Instant, now: Instant) -> bool {
    now.duration_since(last) >= PEACE_INTERVAL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dispute_slows_down_and_is_logged_once_a_minute() {
        let start = Instant::now();
        let mut limiter = WriteLimiter::default();
        let mut now = start;
        let mut logged = 0;
        let mut writes = 0;
        while now < start + Duration::from_secs(600) {
            now += limiter.delay(now);
            logged += u32::from(limiter.written_again(now));
            writes += 1;
        }
        assert!((15..=30).contains(&writes), "{writes}");
        assert!((8..=11).contains(&logged), "{logged}");
    }

    #[test]
    fn write_after_a_quiet_minute_is_not_delayed() {
        let start = Instant::now();
        let mut limiter = WriteLimiter::default();
        assert_eq!(limiter.delay(start), Duration::ZERO);
        for _ in 0..5 {
            limiter.written(start);
        }
        assert!(limiter.delay(start) > Duration::from_secs(10));
        let later = start + PEACE_INTERVAL;
        assert_eq!(limiter.delay(later), Duration::ZERO);
        limiter.written(later);
        assert_eq!(limiter.delay(later), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn server_that_asks_for_time_gets_it() {
        let failure = Failure::after(Duration::from_secs(7));
        let start = Instant::now();
        ApiRetry::default().wait(Some(&failure)).await;
        assert_eq!(start.elapsed().as_secs(), 7);
    }
}
