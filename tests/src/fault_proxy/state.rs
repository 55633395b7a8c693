//! What the test and the proxy's thread share.

use super::fault::{Ending, Fault, Rule, Seen};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The state of a proxy.
pub(super) struct State {
    inner: Mutex<Inner>,
    /// Connections are accepted, and nothing on them moves.
    pub(super) stalled: watch::Sender<bool>,
}

#[derive(Default)]
struct Inner {
    rules: Vec<Rule>,
    next_rule: usize,
    seen: Vec<Seen>,
    connections: usize,
    ending: Option<Ending>,
}

impl State {
    pub(super) fn new() -> State {
        State {
            inner: Mutex::default(),
            stalled: watch::Sender::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_rule(
        &self,
        applies: Box<dyn Fn(&Seen) -> bool + Send>,
        times: Option<usize>,
        fault: Fault,
    ) -> usize {
        let mut inner = self.lock();
        inner.next_rule += 1;
        let number = inner.next_rule;
        inner.rules.push(Rule {
            number,
            applies,
            left: times,
            fault,
        });
        number
    }

    pub(super) fn remove_rule(&self, number: usize) {
        self.lock().rules.retain(|rule| rule.number != number);
    }

    pub(super) fn clear_rules(&self) {
        let mut inner = self.lock();
        inner.rules.clear();
        inner.ending = None;
    }

    /// Records a request; the fault that it meets.
    pub(super) fn arrived(&self, request: &Seen) -> Option<Fault> {
        let mut inner = self.lock();
        inner.seen.push(request.clone());
        let rules = &mut inner.rules;
        let rule = rules
            .iter_mut()
            .find(|rule| rule.left != Some(0) && (rule.applies)(request))?;
        if let Some(left) = &mut rule.left {
            *left -= 1;
        }
        Some(rule.fault.clone())
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    pub(super) fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.lock().seen)
    }

    pub(super) fn count_connection(&self) {
        self.lock().connections += 1;
    }

    pub(super) fn connections(&self) -> usize {
        self.lock().connections
    }

    pub(super) fn set_ending(&self, ending: Ending) {
        self.lock().ending = Some(ending);
    }

    /// The ending for a stream that is about to pass an event on; it is for one stream.
    pub(super) fn take_ending(&self) -> Option<Ending> {
        self.lock().ending.take()
    }

    /// Waits until the proxy is not stalled.
    pub(super) async fn moving(&self) {
        let mut stalled = self.stalled.subscribe();
        // the sender lives as long as self
        stalled.wait_for(|stalled| !stalled).await.ok();
    }
}
