//! Joins packets of one flow that follow each other to a super-packet, so that the kernel handles
//! them once (the other half of `packet`). A packet is joined only if the kernel would split the
//! super-packet into exactly the packets that were received.

use crate::{
    checksum,
    ip::{self, Header},
    vnet::{GSO_TCP_V4, GSO_TCP_V6, GSO_UDP, NEEDS_CHECKSUM, VnetHeader},
};
use linux_net::tun::Offload;

/// The longest packet, in bytes.
const MAX_PACKET: usize = 65_535;
/// The most packets that the kernel joins (UDP_GRO_CNT_MAX in net/ipv4/udp_offload.c).
const MAX_SEGMENTS: usize = 64;
const ACK: u8 = 0x10;
const PUSH: u8 = 0x08;
/// IPv4: no fragment, may be fragmented or not.
const FRAGMENT_BITS: u8 = 0xbf;

/// Holds the packets that can still be joined.
#[derive(Debug)]
pub(crate) struct Coalescer {
    offload: Offload,
    buffer: Vec<u8>,
    held: Option<Held>,
}

/// The packets in the buffer.
#[derive(Debug, Clone, Copy)]
struct Held {
    shape: Shape,
    header: Header,
    count: usize,
    /// Payload of each packet but the last, in bytes.
    segment: usize,
    /// Nothing can follow.
    closed: bool,
    /// The checksums of the first packet are right.
    verified: bool,
}

/// Where the parts of a packet that can be joined are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    tcp: bool,
    /// Where the transport header begins, in bytes.
    transport: usize,
    /// Where the payload begins, in bytes.
    payload: usize,
}

impl Coalescer {
    pub(crate) fn new(offload: Offload) -> Coalescer {
        Coalescer {
            offload,
            buffer: Vec::with_capacity(MAX_PACKET),
            held: None,
        }
    }

    /// Takes a packet, and gives what cannot be joined any more to `write`, in order.
    pub(crate) fn push(&mut self, packet: &[u8], mut write: impl FnMut(VnetHeader, &[u8])) {
        let Some((header, shape)) = self.shape(packet) else {
            self.flush(&mut write);
            write(VnetHeader::default(), packet);
            return;
        };
        let packet = &packet[..header.length];
        if self.join(packet, &header, shape) {
            return;
        }
        self.flush(&mut write);
        self.buffer.clear();
        self.buffer.extend_from_slice(packet);
        let pushed = shape.tcp && packet[shape.transport + 13] & PUSH != 0;
        self.held = Some(Held {
            shape,
            header,
            count: 1,
            segment: packet.len() - shape.payload,
            closed: pushed,
            verified: false,
        });
    }

    /// Gives what is held to `write`.
    pub(crate) fn flush(&mut self, mut write: impl FnMut(VnetHeader, &[u8])) {
        let Some(held) = self.held.take() else {
            return;
        };
        if held.count == 1 {
            write(VnetHeader::default(), &self.buffer);
            return;
        }
        let packet = &mut self.buffer;
        let v4 = held.header.source.is_ipv4();
        let transport = held.shape.transport;
        // `join` keeps the packet below 65536 bytes
        if v4 {
            let length = packet.len() as u16;
            packet[2..4].copy_from_slice(&length.to_be_bytes());
            ip::write_v4_checksum(packet, held.header.header);
        } else {
            let length = (packet.len() - ip::V6_HEADER) as u16;
            packet[4..6].copy_from_slice(&length.to_be_bytes());
        }
        let length = packet.len() - transport;
        let (protocol, offset, gso) = match (held.shape.tcp, v4) {
            (true, true) => (ip::TCP, 16, GSO_TCP_V4),
            (true, false) => (ip::TCP, 16, GSO_TCP_V6),
            (false, _) => (ip::UDP, 6, GSO_UDP),
        };
        if !held.shape.tcp {
            packet[transport + 4..transport + 6].copy_from_slice(&(length as u16).to_be_bytes());
        }
        let Header {
            source,
            destination,
            ..
        } = held.header;
        let pseudo = checksum::pseudo_header(source, destination, protocol, length);
        let field = transport + offset;
        packet[field..field + 2].copy_from_slice(&checksum::fold(pseudo).to_ne_bytes());
        let vnet = VnetHeader {
            flags: NEEDS_CHECKSUM,
            gso,
            header_length: held.shape.payload as u16,
            segment: held.segment as u16,
            checksum_start: transport as u16,
            checksum_offset: offset as u16,
        };
        write(vnet, packet);
    }

    /// Appends the packet to what is held. False if it does not belong there.
    fn join(&mut self, packet: &[u8], header: &Header, shape: Shape) -> bool {
        let Some(held) = &mut self.held else {
            return false;
        };
        let payload = &packet[shape.payload..];
        let fits = !held.closed
            && held.shape == shape
            && held.count < MAX_SEGMENTS
            && payload.len() <= held.segment
            && self.buffer.len() + payload.len() <= MAX_PACKET
            && follows(&self.buffer, packet, held);
        if !fits {
            return false;
        }
        if !held.verified && !checksums_are_right(&self.buffer, &held.header, shape) {
            held.closed = true;
            return false;
        }
        held.verified = true;
        if !checksums_are_right(packet, header, shape) {
            return false;
        }
        self.buffer.extend_from_slice(payload);
        held.count += 1;
        let mut closed = payload.len() < held.segment;
        if shape.tcp && packet[shape.transport + 13] & PUSH != 0 {
            self.buffer[shape.transport + 13] |= PUSH;
            closed = true;
        }
        held.closed = closed;
        true
    }

    /// Where the parts of the packet are, if it is one that can be joined: TCP with nothing but
    /// data, or UDP; no fragment, no options of IP.
    fn shape(&self, packet: &[u8]) -> Option<(Header, Shape)> {
        let header = Header::read(packet).ok()?;
        let packet = &packet[..header.length];
        let transport = header.header;
        let plain = match header.source.is_ipv4() {
            true => transport == ip::V4_HEADER && packet[6] & FRAGMENT_BITS == 0 && packet[7] == 0,
            false => true,
        };
        if !plain {
            return None;
        }
        let (tcp, payload) = match header.protocol {
            ip::TCP if self.offload.tcp => {
                let flags = *packet.get(transport + 13)?;
                let length = usize::from(packet[transport + 12] >> 4) * 4;
                let data_only = flags & !PUSH == ACK && length >= 20;
                (true, data_only.then_some(transport + length)?)
            }
            ip::UDP if self.offload.udp => {
                let length = packet.get(transport + 4..transport + 6)?;
                let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                let checked = *packet.get(transport + 6..transport + 8)? != [0, 0];
                let whole = length == packet.len() - transport && checked;
                (false, whole.then_some(transport + 8)?)
            }
            _ => return None,
        };
        (payload < packet.len()).then_some((
            header,
            Shape {
                tcp,
                transport,
                payload,
            },
        ))
    }
}

/// True if the kernel would make this packet when it splits the super-packet `held` of which it is
/// the next one.
fn follows(held: &[u8], packet: &[u8], state: &Held) -> bool {
    let Shape {
        tcp,
        transport,
        payload,
    } = state.shape;
    let same = |from: usize, to: usize| held[from..to] == packet[from..to];
    let ip = match state.header.source.is_ipv4() {
        // all but the length, the identification and the checksum
        true => {
            same(0, 2) && same(6, 10) && same(12, 20) && {
                let id = |packet: &[u8]| u16::from_be_bytes([packet[4], packet[5]]);
                id(held).wrapping_add(state.count as u16) == id(packet)
            }
        }
        // all but the length
        false => same(0, 4) && same(6, 40),
    };
    if !ip || !same(transport, transport + 4) {
        return false;
    }
    if !tcp {
        return true;
    }
    let sequence = |packet: &[u8]| {
        let at = transport + 4;
        u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
    };
    let next = sequence(held).wrapping_add((held.len() - payload) as u32);
    // acknowledgement and length of the header; window, no urgent data; options
    next == sequence(packet)
        && same(transport + 8, transport + 13)
        && same(transport + 14, transport + 16)
        && same(transport + 18, payload)
}

/// The checksums of both headers: the joined packet gets new ones, which must not hide an error.
fn checksums_are_right(packet: &[u8], header: &Header, shape: Shape) -> bool {
    let zero = [0, 0];
    if header.source.is_ipv4() && checksum::finish(checksum::sum(&packet[..header.header])) != zero
    {
        return false;
    }
    let protocol = if shape.tcp { ip::TCP } else { ip::UDP };
    let covered = &packet[shape.transport..];
    let pseudo =
        checksum::pseudo_header(header.source, header.destination, protocol, covered.len());
    checksum::finish(pseudo + checksum::sum(covered)) == zero
}

#[cfg(test)]
mod tests;
