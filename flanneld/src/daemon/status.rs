//! The daemon's status, for probes, systemd and the log.

use crate::{
    backend::Progress,
    counted::counted,
    reconcile::{Outcome, PodMtuExcess, RouteConflict},
    underlay::Obstacle,
};
use std::{fmt, sync::Arc};
use tracing::info;

/// What the daemon does. As text it is systemd's status line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Status {
    /// The daemon waits; the text completes "waiting: ".
    Waiting(String),
    Running(Summary),
}

/// A summary of the last pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// devices and rules of this node are in place, subnet.env is written, and the leases of the
    /// others are known or do not come: pods can start
    pub(crate) set_up: bool,
    /// all known peers are programmed, too, and packets to them leave this host
    pub(crate) ready: bool,
    /// this node's, as text
    pub(crate) subnets: String,
    /// the other nodes that packets can be sent to
    pub(crate) nodes: usize,
    /// how packets travel, where that is not what the backend's name promises
    pub(crate) note: Option<String>,
    /// leases that cannot be used
    pub(crate) skipped: usize,
    /// changes that fail
    pub(crate) failing: usize,
    /// routes of other programs in the place of ours
    pub(crate) conflicts: Arc<[RouteConflict]>,
    /// why packets to peers do not leave this host
    pub(crate) obstacles: Arc<[Obstacle]>,
    /// why subnet.env is not written
    pub(crate) file_fault: Option<Arc<str>>,
    /// why the backend's command that failed last did, or why peers get no keys
    pub(crate) backend_fault: Option<Arc<str>>,
    /// pods whose MTU exceeds what the path takes
    pub(crate) pod_mtu: Option<PodMtuExcess>,
    /// why packets of peers do not come here, by what the store has
    pub(crate) lease_fault: Option<Arc<str>>,
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
            set_up: outcome.set_up,
            ready: outcome.node_ready && outcome.peers_ready(),
            subnets,
            nodes: outcome.nodes,
            note: None,
            skipped: outcome.skipped,
            failing: outcome.failing.len(),
            conflicts: outcome.conflicts.clone(),
            obstacles: outcome.obstacles.clone(),
            file_fault: outcome.subnet_env_error.clone(),
            backend_fault: None,
            pod_mtu: outcome.pod_mtu.clone(),
            lease_fault: None,
            waiting,
        })
    }

    /// What /readyz answers.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self, Status::Running(Summary { ready: true, .. }))
    }

    /// When systemd starts what is ordered after flanneld: containers need this node's own network.
    /// A peer that cannot be reached, or a store that does not answer, does not hold up the boot.
    pub(crate) fn is_set_up(&self) -> bool {
        matches!(self, Status::Running(Summary { set_up: true, .. }))
    }

    /// Logs a change of readiness.
    pub(crate) fn log_change(&self, before: &Status) {
        match (before.is_ready(), self.is_ready()) {
            (false, true) => info!("ready: {self}"),
            (true, false) => info!("not ready: {self}"),
            _ => {}
        }
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

impl Summary {
    /// Takes over how far the commands of the backend are.
    pub(crate) fn follow(&mut self, progress: &Progress) {
        self.ready &= progress.is_started && progress.is_settled;
        self.failing += progress.failing;
        self.backend_fault = progress.fault.as_deref().map(Arc::from);
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = counted(self.nodes, "node", "nodes");
        write!(f, "{}, {nodes}", self.subnets)?;
        if let Some(note) = &self.note {
            write!(f, ", {note}")?;
        }
        if self.skipped > 0 {
            let skipped = counted(self.skipped, "lease", "leases");
            write!(f, ", {skipped} skipped")?;
        }
        if self.failing > 0 {
            let failing = counted(self.failing, "entry", "entries");
            write!(f, ", {failing} failing")?;
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
        if let Some(excess) = &self.pod_mtu {
            write!(f, "; {excess}")?;
        }
        let faults = [&self.file_fault, &self.backend_fault, &self.lease_fault];
        for fault in faults.into_iter().flatten() {
            write!(f, "; {fault}")?;
        }
        if let Some(waiting) = &self.waiting {
            write!(f, "; waiting: {waiting}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_counts_nodes_and_not_their_families() {
        let mut summary = Summary {
            set_up: true,
            ready: true,
            subnets: "10.244.7.0/24 fd00:10:244:7::/64".to_owned(),
            nodes: 2,
            ..Summary::default()
        };
        assert_eq!(
            summary.to_string(),
            "10.244.7.0/24 fd00:10:244:7::/64, 2 nodes"
        );
        summary.note = Some("WireGuard in user space".to_owned());
        assert_eq!(
            summary.to_string(),
            "10.244.7.0/24 fd00:10:244:7::/64, 2 nodes, WireGuard in user space"
        );
        summary.note = None;
        (summary.nodes, summary.skipped, summary.failing) = (1, 1, 3);
        assert_eq!(
            summary.to_string(),
            "10.244.7.0/24 fd00:10:244:7::/64, 1 node, 1 lease skipped, 3 entries failing"
        );
    }
}
