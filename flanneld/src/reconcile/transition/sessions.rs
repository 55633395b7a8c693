//! Sessions of WireGuard in the kernel, during a change to it. A session proves that the peer has
//! its device and knows this node's key: the earlier way to the peer stays until there is one.
//!
//! The kernel begins a handshake with the first packet. That attempt is lost where the peer does
//! not know this node yet, and where both ends begin at the same moment; the next one follows five
//! seconds later, and 128 packets can wait for it. So this node begins the handshake before packets
//! take the way, and of two nodes one begins earlier than the other.

use super::Transition;
use crate::{
    backend::Plan,
    model::{
        host_state::{DeviceKind, DeviceName, HostRoute, HostState},
        wireguard::Session,
    },
};
use ipnetwork::IpNetwork;
use linux_net::wireguard::PublicKey;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How long a peer without a session is still reached by the earlier backend: a loaded node needs
/// ten seconds and more after it has published the change. Without an end, a node whose packets
/// nothing lets through would keep to what others are about to remove.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How much later the node with the greater key begins: the other one has had its answer then.
const LATER: Duration = Duration::from_secs(2);

/// Between two looks for sessions: WireGuard tells nobody of them.
const LOOK: Duration = Duration::from_secs(1);

/// A peer with which a handshake is to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::reconcile) struct Handshake {
    pub(in crate::reconcile) device: DeviceName,
    pub(in crate::reconcile) peer: PublicKey,
    /// As [`Peer::keepalive`](crate::model::wireguard::Peer::keepalive).
    pub(in crate::reconcile) keepalive: u16,
}

impl Transition {
    /// Keeps the earlier ways to peers without a session. Returns the handshakes that this node is
    /// to begin: those that are under way, too, with which beginning does nothing.
    pub(in crate::reconcile) fn await_sessions(
        &mut self,
        plan: &mut Plan,
        observed: &HostState,
        now: Instant,
    ) -> Vec<Handshake> {
        let mut handshakes = Vec::new();
        let mut ways = BTreeMap::new();
        for (name, device) in &plan.state.devices {
            let DeviceKind::Wireguard(Some(own)) = device.link.kind else {
                continue;
            };
            let present = observed.devices.get(name);
            let present = present.and_then(|device| device.wireguard.as_ref());
            for (key, peer) in device.wireguard.iter().flat_map(|wanted| &wanted.peers) {
                let found = present.and_then(|present| present.peers.get(key));
                if found.is_some_and(|found| found.session != Session::None) {
                    continue;
                }
                let mut begins = false;
                for subnet in &peer.allowed_ips {
                    let Some(since) = self.waits_since(*subnet, now) else {
                        continue;
                    };
                    let way = observed.way_to(*subnet);
                    if let Some(way) = way.filter(|way| way.device != *name) {
                        let dst = *subnet;
                        ways.insert(dst, HostRoute { dst, ..way.clone() });
                        begins |= own < *key || now >= since + LATER;
                    }
                }
                if begins {
                    handshakes.push(Handshake {
                        device: name.clone(),
                        peer: *key,
                        keepalive: peer.keepalive,
                    });
                }
            }
        }
        let awaited = (!ways.is_empty()).then_some(now);
        self.awaited = awaited.or(self.awaited);
        self.next_look = awaited.map(|now| now + LOOK);
        let routes = &mut plan.state.routes;
        routes.retain(|route| !ways.contains_key(&route.dst));
        routes.extend(ways.into_values());
        handshakes
    }

    /// Since when this node has known that the peer with the subnet uses the current backend. None
    /// if it has not to wait, or not any longer.
    fn waits_since(&self, subnet: IpNetwork, now: Instant) -> Option<Instant> {
        let change = self.both.get(&subnet).filter(|change| !change.to_earlier);
        let since = change.map_or(self.known_since, |change| Some(change.since));
        since.filter(|since| self.has_earlier() && now < *since + LONGEST_WAIT)
    }
}
