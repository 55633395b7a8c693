//! host-gw: a route to each peer's subnet by the peer itself, without encapsulation (upstream:
//! pkg/backend/hostgw). All nodes are in one layer 2 network.

use super::{
    Backend, CandidateRoute, Error, Input, PeerError, Plan, SkippedLease,
    backend_type::{BackendType, Meaning},
    direct_route, own_families, peers,
};
use crate::underlay::Underlay;
use std::sync::Arc;

pub(super) const TYPE: BackendType = BackendType {
    name: "host-gw",
    build: |_, _| Ok(Arc::new(HostGw)),
    keys: &[],
    check: |_| {
        Ok(Meaning {
            text: "host-gw, routes over the underlay's interface".to_owned(),
            devices: Vec::new(),
        })
    },
    owns_device: |_| false,
};

/// The backend.
#[derive(Debug)]
struct HostGw;

impl Backend for HostGw {
    fn name(&self) -> &'static str {
        TYPE.name
    }

    fn makes_direct_routes(&self) -> bool {
        true
    }

    fn owns_route(&self, candidate: &CandidateRoute<'_>) -> bool {
        direct_route::owns(candidate)
    }

    /// Peers send packets of pods to the public address: a router that translates it drops them.
    fn refuses(&self, underlay: &Underlay) -> Option<Error> {
        underlay
            .translated()
            .map(|(public_ip, address)| Error::BehindNat { public_ip, address })
    }

    fn pod_mtu(&self, underlay: &Underlay) -> u32 {
        underlay.mtu
    }

    fn plan(&self, input: &Input<'_>) -> Plan {
        let mut plan = Plan::default();
        for own in own_families(input) {
            for (peer, _) in peers::usable(&own, self.kind(), input.leases, &mut plan.skipped) {
                if direct_route::is_on_link(input, peer.public_ip) {
                    let route = direct_route::to(&peer, &input.underlay.name);
                    plan.state.routes.insert(route);
                    plan.peers.push(peer);
                } else {
                    plan.skipped.push(SkippedLease {
                        subnet: peer.subnet,
                        node: Some(peer.public_ip),
                        reason: PeerError::NotOnLink(peer.public_ip),
                    });
                }
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests;
