//! One peer: its protocol state behind a lock, so that every worker may serve it.

use crate::{
    config::{PeerConfig, PublicKey},
    device::Identity,
    inner::Inner,
    waiting::Waiting,
    worker::{OVERHEAD, Output, copy},
};
use boringtun::noise::{Tunn, TunnResult, errors::WireGuardError};
use std::{
    fmt,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A peer of a device.
pub(crate) struct Peer {
    /// Names it.
    pub(crate) key: PublicKey,
    /// The upper 24 bits of the receiver index of its sessions.
    pub(crate) index: u32,
    state: Mutex<State>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Peer").field(&self.key).finish()
    }
}

/// What changes with packets and time.
pub(crate) struct State {
    pub(crate) tunnel: Tunn,
    /// Where packets to it go: as configured, then where its last packet came from.
    pub(crate) endpoint: Option<SocketAddr>,
    /// Whether the tunnel has a session to send with. The tunnel loses it in `update_timers` only.
    pub(crate) has_session: bool,
    pub(crate) waiting: Waiting,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    config: PeerConfig,
    /// When a packet of a session last went or came.
    last_packet: Instant,
}

impl Peer {
    pub(crate) fn new(
        identity: &Identity,
        index: u32,
        config: &PeerConfig,
        waiting: Waiting,
        now: Instant,
    ) -> Self {
        let tunnel = Tunn::new(
            identity.private.secret().clone(),
            config.public_key.0.into(),
            config.preshared_key.as_ref().map(|key| key.0),
            // the keepalive is this module's: the tunnel's cannot change, and ends after a while
            None,
            index,
            Some(identity.unlimited.clone()),
        );
        Self {
            key: config.public_key,
            index,
            state: Mutex::new(State {
                tunnel,
                endpoint: config.endpoint,
                has_session: false,
                waiting,
                received: 0,
                sent: 0,
                config: config.clone(),
                last_packet: now,
            }),
        }
    }

    /// The state. A worker that panicked with it has left it whole: the tunnel has no step that
    /// another one has to complete.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether sessions go on with this configuration.
    pub(crate) fn keeps_sessions(&self, config: &PeerConfig) -> bool {
        self.config.preshared_key == config.preshared_key
    }

    /// Takes what may change without a new session. An endpoint that the peer has moved to stays
    /// until the configured one is another.
    pub(crate) fn configure(&mut self, config: &PeerConfig) {
        if self.config.endpoint != config.endpoint {
            self.endpoint = config.endpoint;
        }
        self.config = config.clone();
    }

    /// Sends the first message of a handshake unless one is under way.
    pub(crate) fn begin_handshake(&mut self, buffer: &mut [u8], output: &mut impl Output) {
        if let TunnResult::WriteToNetwork(message) =
            self.tunnel.format_handshake_initiation(buffer, false)
        {
            send(self.endpoint, &mut self.sent, message, output);
        }
    }

    /// Encrypts a packet and sends it. There must be a session, and an endpoint. `ecn` is that of
    /// the packet.
    pub(crate) fn send_packet(
        &mut self,
        packet: &[u8],
        ecn: u8,
        now: Instant,
        output: &mut impl Output,
    ) {
        let Some(endpoint) = self.endpoint else {
            return;
        };
        output.datagram(endpoint, ecn, |place| {
            if place.len() < packet.len() + OVERHEAD {
                return 0;
            }
            let TunnResult::WriteToNetwork(datagram) = self.tunnel.encapsulate(packet, place)
            else {
                return 0;
            };
            self.last_packet = now;
            self.sent += datagram.len() as u64;
            datagram.len()
        });
    }

    /// A packet of the peer was authentic: it is where that came from. Source: `wg_receive` and
    /// `wg_socket_set_peer_endpoint_from_skb` of drivers/net/wireguard.
    pub(crate) fn authentic(&mut self, from: SocketAddr, length: usize, now: Instant) {
        self.endpoint = Some(from);
        self.received += length as u64;
        self.last_packet = now;
    }

    /// Sends what waited for the session.
    pub(crate) fn send_waiting(&mut self, now: Instant, output: &mut impl Output) {
        while let Some(packet) = self.waiting.pop() {
            let ecn = Inner::parse(&packet).map_or(0, |inner| inner.ecn);
            self.send_packet(&packet, ecn, now, output);
        }
    }

    /// Sends what time demands: a handshake again, a new one, a keepalive; forgets old sessions.
    /// At least every 250 ms: the tunnel's own clock advances here only.
    pub(crate) fn tick(&mut self, now: Instant, buffer: &mut [u8], output: &mut impl Output) {
        match self.tunnel.update_timers(buffer) {
            TunnResult::WriteToNetwork(message) => {
                send(self.endpoint, &mut self.sent, message, output);
            }
            // nobody answered for 90 s
            TunnResult::Err(WireGuardError::ConnectionExpired) => self.waiting.clear(),
            _ => {}
        }
        self.has_session = self.tunnel.time_since_last_handshake().is_some();
        let interval = Duration::from_secs(self.config.persistent_keepalive.into());
        if interval.is_zero() {
            return;
        }
        if !self.has_session {
            self.begin_handshake(buffer, output);
        } else if now.saturating_duration_since(self.last_packet) >= interval {
            self.send_packet(&[], 0, now, output);
        }
    }
}

/// A peer without an endpoint is not sent to.
fn send(endpoint: Option<SocketAddr>, sent: &mut u64, message: &[u8], output: &mut impl Output) {
    if let Some(endpoint) = endpoint {
        *sent += message.len() as u64;
        output.datagram(endpoint, 0, copy(message));
    }
}
