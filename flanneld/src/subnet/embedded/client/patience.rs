//! Trying again: waits that grow from 0.1 to 5 s, spread by chance so that a thousand nodes do not come at once, and one
//! log line for an outage instead of one for each attempt.
use crate::subnet::embedded::store::random;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// The same reason is said again after this.
const REMIND: Duration = Duration::from_secs(60);

/// The state of one thing that is waited for.
pub struct Patience {
    what: String,
    delay: Duration,
    said: Option<(String, Instant)>,
    since: Option<Instant>,
}

impl Patience {
    /// For messages: "waiting for WHAT: reason".
    pub fn new(what: String) -> Patience {
        Patience {
            what,
            delay: FIRST,
            said: None,
            since: None,
        }
    }

    /// An attempt failed: says so, and waits.
    pub async fn wait(&mut self, reason: &str) {
        let now = Instant::now();
        self.since.get_or_insert(now);
        let new = match &self.said {
            Some((said, at)) => said != reason || now.duration_since(*at) >= REMIND,
            None => true,
        };
        if new {
            tracing::warn!("waiting for {}: {reason}", self.what);
            self.said = Some((reason.to_owned(), now));
        }
        // between half of it and all of it
        sleep(self.delay.mul_f64(0.5 + (random() % 512) as f64 / 1024.0)).await;
        self.delay = (self.delay * 2).min(LONGEST);
    }

    /// It works.
    pub fn done(&mut self) {
        self.delay = FIRST;
        self.said = None;
        if let Some(since) = self.since.take() {
            tracing::info!("{} is back after {:.1?}", self.what, since.elapsed());
        }
    }
}
