//! What an engine is: it turns packets of the TUN device into datagrams, and datagrams into
//! packets.

use crate::{Io, TunPacket};
use std::{net::SocketAddr, time::Instant};

/// One worker's part of an engine. Each worker has a queue of the device and its own sockets; what
/// the workers share, as the table of peers, is behind [`crate::Shared`].
pub trait Engine: Send {
    /// The beginning of a round of packets: the place to look at what is shared.
    fn begin(&mut self);

    /// A packet, or a super-packet, that the kernel sent to the device.
    fn outbound(&mut self, packet: TunPacket<'_>, io: &mut Io<'_>);

    /// A datagram that a socket received. The engine may change the bytes.
    fn inbound(&mut self, datagram: &mut [u8], from: SocketAddr, io: &mut Io<'_>);

    /// A datagram that was not sent, because it is longer than the `limit` bytes that the path to
    /// `to` takes.
    fn too_large(&mut self, datagram: &[u8], to: SocketAddr, limit: usize, io: &mut Io<'_>);

    /// Timers. Called at the latest when the time that it returned has come; None: there is
    /// nothing to wait for.
    fn tick(&mut self, now: Instant, io: &mut Io<'_>) -> Option<Instant>;
}
