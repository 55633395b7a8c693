//! The log lines of a pass. What stays the same from pass to pass is logged once.

use super::{
    apply::Applied, backoff::Backoff, conflict::RouteConflict, diff::Change, pod_mtu::PodMtuExcess,
};
use crate::{
    backend::{PlannedPeer, SkippedLease},
    counted::counted,
    model::entry::EntryKind,
};
use std::{collections::BTreeMap, io, path::Path, sync::Arc};
use tracing::{info, warn};

/// What earlier passes logged.
#[derive(Default)]
pub(super) struct Logged {
    skipped: Arc<[SkippedLease]>,
    conflicts: Arc<[RouteConflict]>,
    /// Why subnet.env cannot be written.
    pub(super) subnet_env_error: Option<Arc<str>>,
    pod_mtu: Option<PodMtuExcess>,
    nodes: Option<usize>,
}

impl Logged {
    /// Logs leases that are skipped for the first time, and the number of other nodes when it
    /// changes.
    pub(super) fn leases(&mut self, mut skipped: Vec<SkippedLease>, nodes: usize) {
        skipped.sort();
        for lease in &skipped {
            if self.skipped.binary_search(lease).is_err() {
                warn!("skipping the lease of {lease}");
            }
        }
        self.skipped = skipped.into();
        if self.nodes != Some(nodes) {
            info!(
                "the network has {} besides this one",
                counted(nodes, "node", "nodes")
            );
            self.nodes = Some(nodes);
        }
    }

    /// The leases that the last snapshot's plan skips.
    pub(super) fn skipped(&self) -> Arc<[SkippedLease]> {
        self.skipped.clone()
    }

    /// Logs conflicts that are new, and those that are over.
    pub(super) fn conflicts(&mut self, conflicts: Vec<RouteConflict>) -> Arc<[RouteConflict]> {
        for conflict in conflicts.iter().filter(|new| !self.conflicts.contains(new)) {
            let RouteConflict {
                subnet, public_ip, ..
            } = conflict;
            warn!(
                "a route of another program leads to {subnet}, which is peer {public_ip}'s: \"{conflict}\"; \
                 it stays, and packets to that peer take it until it is deleted"
            );
        }
        for over in self.conflicts.iter().filter(|old| !conflicts.contains(old)) {
            info!("the route \"{over}\" of another program is gone");
        }
        self.conflicts = conflicts.into();
        self.conflicts.clone()
    }

    /// Logs that the MTU of pods exceeds what the path takes, when that changes.
    pub(super) fn pod_mtu(&mut self, excess: Option<PodMtuExcess>) -> Option<PodMtuExcess> {
        match &excess {
            Some(found) if excess != self.pod_mtu => warn!("{found}"),
            None if self.pod_mtu.is_some() => info!("no pod's MTU exceeds what the path takes"),
            Some(_) | None => {}
        }
        self.pod_mtu.clone_from(&excess);
        excess
    }

    /// Logs that subnet.env was written, or why it cannot be.
    pub(super) fn subnet_env(&mut self, path: &Path, written: &io::Result<bool>) {
        let error = match written {
            Ok(written) => {
                if *written {
                    info!("wrote {}", path.display());
                }
                None
            }
            Err(error) => {
                let path = path.display();
                Some(format!(
                    "failed to write {path}, without which no pod starts: {error}"
                ))
            }
        };
        if let Some(error) = error
            .as_ref()
            .filter(|error| self.subnet_env_error.as_deref() != Some(error.as_str()))
        {
            warn!("{error}");
        }
        self.subnet_env_error = error.map(Arc::from);
    }
}

/// One line for each kind of entry that changed, and one for each change that newly fails.
pub(super) fn changes(applied: &Applied, backoff: &Backoff, peers: &[PlannedPeer]) {
    let mut counts = BTreeMap::<EntryKind, (usize, usize)>::new();
    for change in &applied.done {
        let (put, deleted) = counts.entry(change.entry().kind()).or_default();
        match change {
            Change::Put(_) => *put += 1,
            Change::Delete(_) => *deleted += 1,
        }
    }
    for (kind, (put, deleted)) in counts {
        info!("{kind}: {put} set, {deleted} deleted");
    }
    for change in &applied.new_failures {
        let error = backoff.get(change).map_or("", |failure| &failure.error);
        let mut peers = peers.iter();
        match peers.find(|peer| change.entry().leads_to(peer.subnet, peer.public_ip)) {
            Some(peer) => warn!(
                "cannot {change} for peer {} at {}: {error}; retrying",
                peer.subnet, peer.public_ip
            ),
            None => warn!("cannot {change}: {error}; retrying"),
        }
    }
}
