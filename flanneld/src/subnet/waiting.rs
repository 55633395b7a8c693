//! What a subnet manager waits for, as the log, the status and `/readyz?verbose` say it.

use std::{fmt::Display, sync::Arc};
use tokio::sync::watch;
use tracing::info;

/// Given to a subnet manager by the daemon; a clone reports to the same status.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting(watch::Sender<Option<Arc<str>>>);

impl Waiting {
    /// Reports what the manager waits for, as a text that completes "waiting: ": "for a podCIDR of
    /// node n1". Logs it when it changes.
    #[allow(dead_code, reason = "the embedded managers report nothing")]
    pub(crate) fn report(&self, what: impl Display) {
        let what = what.to_string();
        self.0.send_if_modified(|current| {
            let changed = current.as_deref() != Some(what.as_str());
            if changed {
                info!("waiting: {what}");
                *current = Some(what.into());
            }
            changed
        });
    }

    /// The manager waits for nothing any longer.
    #[allow(dead_code, reason = "the embedded managers report nothing")]
    pub(crate) fn clear(&self) {
        self.0.send_if_modified(|current| current.take().is_some());
    }

    /// What the manager waits for; None while it waits for nothing.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.0.subscribe()
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
}
