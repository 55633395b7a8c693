//! Routes to peers' subnets over the underlay: vxlan's DirectRouting.

use super::{CandidateRoute, PlannedPeer};
use crate::model::host_state::HostRoute;
use linux_net::route::{Route, RouteProtocol};

/// The route to a peer that has no gateway between it and this node.
pub(super) fn to(peer: &PlannedPeer, interface: &str) -> HostRoute {
    HostRoute {
        dst: peer.subnet,
        gateway: peer.public_ip,
        device: interface.into(),
        onlink: false,
    }
}

/// True if the route has that shape: to a subnet that a peer may hold, by a gateway, made by a
/// program that names no protocol of its own.
pub(crate) fn owns(candidate: &CandidateRoute<'_>) -> bool {
    let Route { protocol, .. } = candidate.observed;
    !candidate.route.onlink
        && *protocol == RouteProtocol::Boot
        && candidate
            .families
            .iter()
            .any(|family| family.may_be_peer_subnet(candidate.route.dst))
}
