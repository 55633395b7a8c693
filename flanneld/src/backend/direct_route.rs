//! Routes to peers' subnets over the underlay: vxlan's DirectRouting.

use super::{CandidateRoute, PlannedPeer};
use crate::model::host_state::HostRoute;

/// The route to a peer that has no gateway between it and this node.
pub(super) fn to(peer: &PlannedPeer, interface: &str) -> HostRoute {
    HostRoute::new(peer.subnet, peer.public_ip, interface.into())
}

/// True if the route has that shape: to a subnet that a peer may hold, by a gateway.
pub(crate) fn owns(candidate: &CandidateRoute<'_>) -> bool {
    candidate.route.gateway.is_some()
        && !candidate.route.onlink
        && candidate
            .families
            .iter()
            .any(|family| family.may_be_peer_subnet(candidate.route.dst))
}
