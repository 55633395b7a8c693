//! The daemon's status, for probes, systemd and the log.

use crate::{
    reconcile::{Outcome, RouteConflict},
    underlay::Obstacle,
};
use sd_notify::NotifyState;
use std::{fmt, sync::Arc};
use tracing::{debug, info};

/// What the daemon does. As text it is systemd's status line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Status {
    /// The daemon waits; the text completes "waiting: ".
    Waiting(String),
    Running(Summary),
}

/// A summary of the last pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    /// subnet.env is written, rules are in place, and all known peers are programmed
    pub(crate) ready: bool,
    /// this node's, as text
    pub(crate) subnets: String,
    /// each family counts
    pub(crate) peers: usize,
    /// leases that cannot be used
    pub(crate) skipped: usize,
    /// changes that fail
    pub(crate) failing: usize,
    /// routes of other programs in the place of ours
    pub(crate) conflicts: Arc<[RouteConflict]>,
    /// why packets to peers do not leave this host
    pub(crate) obstacles: Arc<[Obstacle]>,
    /// another node that publishes what only this node may
    pub(crate) duplicate: Option<String>,
    /// what the subnet manager waits for; the text completes "waiting: "
    pub(crate) waiting: Option<Arc<str>>,
}

impl Default for Status {
    fn default() -> Self {
        Status::Waiting("starting".to_owned())
    }
}

impl Status {
    /// The status after a pass.
    pub(crate) fn of(outcome: &Outcome, subnets: String, waiting: Option<Arc<str>>) -> Status {
        Status::Running(Summary {
            ready: outcome.node_ready && outcome.peers_ready(),
            subnets,
            peers: outcome.peer_count(),
            skipped: outcome.skipped.len(),
            failing: outcome.failing.len(),
            conflicts: outcome.conflicts.clone(),
            obstacles: outcome.obstacles.clone(),
            duplicate: None,
            waiting,
        })
    }

    /// What /readyz answers.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self, Status::Running(Summary { ready: true, .. }))
    }

    /// Notifies systemd, and logs a change of readiness.
    pub(crate) fn announce(&self, before: &Status) {
        let text = self.to_string();
        let mut states = vec![NotifyState::Status(&text)];
        match (before.is_ready(), self.is_ready()) {
            (false, true) => {
                info!("ready: {self}");
                states.push(NotifyState::Ready);
            }
            (true, false) => info!("not ready: {self}"),
            _ => {}
        }
        notify(&states);
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Waiting(what) => write!(f, "waiting: {what}"),
            Status::Running(summary) => summary.fmt(f),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} peers", self.subnets, self.peers)?;
        if self.skipped > 0 {
            write!(f, ", {} leases skipped", self.skipped)?;
        }
        if self.failing > 0 {
            write!(f, ", {} entries failing", self.failing)?;
        }
        if let [first, others @ ..] = &*self.conflicts {
            write!(f, "; a route of another program is in the way: {first}")?;
            if !others.is_empty() {
                write!(f, ", and {} more", others.len())?;
            }
        }
        for obstacle in &*self.obstacles {
            write!(f, "; {obstacle}")?;
        }
        if let Some(duplicate) = &self.duplicate {
            write!(f, "; {duplicate}")?;
        }
        if let Some(waiting) = &self.waiting {
            write!(f, "; waiting: {waiting}")?;
        }
        Ok(())
    }
}

/// Notifies systemd that the daemon stops.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Does nothing without systemd.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!("cannot notify systemd: {error}");
    }
}
