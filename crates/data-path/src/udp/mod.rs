//! The engine of the backend `udp`: a packet travels in a UDP datagram as it is, without a header
//! of its own (upstream: pkg/backend/udp/proxy_amd64.c). Both ends are a router on its way: each
//! decrements the TTL.

use crate::{Counter, Engine, Header, Io, PrefixTable, Reader, TunPacket, Unreachable, ip};
use std::{net::SocketAddr, time::Instant};

/// What the engine goes by.
#[derive(Debug, Default)]
pub struct Peers {
    /// Where the packets for each subnet go.
    pub routes: PrefixTable<SocketAddr>,
    /// This node's subnets: what is received is for them.
    pub own: PrefixTable<()>,
}

/// One worker's part.
#[derive(Debug)]
pub struct Udp {
    peers: Reader<Peers>,
}

impl Udp {
    /// An engine that follows these peers.
    pub fn new(peers: Reader<Peers>) -> Udp {
        Udp { peers }
    }
}

impl Engine for Udp {
    fn begin(&mut self) {
        self.peers.refresh();
    }

    fn outbound(&mut self, mut packet: TunPacket<'_>, io: &mut Io<'_>) {
        match route(&self.peers, packet.header()) {
            Route::To(peer) if packet.decrement_ttl() => {
                for segment in packet.segments() {
                    io.send(peer, |to| match segment.len() <= to.len() {
                        true => segment.write(to),
                        false => 0,
                    });
                }
            }
            Route::To(_) => {
                io.counters().one(Counter::TtlExceeded);
                io.answer(packet.bytes(), Unreachable::TtlExceeded);
            }
            Route::Unknown => {
                io.counters().one(Counter::NoRoute);
                io.answer(packet.bytes(), Unreachable::Network);
            }
            // the kernel's own, as router solicitations: they are not for other nodes
            Route::Link => io.counters().one(Counter::Dropped),
        }
    }

    fn inbound(&mut self, datagram: &mut [u8], _from: SocketAddr, io: &mut Io<'_>) {
        match accept(&self.peers, datagram) {
            Ok(length) if ip::decrement_ttl(&mut datagram[..length]) => {
                io.deliver(&datagram[..length]);
            }
            Ok(length) => {
                io.counters().one(Counter::TtlExceeded);
                io.answer(&datagram[..length], Unreachable::TtlExceeded);
            }
            Err(refused) => io.counters().one(refused),
        }
    }

    fn too_large(&mut self, datagram: &[u8], to: SocketAddr, limit: usize, io: &mut Io<'_>) {
        let fragmented = ip::fragment(datagram, limit, |fragment| {
            io.send(to, |place| {
                place[..fragment.len()].copy_from_slice(fragment);
                fragment.len()
            });
        });
        if !fragmented {
            io.answer(datagram, Unreachable::TooLarge(limit));
        }
    }

    fn tick(&mut self, _now: Instant, _io: &mut Io<'_>) -> Option<Instant> {
        None
    }
}

/// Where a packet goes.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    To(SocketAddr),
    /// No peer has the destination.
    Unknown,
    /// The destination is one of this link.
    Link,
}

fn route(peers: &Peers, header: &Header) -> Route {
    if ip::is_link_scoped(header.destination) {
        return Route::Link;
    }
    match peers.routes.get(header.destination) {
        Some(peer) => Route::To(*peer),
        None => Route::Unknown,
    }
}

/// The length of the packet in a datagram, or why it is dropped. As upstream's, the engine takes
/// packets from any sender: a node may send from another address than peers know it by. What is
/// in the packet has to make sense: it is for this node, and comes from another one.
fn accept(peers: &Peers, datagram: &[u8]) -> Result<usize, Counter> {
    let header = Header::read(datagram).map_err(|_| Counter::Malformed)?;
    let for_this_node = peers.own.get(header.destination).is_some();
    let from_this_node = peers.own.get(header.source).is_some();
    if !for_this_node || from_this_node || ip::is_impossible_source(header.source) {
        return Err(Counter::Spoofed);
    }
    Ok(header.length)
}

/// Entry point of the fuzz target: a datagram, or what the device gave.
pub(crate) fn fuzz(bytes: &[u8]) {
    let nets = |text: &str| text.parse::<ipnetwork::IpNetwork>().ok();
    let own = ["10.1.1.0/24", "fd00:1::/64"].into_iter().filter_map(nets);
    let remote = ["10.1.2.0/24", "fd00:2::/64"].into_iter().filter_map(nets);
    let peer = SocketAddr::from(([192, 0, 2, 1], 8285));
    let peers = Peers {
        own: PrefixTable::new(own.map(|net| (net, ()))).unwrap_or_default(),
        routes: PrefixTable::new(remote.map(|net| (net, peer))).unwrap_or_default(),
    };
    let mut datagram = bytes.to_vec();
    if let Ok(length) = accept(&peers, &datagram) {
        ip::decrement_ttl(&mut datagram[..length]);
        assert!(Header::read(&datagram).is_ok(), "the packet stays one");
    }
    if let Ok(header) = Header::read(bytes) {
        let found = route(&peers, &header);
        assert!(found != Route::Link || peers.routes.get(header.destination).is_none());
    }
    for limit in [0, 28, 600] {
        ip::fragment(bytes, limit, |fragment| assert!(fragment.len() <= limit));
    }
}

#[cfg(test)]
mod tests;
