//! The packet paths. Each thread of a data path has a worker of its own; all share the device.

use crate::{
    device::{Device, Tables},
    inner::{self, Inner},
    peer::{Peer, State},
};
use boringtun::noise::{Packet, TunnResult, handshake::parse_handshake_anon};
use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// The longest packet and the longest datagram, in bytes.
const LONGEST: usize = 65_535;
/// What the protocol adds to a packet: header, counter, authentication tag.
/// Source: <https://www.wireguard.com/protocol/>.
pub(crate) const OVERHEAD: usize = 32;
/// Packets are padded with zeros to a multiple of it, as far as the MTU allows.
/// Source: `calculate_skb_padding` of drivers/net/wireguard/send.c.
const PADDING: usize = 16;
/// A session's counter never reaches it. Source: `REJECT_AFTER_MESSAGES` of
/// drivers/net/wireguard/messages.h.
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
const COOKIE_REPLY: usize = 64;

/// Where what a worker makes goes.
pub trait Output {
    /// A datagram for the network, with these bits of ECN. `write` writes it to the place that it
    /// is given, and returns its length; 0: there is none, which a place that is too short for it
    /// leads to.
    fn datagram(&mut self, to: SocketAddr, ecn: u8, write: impl FnOnce(&mut [u8]) -> usize);
    /// An IP packet for the host.
    fn packet(&mut self, packet: &[u8]);
    /// The longest datagram that the path to `to` takes, in bytes, where it is known to take less
    /// than the interface.
    fn limit(&mut self, to: SocketAddr) -> Option<usize>;
}

/// What became of a packet of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the sender of a packet has to learn why it goes no further"]
pub enum Sent {
    /// It is on its way, or waits for a handshake.
    Yes,
    /// It is no IP packet, or one that contradicts itself.
    Malformed,
    /// No peer has its destination, or one of unknown address: its sender should be told that the
    /// host is unreachable. Source: `wg_xmit` of drivers/net/wireguard/device.c.
    Unreachable,
    /// The path to the peer takes no packet longer than this, in bytes.
    TooLong(usize),
}

/// Between two looks at the timers of the peers: the tunnels' clock advances then only.
const TICK: Duration = Duration::from_millis(250);
/// Between two looks at the peers that a handshake begins with, while there are some.
const BEGIN_TICK: Duration = Duration::from_millis(25);

/// One thread's access to a device.
pub struct Worker {
    device: Arc<Device>,
    tables: Arc<Tables>,
    generation: u64,
    /// Which peers' timers are its own: those whose position modulo `workers` is `number`.
    number: usize,
    workers: usize,
    next_tick: Instant,
    buffer: Box<[u8]>,
    padded: Box<[u8]>,
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Worker")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// The worker `number` of `workers`, counted from zero. Its timers run from `now` on.
    pub fn new(device: Arc<Device>, number: usize, workers: usize, now: Instant) -> Self {
        let generation = device.generation();
        Self {
            tables: device.current(),
            generation,
            device,
            number,
            workers: workers.max(1),
            next_tick: now,
            buffer: vec![0; LONGEST + OVERHEAD + PADDING].into(),
            padded: vec![0; LONGEST + PADDING].into(),
        }
    }

    /// Follows a change of the configuration.
    fn refresh(&mut self) {
        let generation = self.device.generation();
        if generation != self.generation {
            self.tables = self.device.current();
            self.generation = generation;
        }
    }

    /// An IP packet of the host: it goes to the peer of its destination, or waits there for a
    /// handshake.
    pub fn packet(&mut self, packet: &[u8], now: Instant, output: &mut impl Output) -> Sent {
        self.refresh();
        let Some(inner) = Inner::parse(packet) else {
            return Sent::Malformed;
        };
        let packet = &packet[..inner.length];
        let Some(peer) = self.tables.by_address(inner.destination) else {
            return Sent::Unreachable;
        };
        let mut state = peer.state();
        let Some(endpoint) = state.endpoint else {
            return Sent::Unreachable;
        };
        let limit = output.limit(endpoint).unwrap_or(LONGEST);
        let longest = limit.saturating_sub(OVERHEAD);
        if packet.len() > longest {
            return Sent::TooLong(longest);
        }
        let packet = pad(packet, self.tables.mtu.min(longest), &mut self.padded);
        if state.has_session {
            state.send_packet(packet, inner.ecn, now, output);
        } else {
            state.waiting.push(packet);
            state.begin_handshake(&mut self.buffer, output);
        }
        Sent::Yes
    }

    /// A datagram of the network, with its bits of ECN.
    pub fn datagram(
        &mut self,
        from: SocketAddr,
        ecn: u8,
        datagram: &[u8],
        now: Instant,
        output: &mut impl Output,
    ) {
        self.refresh();
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        if datagram.len() > LONGEST {
            return;
        }
        let mut cookie = [0; COOKIE_REPLY];
        let identity = &self.tables.identity;
        let packet = match identity
            .limiter
            .verify_packet(Some(from.ip()), datagram, &mut cookie)
        {
            Ok(packet) => packet,
            Err(TunnResult::WriteToNetwork(reply)) => {
                output.datagram(from, 0, copy(reply));
                return;
            }
            Err(_) => return,
        };
        let kind = match packet {
            Packet::HandshakeInit(_) => Kind::Initiation,
            Packet::HandshakeResponse(_) => Kind::Response,
            Packet::PacketCookieReply(_) => Kind::Cookie,
            Packet::PacketData(_) if counter(datagram) < REJECT_AFTER_MESSAGES => Kind::Data,
            Packet::PacketData(_) => return,
        };
        let Some(peer) = sender(&self.tables, &packet) else {
            return;
        };
        let arrived = Arrived {
            kind,
            from,
            ecn,
            datagram,
            now,
        };
        receive(&self.tables, peer, &arrived, &mut self.buffer, output);
    }

    /// Does what time demands of the peers of this worker, if it is time. Returns when to call it
    /// again; earlier calls do no harm. To be called at once after a change of the configuration.
    pub fn tick(&mut self, now: Instant, output: &mut impl Output) -> Instant {
        self.refresh();
        let mut beginning = false;
        if self.number == 0 {
            let due = self.device.due(now);
            beginning = due.more;
            for peer in due.peers {
                let mut state = peer.state();
                // else the peer was quicker
                if !state.has_session {
                    state.begin_handshake(&mut self.buffer, output);
                }
            }
        }
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            if self.number == 0 {
                self.tables.identity.limiter.reset_count();
            }
            let peers = self.tables.peers.iter();
            for peer in peers.skip(self.number).step_by(self.workers) {
                peer.state().tick(now, &mut self.buffer, output);
            }
        }
        match beginning {
            true => self.next_tick.min(now + BEGIN_TICK),
            false => self.next_tick,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Initiation,
    Response,
    Cookie,
    Data,
}

/// A datagram that has come for a peer.
struct Arrived<'a> {
    kind: Kind,
    from: SocketAddr,
    ecn: u8,
    datagram: &'a [u8],
    now: Instant,
}

/// Who has sent the packet, if it is authentic.
fn sender<'a>(tables: &'a Tables, packet: &Packet<'_>) -> Option<&'a Arc<Peer>> {
    match packet {
        Packet::HandshakeInit(initiation) => {
            let (private, public) = (tables.identity.private.secret(), &tables.identity.public);
            let opened = parse_handshake_anon(private, public, initiation).ok()?;
            tables.by_key(crate::PublicKey(opened.peer_static_public))
        }
        Packet::HandshakeResponse(response) => tables.by_receiver_index(response.receiver_idx),
        Packet::PacketCookieReply(reply) => tables.by_receiver_index(reply.receiver_idx),
        Packet::PacketData(data) => tables.by_receiver_index(data.receiver_idx),
    }
}

/// The counter of a data packet.
fn counter(datagram: &[u8]) -> u64 {
    let bytes = datagram.get(8..16).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(u64::MAX, u64::from_le_bytes)
}

/// Decrypts, and does what follows: an answer, a packet for the host, packets that waited.
fn receive(
    tables: &Tables,
    peer: &Arc<Peer>,
    arrived: &Arrived<'_>,
    buffer: &mut [u8],
    output: &mut impl Output,
) {
    let Arrived { from, now, .. } = *arrived;
    let length = arrived.datagram.len();
    let mut state = peer.state();
    let result = state
        .tunnel
        .decapsulate(Some(from.ip()), arrived.datagram, buffer);
    match (arrived.kind, result) {
        (Kind::Initiation, TunnResult::WriteToNetwork(reply)) => {
            state.authentic(from, length, now);
            state.sent += reply.len() as u64;
            output.datagram(from, 0, copy(reply));
        }
        // the reply is an empty packet, which tells the peer that the session works
        (Kind::Response, TunnResult::WriteToNetwork(reply)) => {
            state.authentic(from, length, now);
            state.sent += reply.len() as u64;
            output.datagram(from, 0, copy(reply));
            established(&mut state, now, output);
        }
        // an empty packet
        (Kind::Data, TunnResult::Done) => {
            state.authentic(from, length, now);
            established(&mut state, now, output);
        }
        (
            Kind::Data,
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _),
        ) => {
            state.authentic(from, length, now);
            deliver(tables, peer, packet, arrived.ecn, output);
            established(&mut state, now, output);
        }
        // a cookie for a later handshake, or what is not authentic
        _ => {}
    }
}

fn established(state: &mut State, now: Instant, output: &mut impl Output) {
    state.has_session = true;
    if !state.waiting.is_empty() {
        state.send_waiting(now, output);
    }
}

/// Writes a datagram that is at hand.
pub(crate) fn copy(datagram: &[u8]) -> impl FnOnce(&mut [u8]) -> usize {
    move |place| match place.get_mut(..datagram.len()) {
        Some(target) => {
            target.copy_from_slice(datagram);
            datagram.len()
        }
        None => 0,
    }
}

/// Gives the host the packet if its source is one that the peer may use.
fn deliver(
    tables: &Tables,
    peer: &Arc<Peer>,
    packet: &mut [u8],
    ecn: u8,
    output: &mut impl Output,
) {
    let Some(inner) = Inner::parse(packet) else {
        return;
    };
    let owner = tables.by_address(inner.source);
    if owner.is_some_and(|owner| owner.index == peer.index) {
        inner::congestion(packet, inner, ecn);
        output.packet(packet);
    }
}

/// The packet with zeros behind it; `buffer` holds it where there are any.
fn pad<'a>(packet: &'a [u8], mtu: usize, buffer: &'a mut [u8]) -> &'a [u8] {
    let length = packet.len();
    let padded = length.next_multiple_of(PADDING).min(mtu).max(length);
    if padded == length {
        return packet;
    }
    let target = &mut buffer[..padded];
    target[..length].copy_from_slice(packet);
    target[length..].fill(0);
    target
}
