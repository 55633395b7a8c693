//! WireGuard devices of the kernel: reads them in the form of a plan, and makes changes of them.

use super::{diff::Change, transition::Handshake};
use crate::model::{
    entry::Entry,
    wireguard::{Interface, Peer, Session, Wireguard},
};
use linux_net::wireguard::{self, PeerChange, PublicKey, PutPeer};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// As long after a handshake a session lasts (REJECT_AFTER_TIME of the WireGuard paper, 6.1).
const SESSION: Duration = Duration::from_secs(180);

/// The socket, and what was set by it.
#[derive(Debug)]
pub(crate) struct WireguardSocket {
    socket: wireguard::Wireguard,
    /// The endpoints that this daemon set, by ifindex.
    endpoints: HashMap<(u32, PublicKey), SocketAddr>,
}

impl WireguardSocket {
    /// Opens it in the calling thread's network namespace.
    pub(super) fn open() -> linux_net::Result<WireguardSocket> {
        Ok(WireguardSocket {
            socket: wireguard::Wireguard::open()?,
            endpoints: HashMap::new(),
        })
    }

    /// The device with that ifindex.
    pub(super) fn read(&mut self, index: u32) -> linux_net::Result<Wireguard> {
        let device = self.socket.device(index)?;
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = since_epoch.unwrap_or_default();
        let peers = device.peers.into_iter().map(|peer| {
            let key = peer.public_key;
            let set = self.endpoints.get(&(index, key)).copied();
            (key, Arc::new(observed(peer, set, now)))
        });
        Ok(Wireguard {
            peers: peers.collect(),
            interface: Interface {
                private_key: device.private_key,
                listen_port: device.listen_port,
            },
        })
    }

    /// The public key of the device with that ifindex; None if it has none.
    pub(super) fn public_key(&mut self, index: u32) -> linux_net::Result<Option<PublicKey>> {
        Ok(self.socket.device(index)?.public_key)
    }

    /// Sets key and port.
    pub(super) fn set_interface(
        &mut self,
        index: u32,
        interface: &Interface,
    ) -> linux_net::Result<()> {
        let Interface {
            private_key,
            listen_port,
        } = interface;
        self.socket
            .set_device(index, private_key.as_ref(), Some(*listen_port))
    }

    /// Makes changes of peers, each of the device with that ifindex. Returns an answer for each, in
    /// order.
    pub(super) fn change_peers(&mut self, changes: &[(u32, Change)]) -> Vec<linux_net::Result<()>> {
        let mut answers = Vec::new();
        for of_device in changes.chunk_by(|(index, _), (next, _)| index == next) {
            let Some((index, _)) = of_device.first() else {
                continue;
            };
            let requests: Vec<_> = of_device
                .iter()
                .filter_map(|(_, change)| request(change))
                .collect();
            let results = self.socket.change_peers(*index, &requests);
            for (request, result) in requests.iter().zip(&results) {
                if result.is_ok() {
                    self.remember(*index, request);
                }
            }
            answers.extend(results);
        }
        answers
    }

    /// Begins a handshake with each of these peers of the device with that ifindex.
    pub(super) fn begin_handshakes(
        &mut self,
        index: u32,
        handshakes: &[Handshake],
    ) -> linux_net::Result<()> {
        let begin = |handshake: &Handshake| PeerChange::BeginHandshake {
            public_key: handshake.peer,
            keepalive: handshake.keepalive,
        };
        let requests: Vec<_> = handshakes.iter().map(begin).collect();
        let answers = self.socket.change_peers(index, &requests);
        answers.into_iter().collect()
    }

    fn remember(&mut self, index: u32, change: &PeerChange) {
        let id = (index, change.public_key());
        match change {
            PeerChange::Put(PutPeer {
                endpoint: Some(endpoint),
                ..
            }) => self.endpoints.insert(id, *endpoint),
            PeerChange::Put(_) | PeerChange::BeginHandshake { .. } => None,
            PeerChange::Remove(_) => self.endpoints.remove(&id),
        };
    }
}

/// None for a change of something else.
fn request(change: &Change) -> Option<PeerChange> {
    let Entry::WireguardPeer(_, entry) = change.entry() else {
        return None;
    };
    let peer = &*entry.peer;
    Some(match change {
        Change::Delete(_) => PeerChange::Remove(entry.key),
        Change::Put(_) => PeerChange::Put(PutPeer {
            public_key: entry.key,
            preshared_key: peer.preshared_key.clone(),
            endpoint: peer.endpoint,
            keepalive: peer.keepalive,
            allowed_ips: peer.allowed_ips.clone(),
            replace_allowed_ips: entry.replace,
        }),
    })
}

/// A peer in the form of a plan. `set` is the endpoint that this daemon gave it, `now` the time
/// since 1970.
fn observed(peer: wireguard::Peer, set: Option<SocketAddr>, now: Duration) -> Peer {
    let wireguard::Peer {
        public_key: _,
        preshared_key,
        endpoint,
        keepalive,
        last_handshake,
        rx_bytes: _,
        tx_bytes: _,
        mut allowed_ips,
    } = peer;
    allowed_ips.sort();
    allowed_ips.dedup();
    // a clock that was set back makes a handshake of the future: its session is over soon
    let lasts = |handshake: Duration| now.abs_diff(handshake) < SESSION;
    Peer {
        preshared_key,
        endpoint,
        keepalive,
        allowed_ips,
        session: match last_handshake.is_some_and(lasts) {
            true => Session::Since(set),
            false => Session::None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::entry::PeerEntry;

    fn kernel(handshake: Option<u64>) -> wireguard::Peer {
        wireguard::Peer {
            public_key: PublicKey([1; 32]),
            preshared_key: None,
            endpoint: Some("203.0.113.7:40000".parse().unwrap()),
            keepalive: 25,
            last_handshake: handshake.map(Duration::from_secs),
            rx_bytes: 1,
            tx_bytes: 2,
            allowed_ips: ["fd00::/64", "10.244.2.0/24", "fd00::/64"]
                .map(|net| net.parse().unwrap())
                .into(),
        }
    }

    #[test]
    fn session_lasts_three_minutes_after_a_handshake() {
        let set = Some("172.31.0.2:51820".parse().unwrap());
        let session = |handshake| {
            let now = Duration::from_secs(1_000_000);
            observed(kernel(handshake), set, now).session
        };
        assert_eq!(session(None), Session::None);
        assert_eq!(session(Some(999_900)), Session::Since(set));
        assert_eq!(session(Some(999_820)), Session::None);
        assert_eq!(session(Some(1_000_500)), Session::None, "of the future");
        let nets = observed(kernel(None), set, Duration::ZERO).allowed_ips;
        let nets: Vec<_> = nets.iter().map(ToString::to_string).collect();
        assert_eq!(nets, ["10.244.2.0/24", "fd00::/64"]);
    }

    #[test]
    fn changes_of_peers_become_requests() {
        let peer = observed(kernel(None), None, Duration::ZERO);
        let entry = PeerEntry {
            key: PublicKey([1; 32]),
            peer: Arc::new(peer.clone()),
            replace: true,
        };
        let entry = Entry::WireguardPeer("flannel-wg".into(), entry);
        let removal = PeerChange::Remove(PublicKey([1; 32]));
        assert_eq!(request(&Change::Delete(entry.clone())), Some(removal));
        let put = PutPeer {
            public_key: PublicKey([1; 32]),
            preshared_key: None,
            endpoint: peer.endpoint,
            keepalive: 25,
            allowed_ips: peer.allowed_ips,
            replace_allowed_ips: true,
        };
        let put = PeerChange::Put(put);
        assert_eq!(request(&Change::Put(entry)), Some(put));
        let other = Entry::Address("flannel-wg".into(), "10.244.1.0/32".parse().unwrap());
        assert_eq!(request(&Change::Put(other)), None);
    }
}
