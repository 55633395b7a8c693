//! What an engine does with packets: it sends datagrams, gives packets to the device, answers with
//! ICMP, and counts.

use crate::{
    Counter, Counters, Unreachable,
    batch::{Batch, Outlet},
    coalesce::Coalescer,
    icmp::IcmpSender,
    path_mtu::PathMtu,
    tun::Queue,
};
use std::net::SocketAddr;

/// One worker's device, sockets and counters.
pub struct Io<'a> {
    pub(crate) batch: &'a mut Batch,
    pub(crate) outlet: Outlet<'a>,
    pub(crate) queue: &'a Queue,
    pub(crate) coalescer: &'a mut Coalescer,
    pub(crate) icmp: &'a mut IcmpSender,
    pub(crate) received_ecn: u8,
}

impl Io<'_> {
    /// Sends a datagram. `write` writes it to the place that it is given, of
    /// [`crate::MAX_DATAGRAM`] bytes, and returns its length; 0: nothing is sent. The place is
    /// not cleared. Datagrams of one length to one address are sent at once.
    pub fn send(&mut self, to: SocketAddr, write: impl FnOnce(&mut [u8]) -> usize) {
        self.send_marked(to, 0, write);
    }

    /// Does the same, with these bits of ECN (RFC 3168, section 5) in the outer header.
    pub fn send_marked(&mut self, to: SocketAddr, ecn: u8, write: impl FnOnce(&mut [u8]) -> usize) {
        self.batch.add(to, ecn, &mut self.outlet, write);
    }

    /// The bits of ECN of the datagram that the engine is given.
    pub fn received_ecn(&self) -> u8 {
        self.received_ecn
    }

    /// Gives a packet to the device, joined with others of its flow.
    pub fn deliver(&mut self, packet: &[u8]) {
        let (queue, counters) = (self.queue, self.outlet.counters);
        counters.one(Counter::ToDevice);
        self.coalescer.push(packet, |header, packet| {
            write(queue, counters, header, packet);
        });
    }

    /// Tells the sender of a packet why it goes no further.
    pub fn answer(&mut self, packet: &[u8], why: Unreachable) {
        if self.icmp.send(packet, why) {
            self.counters().one(Counter::IcmpErrors);
        }
    }

    /// The longest datagram to that address in bytes, if the path is known to take less than the
    /// interface.
    pub fn path_limit(&mut self, to: SocketAddr) -> Option<usize> {
        self.outlet.paths.known(to)
    }

    /// Counts.
    pub fn counters(&self) -> &Counters {
        self.outlet.counters
    }

    /// Sends and writes what waits for more.
    pub(crate) fn flush(&mut self) {
        self.batch.flush(&mut self.outlet);
        let (queue, counters) = (self.queue, self.outlet.counters);
        self.coalescer
            .flush(|header, packet| write(queue, counters, header, packet));
    }
}

fn write(queue: &Queue, counters: &Counters, header: crate::vnet::VnetHeader, packet: &[u8]) {
    if queue.write(header, packet).is_err() {
        counters.one(Counter::DeviceErrors);
    }
}

/// The parts of an [`Io`] that last.
#[derive(Debug)]
pub(crate) struct Buffers {
    pub(crate) batch: Batch,
    pub(crate) paths: PathMtu,
    pub(crate) coalescer: Coalescer,
    pub(crate) icmp: IcmpSender,
}
