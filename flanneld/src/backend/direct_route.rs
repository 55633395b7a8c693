//! Routes to peers' subnets over the underlay, without encapsulation: all that host-gw makes, and
//! what `DirectRouting` makes of the others.

use super::{CandidateRoute, Input, PlannedPeer};
use crate::model::host_state::HostRoute;
use std::net::IpAddr;

/// What `DirectRouting` adds to the text about a backend with a device.
pub(super) fn description(direct_routing: bool) -> &'static str {
    match direct_routing {
        true => ", routes without it to nodes on the link",
        false => "",
    }
}

/// The route to a peer that has no gateway between it and this node.
pub(super) fn to(peer: &PlannedPeer, interface: &str) -> HostRoute {
    HostRoute::new(peer.subnet, peer.public_ip, interface.into())
}

/// True if no gateway is between this node and the address: the kernel refuses it as the gateway
/// of a route otherwise. A link-local address is on the link of every interface.
pub(super) fn is_on_link(input: &Input<'_>, ip: IpAddr) -> bool {
    let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    is_link_local || input.routes.is_on_link(ip, input.underlay.index)
}

/// True if the route has that shape: to a subnet that a peer may hold, by a gateway outside of it.
pub(super) fn owns(candidate: &CandidateRoute<'_>) -> bool {
    !candidate.route.onlink && has_shape(candidate)
}

/// The same for every backend: Go flannel's ipip makes direct routes with the flag onlink.
pub(crate) fn has_shape(candidate: &CandidateRoute<'_>) -> bool {
    let dst = candidate.route.dst;
    let by_peer = candidate.route.gateway.is_some_and(|ip| !dst.contains(ip));
    let mut families = candidate.families.iter();
    by_peer && families.any(|family| family.may_be_peer_subnet(dst))
}
