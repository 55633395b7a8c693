//! The engine of the backend `wireguard` where the kernel has none: crate `wireguard` between the
//! device and the sockets.

use crate::{Counter, Engine, Io, TunPacket, Unreachable, fragment};
use ::wireguard::{Device, Output, Sent, Worker};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// The longest packet, in bytes.
const LONGEST: usize = 65_535;
/// A change of the configuration, which no packet tells, is seen after so long at the latest.
const LOOK: Duration = Duration::from_millis(50);

/// One worker's part.
#[derive(Debug)]
pub struct Wireguard {
    worker: Worker,
    /// When the round began.
    now: Instant,
    /// A segment before it is encrypted.
    segment: Box<[u8]>,
}

impl Wireguard {
    /// The part `number` of `workers` of a device.
    pub fn new(device: Arc<Device>, number: usize, workers: usize) -> Wireguard {
        let now = Instant::now();
        Wireguard {
            worker: Worker::new(device, number, workers, now),
            now,
            segment: vec![0; LONGEST].into(),
        }
    }
}

/// What the worker makes goes to the sockets and to the device.
struct Outlet<'a, 'b>(&'a mut Io<'b>);

impl Output for Outlet<'_, '_> {
    fn datagram(&mut self, to: SocketAddr, ecn: u8, write: impl FnOnce(&mut [u8]) -> usize) {
        self.0.send_marked(to, ecn, write);
    }

    fn packet(&mut self, packet: &[u8]) {
        self.0.deliver(packet);
    }

    fn limit(&mut self, to: SocketAddr) -> Option<usize> {
        self.0.path_limit(to)
    }
}

impl Engine for Wireguard {
    fn begin(&mut self) {
        self.now = Instant::now();
    }

    fn outbound(&mut self, packet: TunPacket<'_>, io: &mut Io<'_>) {
        for segment in packet.segments() {
            if segment.len() > self.segment.len() {
                io.counters().one(Counter::Malformed);
                continue;
            }
            let length = segment.write(&mut self.segment);
            let plain = &self.segment[..length];
            match self.worker.packet(plain, self.now, &mut Outlet(io)) {
                Sent::Yes => {}
                Sent::Malformed => io.counters().one(Counter::Malformed),
                Sent::Unreachable => {
                    io.counters().one(Counter::NoRoute);
                    io.answer(packet.bytes(), Unreachable::Host);
                    // the other segments are for the same host
                    return;
                }
                Sent::TooLong(limit) => {
                    io.counters().one(Counter::TooLarge);
                    let (worker, now) = (&mut self.worker, self.now);
                    let fragmented = fragment(plain, limit, |fragment| {
                        // what is too long still is lost
                        let _sent = worker.packet(fragment, now, &mut Outlet(io));
                    });
                    if !fragmented {
                        io.answer(packet.bytes(), Unreachable::TooLarge(limit));
                    }
                }
            }
        }
    }

    fn inbound(&mut self, datagram: &mut [u8], from: SocketAddr, io: &mut Io<'_>) {
        let ecn = io.received_ecn();
        self.worker
            .datagram(from, ecn, datagram, self.now, &mut Outlet(io));
    }

    /// The packet inside cannot be told from the datagram. The path's limit is known now: its
    /// sender learns it with the next one.
    fn too_large(&mut self, _: &[u8], _: SocketAddr, _: usize, _: &mut Io<'_>) {}

    fn tick(&mut self, now: Instant, io: &mut Io<'_>) -> Option<Instant> {
        let next = self.worker.tick(now, &mut Outlet(io));
        Some(next.min(now + LOOK))
    }
}
