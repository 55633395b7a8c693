//! The log of failures that any client can cause: one line a minute, with the number of those that
//! were left out, so that a client without a certificate can neither fill the log nor cover other
//! lines.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tracing::warn;

/// Between two lines.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Failures of one kind.
#[derive(Debug)]
pub(crate) struct FailureLog {
    state: Mutex<State>,
    left_out: Notify,
}

#[derive(Debug)]
struct State {
    logged: Option<Instant>,
    /// The failures since that line, and the last of them.
    count: u64,
    last: String,
}

impl FailureLog {
    pub(crate) const fn new() -> FailureLog {
        FailureLog {
            state: Mutex::new(State {
                logged: None,
                count: 0,
                last: String::new(),
            }),
            left_out: Notify::const_new(),
        }
    }

    /// Logs the failure, or counts it.
    pub(crate) fn failed(&self, failure: impl fmt::Display) {
        let line = self.state().failed(failure, Instant::now());
        match line {
            Some(line) => warn!("{line}"),
            None => self.left_out.notify_one(),
        }
    }

    /// Logs the number of failures that were left out, a minute after the last line, again and
    /// again.
    pub(crate) async fn report(&self) {
        loop {
            let due = self.state().due();
            match due {
                Some(at) => sleep_until(at).await,
                None => self.left_out.notified().await,
            }
            let line = self.state().report(Instant::now());
            if let Some(line) = line {
                warn!("{line}");
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn failed(&mut self, failure: impl fmt::Display, now: Instant) -> Option<String> {
        self.count = self.count.saturating_add(1);
        if self.logged.is_some_and(|at| now < at + LOG_INTERVAL) {
            // the text of each is made only where it may be needed
            if self.count == 1 {
                self.last = failure.to_string();
            }
            return None;
        }
        self.last = failure.to_string();
        self.take(now)
    }

    /// When the failures that were left out are to be reported.
    fn due(&self) -> Option<Instant> {
        let logged = self.logged.filter(|_| self.count > 0)?;
        Some(logged + LOG_INTERVAL)
    }

    fn report(&mut self, now: Instant) -> Option<String> {
        let is_due = self.due().is_some_and(|due| due <= now);
        if is_due { self.take(now) } else { None }
    }

    fn take(&mut self, now: Instant) -> Option<String> {
        self.logged = Some(now);
        let failure = std::mem::take(&mut self.last);
        Some(match std::mem::take(&mut self.count) {
            0 | 1 => failure,
            count => format!("{failure} ({count} such failures in the last minute)"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn flood_is_one_line_a_minute_with_a_count() {
        let log = FailureLog::new();
        let start = Instant::now();
        let mut lines = Vec::new();
        for second in 0..180 {
            for _ in 0..100 {
                lines.extend(log.state().failed("refused", after(start, second)));
            }
        }
        assert_eq!(
            lines,
            [
                "refused".to_owned(),
                "refused (6000 such failures in the last minute)".to_owned(),
                "refused (6000 such failures in the last minute)".to_owned(),
            ]
        );
        // the rest is reported without a further failure
        assert_eq!(log.state().report(after(start, 179)), None);
        let rest = log.state().report(after(start, 180));
        assert_eq!(
            rest.as_deref(),
            Some("refused (5999 such failures in the last minute)")
        );
        assert_eq!(log.state().due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn report_waits_for_what_was_left_out() {
        let log = FailureLog::new();
        log.failed("a");
        log.failed("b");
        assert!(log.state().due().is_some());
        let reported = tokio::time::timeout(LOG_INTERVAL * 2, log.report());
        assert!(reported.await.is_err());
        assert_eq!(log.state().due(), None);
    }
}
