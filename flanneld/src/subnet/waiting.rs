//! What a subnet manager waits for, as the log, the status and `/readyz?verbose` say it.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;
use tracing::info;

/// Given to a subnet manager by the daemon. A clone replaces what this one reports; see
/// [`Waiting::another`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting {
    reporter: usize,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    reports: Mutex<Reports>,
    text: watch::Sender<Option<Arc<str>>>,
}

#[derive(Debug, Default)]
struct Reports {
    reporters: usize,
    texts: BTreeMap<usize, String>,
}

impl Waiting {
    /// For a task that waits for something of its own: what both report stands in the status.
    pub(crate) fn another(&self) -> Waiting {
        let mut reports = self.shared.reports();
        reports.reporters += 1;
        Waiting {
            reporter: reports.reporters,
            shared: self.shared.clone(),
        }
    }

    /// Reports what the manager waits for, as a text that completes "waiting: ": "for a podCIDR of
    /// node n1". Logs it when it changes.
    pub(crate) fn report(&self, what: impl Display) {
        let what = what.to_string();
        let mut reports = self.shared.reports();
        if reports.texts.get(&self.reporter) != Some(&what) {
            info!("waiting: {what}");
            reports.texts.insert(self.reporter, what);
            self.shared.publish(&reports);
        }
    }

    /// The manager waits for nothing any longer.
    pub(crate) fn clear(&self) {
        let mut reports = self.shared.reports();
        if reports.texts.remove(&self.reporter).is_some() {
            self.shared.publish(&reports);
        }
    }

    /// What the manager waits for; None while it waits for nothing.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.shared.text.subscribe()
    }
}

impl Shared {
    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, reports: &Reports) {
        let texts: Vec<&str> = reports.texts.values().map(String::as_str).collect();
        let text = (!texts.is_empty()).then(|| texts.join("; ").into());
        self.text.send_replace(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_text_is_no_change() {
        let waiting = Waiting::default();
        let mut status = waiting.subscribe();
        waiting.report("for a podCIDR");
        assert_eq!(status.borrow_and_update().as_deref(), Some("for a podCIDR"));
        waiting.report("for a podCIDR");
        assert!(!status.has_changed().unwrap());
        waiting.clear();
        assert!(status.borrow_and_update().is_none());
        waiting.clear();
        assert!(!status.has_changed().unwrap());
    }

    #[test]
    fn reporters_do_not_replace_each_others_text() {
        let waiting = Waiting::default();
        let mut status = waiting.subscribe();
        let other = waiting.another();
        waiting.report("for a podCIDR");
        other.report("for the API server");
        waiting.clone().report("for this node's object");
        assert_eq!(
            status.borrow_and_update().as_deref(),
            Some("for this node's object; for the API server")
        );
        waiting.clear();
        assert_eq!(
            status.borrow_and_update().as_deref(),
            Some("for the API server")
        );
    }
}
