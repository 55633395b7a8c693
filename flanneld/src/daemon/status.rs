//! What the daemon says of itself: to probes, to systemd, and in the log when it changes.
use crate::reconcile::Outcome;
use sd_notify::NotifyState;
use std::fmt;
use tracing::{debug, info};

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Something that comes first is waited for.
    Waiting(String),
    /// The network runs.
    Running {
        /// subnet.env is written, rules are in place, and the peers known are programmed
        ready: bool,
    },
}

/// The status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// how far
    pub stage: Stage,
    /// our subnets, for people
    pub subnets: String,
    /// how many peers
    pub peers: usize,
    /// leases that are left out
    pub skipped: usize,
    /// entries that fail
    pub failing: usize,
}

impl Default for Status {
    fn default() -> Self {
        Status {
            stage: Stage::Waiting("starting".to_owned()),
            subnets: String::new(),
            peers: 0,
            skipped: 0,
            failing: 0,
        }
    }
}

impl Status {
    /// Waiting for something.
    pub fn waiting(what: impl Into<String>) -> Status {
        Status {
            stage: Stage::Waiting(what.into()),
            ..Status::default()
        }
    }

    /// After a pass.
    pub fn of(outcome: &Outcome, subnets: String) -> Status {
        Status {
            stage: Stage::Running {
                ready: outcome.node_ready && outcome.peers_ready(),
            },
            subnets,
            peers: outcome.peer_count(),
            skipped: outcome.skipped.len(),
            failing: outcome.failing.len(),
        }
    }

    /// For /readyz.
    pub fn is_ready(&self) -> bool {
        self.stage == Stage::Running { ready: true }
    }

    /// Tells systemd and, where readiness changed, the log.
    pub fn announce(&self, before: &Status) {
        let mut states = vec![];
        let text = self.to_string();
        states.push(NotifyState::Status(&text));
        if self.is_ready() && !before.is_ready() {
            info!("ready: {self}");
            states.push(NotifyState::Ready);
        } else if before.is_ready() && !self.is_ready() {
            info!("not ready: {self}");
        }
        notify(&states);
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stage {
            Stage::Waiting(what) => write!(f, "waiting: {what}"),
            Stage::Running { .. } => {
                write!(f, "{}, {} peers", self.subnets, self.peers)?;
                if self.skipped > 0 {
                    write!(f, ", {} leases left out", self.skipped)?;
                }
                if self.failing > 0 {
                    write!(f, ", {} entries failing", self.failing)?;
                }
                Ok(())
            }
        }
    }
}

/// Tells systemd that the end has come.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Without systemd there is nobody to tell, and that is no error.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!("systemd cannot be told: {error}");
    }
}
