//! How often passes may follow each other: at once after a change by hand, not for ever if somebody undoes each of our repairs.
use std::time::{Duration, Instant};

/// Passes that may follow each other at once.
const BURST: f64 = 50.0;
/// Passes a second after that.
const RATE: f64 = 4.0;

/// A bucket of passes.
#[derive(Debug)]
pub struct Pace {
    left: f64,
    since: Instant,
}

impl Pace {
    /// A full bucket.
    pub fn new(now: Instant) -> Pace {
        Pace {
            left: BURST,
            since: now,
        }
    }

    /// Takes one pass; how long to wait before it.
    pub fn take(&mut self, now: Instant) -> Duration {
        let filled = now.saturating_duration_since(self.since).as_secs_f64() * RATE;
        self.left = (self.left + filled).min(BURST) - 1.0;
        self.since = now;
        Duration::from_secs_f64((-self.left / RATE).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_a_fight_is_slowed_down() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for _ in 0..BURST as usize {
            assert_eq!(pace.take(start), Duration::ZERO);
        }
        assert!(pace.take(start) > Duration::from_millis(200));
        let later = start + Duration::from_secs(60);
        assert_eq!(pace.take(later), Duration::ZERO, "it recovers");
    }
}
