//! Retries: one exponential backoff for every loop of the daemon, and the loop's log lines.

use crate::best_effort::best_effort;
use std::{collections::VecDeque, time::Duration};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// A reason is logged again after this.
const REMINDER_INTERVAL: Duration = Duration::from_secs(60);
/// Reasons that are logged in that time. Those of one outage alternate: refused, no answer, cut. A
/// peer that makes up more of them does not fill the log.
const REMEMBERED: usize = 8;
/// What works this long after a failure is good: the next failure starts from the first delay.
const PROVING_TIME: Duration = Duration::from_secs(10);

/// When to try again after a failure: the delay doubles with each attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExponentialBackoff {
    /// The delay after the first failure.
    pub(crate) first: Duration,
    /// No delay is longer.
    pub(crate) longest: Duration,
}

impl ExponentialBackoff {
    /// For a peer over the network: a server that restarts is back within a second, one that is
    /// away longer must not be flooded.
    pub(crate) const NETWORK: ExponentialBackoff = ExponentialBackoff {
        first: Duration::from_millis(100),
        longest: Duration::from_secs(5),
    };

    /// The delay after the failure number `attempt`, the first of which is 1.
    pub(crate) fn delay(&self, attempt: u32) -> Duration {
        let factor = 2u32.saturating_pow(attempt.saturating_sub(1));
        self.first.saturating_mul(factor).min(self.longest)
    }

    /// The same with jitter, so that the nodes of a cluster do not return at one moment: between
    /// half of the delay and all of it.
    pub(crate) fn jittered(&self, attempt: u32) -> Duration {
        self.delay(attempt).mul_f64(0.5 + 0.5 * random_share())
    }

    /// The same with more jitter, for thousands of nodes whose server went away at one moment:
    /// between nothing and all of the delay.
    pub(crate) fn full_jitter(&self, attempt: u32) -> Duration {
        self.delay(attempt).mul_f64(random_share())
    }
}

/// A random number from 0 to 1.
pub(crate) fn random_share() -> f64 {
    let random = best_effort(getrandom::u32(), "the delay has less jitter").unwrap_or(u32::MAX);
    f64::from(random) / f64::from(u32::MAX)
}

/// A loop that retries one thing until it succeeds. It logs each reason once a minute, and the end
/// of the outage. A peer that answers and fails again and again is tried ever less often, and is no
/// news more than once a minute.
#[derive(Debug)]
pub(crate) struct Retry {
    what: String,
    backoff: ExponentialBackoff,
    attempt: u32,
    since: Option<Instant>,
    /// When it succeeded after the last failure.
    good_since: Option<Instant>,
    logged: VecDeque<(String, Instant)>,
    /// Failures that were not logged.
    left_out: u32,
    logged_end: Option<Instant>,
}

impl Retry {
    /// `what` completes the log lines "waiting for {what}: {reason}" and "{what} is back".
    pub(crate) fn new(what: impl Into<String>, backoff: ExponentialBackoff) -> Retry {
        Retry {
            what: what.into(),
            backoff,
            attempt: 0,
            since: None,
            good_since: None,
            logged: VecDeque::new(),
            left_out: 0,
            logged_end: None,
        }
    }

    /// Logs why an attempt failed and waits until the next one.
    pub(crate) async fn failed(&mut self, reason: &str) {
        let now = Instant::now();
        if self
            .good_since
            .take()
            .is_some_and(|good| now.duration_since(good) >= PROVING_TIME)
        {
            self.attempt = 0;
            self.logged.clear();
        }
        self.since.get_or_insert(now);
        if self.is_to_be_logged(reason, now) {
            match std::mem::take(&mut self.left_out) {
                0 => warn!("waiting for {}: {reason}", self.what),
                count => warn!(
                    "waiting for {}: {reason} ({count} more failures since the last line)",
                    self.what
                ),
            }
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
        self.attempt = self.attempt.saturating_add(1);
        sleep(self.backoff.jittered(self.attempt)).await;
    }

    fn is_to_be_logged(&mut self, reason: &str, now: Instant) -> bool {
        self.logged.retain(|(_, at)| is_recent(*at, now));
        if self.logged.len() == REMEMBERED || self.logged.iter().any(|(logged, _)| logged == reason)
        {
            return false;
        }
        self.logged.push_back((reason.to_owned(), now));
        true
    }

    /// An attempt succeeded. If it works for [`PROVING_TIME`], the next failure starts from the
    /// first delay.
    pub(crate) fn succeeded(&mut self) {
        let now = Instant::now();
        self.good_since.get_or_insert(now);
        if let Some(since) = self.since.take()
            && !self.logged_end.is_some_and(|at| is_recent(at, now))
        {
            self.logged_end = Some(now);
            info!("{} is back after {:.1?}", self.what, since.elapsed());
        }
    }
}

fn is_recent(logged: Instant, now: Instant) -> bool {
    now.duration_since(logged) < REMINDER_INTERVAL
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: ExponentialBackoff = ExponentialBackoff::NETWORK;

    #[test]
    fn delay_doubles_up_to_the_longest() {
        let delays =
            [1, 2, 3, 6, 7, 40, u32::MAX].map(|attempt| BACKOFF.delay(attempt).as_millis());
        assert_eq!(delays, [100, 200, 400, 3200, 5000, 5000, 5000]);
    }

    #[test]
    fn jitter_keeps_at_least_half_of_the_delay() {
        for attempt in 1..50 {
            let (delay, jittered) = (BACKOFF.delay(attempt), BACKOFF.jittered(attempt));
            assert!((delay / 2..=delay).contains(&jittered), "{jittered:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reasons_that_alternate_are_logged_once_a_minute() {
        let mut retry = Retry::new("a server", BACKOFF);
        let now = Instant::now();
        let mut count = |after: u64| {
            let now = now + Duration::from_secs(after);
            let reasons = ["refused", "no answer", "refused", "cut", "no answer"];
            let logged = reasons.map(|reason| retry.is_to_be_logged(reason, now));
            logged.into_iter().filter(|logged| *logged).count()
        };
        assert_eq!([count(0), count(59), count(60), count(61)], [3, 0, 3, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn reasons_without_end_do_not_fill_the_log() {
        let mut retry = Retry::new("a server", BACKOFF);
        let now = Instant::now();
        let logged = (0..1000).filter(|n| retry.is_to_be_logged(&n.to_string(), now));
        assert_eq!(logged.count(), REMEMBERED);
    }

    /// The longest delay of some attempts, each of which succeeds for a time before it fails.
    async fn longest_delay(good: Duration) -> Duration {
        let mut retry = Retry::new("a server", BACKOFF);
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            retry.succeeded();
            sleep(good).await;
            let start = Instant::now();
            retry.failed("no").await;
            longest = longest.max(start.elapsed());
        }
        longest
    }

    #[tokio::test(start_paused = true)]
    async fn success_that_lasts_starts_over_from_the_first_delay() {
        assert!(longest_delay(PROVING_TIME).await <= BACKOFF.first);
    }

    #[tokio::test(start_paused = true)]
    async fn success_that_does_not_last_proves_nothing() {
        let longest = longest_delay(PROVING_TIME / 2).await;
        assert!(longest >= BACKOFF.longest / 2, "{longest:?}");
    }
}
