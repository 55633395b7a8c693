//! Token bucket that limits passes when another program keeps reverting our changes. A single
//! change is reverted at once.

use std::time::{Duration, Instant};

/// Passes that may follow each other without delay.
const BURST: f64 = 50.0;
/// Passes a second after that.
const RATE: f64 = 4.0;

/// The bucket.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    tokens: f64,
    filled_at: Instant,
}

impl RateLimiter {
    /// A full bucket.
    pub(crate) fn new(now: Instant) -> RateLimiter {
        RateLimiter {
            tokens: BURST,
            filled_at: now,
        }
    }

    /// Takes a token for one pass; returns the delay before it.
    pub(crate) fn take(&mut self, now: Instant) -> Duration {
        let elapsed = now.saturating_duration_since(self.filled_at);
        self.tokens = (self.tokens + elapsed.as_secs_f64() * RATE).min(BURST) - 1.0;
        self.filled_at = now;
        Duration::from_secs_f64((-self.tokens / RATE).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_is_not_delayed_and_endless_passes_are() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(start);
        for _ in 0..BURST as usize {
            assert_eq!(limiter.take(start), Duration::ZERO);
        }
        assert!(limiter.take(start) > Duration::from_millis(200));
        let later = start + Duration::from_secs(60);
        assert_eq!(
            limiter.take(later),
            Duration::ZERO,
            "the bucket fills again"
        );
    }
}
