//! What a pass found and did: the source of status, readiness and the log.

use super::{
    backoff::Failure, conflict::RouteConflict, diff::Change, event_filter::EventFilter,
    pod_mtu::PodMtuExcess,
};
use crate::{
    backend::Wanted,
    underlay::{Obstacle, Underlay},
};
use std::{sync::Arc, time::Instant};

/// Attempts after which a failing entry of a peer no longer affects readiness: one bad peer must
/// not take a node out of service.
const ATTEMPTS_BEFORE_READY: u32 = 3;

/// The outcome of a pass.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// Devices, addresses, rules and subnet.env are in place: pods can start.
    pub(crate) set_up: bool,
    /// And packets leave the host.
    pub(crate) node_ready: bool,
    /// There was a snapshot of the leases: the host's state leads to the peers.
    pub(crate) peers_known: bool,
    /// What the backend's commands are to be given.
    pub(crate) commands: Option<Arc<Wanted>>,
    /// Why packets to peers do not leave this host.
    pub(crate) obstacles: Arc<[Obstacle]>,
    /// The nodes that the host's state leads to.
    pub(crate) nodes: usize,
    /// The leases of which a family cannot be used.
    pub(crate) skipped: usize,
    /// Changes that fail.
    pub(crate) failing: Arc<[(Change, Failure)]>,
    /// Routes of other programs in the place of ours.
    pub(crate) conflicts: Arc<[RouteConflict]>,
    /// Pods whose MTU exceeds what the path takes.
    pub(crate) pod_mtu: Option<PodMtuExcess>,
    /// The pass changed something, and another one confirms it.
    pub(crate) changed: bool,
    /// When a pass is due even if no notification comes.
    pub(crate) retry_at: Option<Instant>,
    /// How this node is reached.
    pub(crate) underlay: Underlay,
    pub(crate) filter: EventFilter,
    /// The content of subnet.env, once it is written.
    pub(crate) subnet_env: Option<String>,
    /// Why it cannot be.
    pub(crate) subnet_env_error: Option<Arc<str>>,
}

impl Outcome {
    /// True if every known peer is programmed, except for entries that failed several times, there
    /// is a way to it, and no other program's route leads to its subnet.
    pub(crate) fn peers_ready(&self) -> bool {
        let mut failing = self.failing.iter();
        self.peers_known
            && self.obstacles.is_empty()
            && self.conflicts.is_empty()
            && failing.all(|(_, failure)| failure.attempts >= ATTEMPTS_BEFORE_READY)
    }
}
