//! Packets as a TUN device gives them: some are super-packets, longer than the MTU, that the reader
//! splits, and some have no checksum yet.

use crate::{
    checksum,
    ip::{self, Header, Malformed},
    vnet::{GSO_NONE, GSO_TCP_V4, GSO_TCP_V6, GSO_UDP, NEEDS_CHECKSUM, VnetHeader},
};

const FIN: u8 = 0x01;
const PUSH: u8 = 0x08;
const CWR: u8 = 0x80;
/// The shortest header of TCP, in bytes.
const TCP_HEADER: usize = 20;
/// The header of UDP, in bytes.
const UDP_HEADER: usize = 8;

/// A packet that the kernel sent to the device.
#[derive(Debug)]
pub struct TunPacket<'a> {
    bytes: &'a mut [u8],
    header: Header,
    split: Option<Split>,
}

/// How a super-packet is split.
#[derive(Debug, Clone, Copy)]
struct Split {
    tcp: bool,
    /// Where the transport header begins, in bytes.
    transport: usize,
    /// Where the payload begins, in bytes.
    payload: usize,
    /// Payload of each segment but the last, in bytes.
    segment: usize,
}

/// The packets of a [`TunPacket`], each of which fits the device's MTU.
#[derive(Debug)]
pub struct Segments<'a> {
    packet: &'a [u8],
    header: Header,
    split: Option<Split>,
    next: usize,
}

/// One packet with all its checksums.
#[derive(Debug)]
pub struct Segment<'a> {
    packet: &'a [u8],
    header: Header,
    part: Option<(Split, usize, usize)>,
}

impl<'a> TunPacket<'a> {
    /// Reads what the device gave, its header first.
    pub(crate) fn read(bytes: &'a mut [u8]) -> Result<TunPacket<'a>, Malformed> {
        let (vnet, bytes) = VnetHeader::read(bytes).ok_or(Malformed)?;
        let header = Header::read(bytes)?;
        let bytes = &mut bytes[..header.length];
        let split = match vnet.gso {
            GSO_NONE => None,
            GSO_TCP_V4 | GSO_TCP_V6 | GSO_UDP => Some(Split::read(&vnet, bytes, &header)?),
            _ => return Err(Malformed),
        };
        if split.is_none() && vnet.flags & NEEDS_CHECKSUM != 0 {
            complete_checksum(&vnet, bytes, &header)?;
        }
        Ok(TunPacket {
            bytes,
            header,
            split: split.filter(|split| split.payload + split.segment < header.length),
        }
        .with_checksum_of_short_super_packet(split))
    }

    /// A super-packet with one segment is a packet without checksum.
    fn with_checksum_of_short_super_packet(self, split: Option<Split>) -> TunPacket<'a> {
        if let (None, Some(split)) = (self.split, split) {
            write_transport_checksum(self.bytes, &self.header, &split);
        }
        self
    }

    /// What the header says. Its length is that of the super-packet.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The packet or super-packet.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// Length of the longest of its packets, in bytes.
    pub fn longest(&self) -> usize {
        match self.split {
            Some(split) => split.payload + split.segment,
            None => self.header.length,
        }
    }

    /// Decrements the TTL or hop limit of all its packets. False if nothing is left.
    pub fn decrement_ttl(&mut self) -> bool {
        ip::decrement_ttl(self.bytes)
    }

    /// Its packets, in order.
    pub fn segments(&self) -> Segments<'_> {
        Segments {
            packet: self.bytes,
            header: self.header,
            split: self.split,
            next: 0,
        }
    }
}

impl Split {
    fn read(vnet: &VnetHeader, packet: &[u8], header: &Header) -> Result<Split, Malformed> {
        let tcp = vnet.gso != GSO_UDP;
        let transport = usize::from(vnet.checksum_start);
        let segment = usize::from(vnet.segment);
        let transport_header = match tcp {
            true => {
                let offset = packet.get(transport + 12).ok_or(Malformed)?;
                usize::from(offset >> 4) * 4
            }
            false => UDP_HEADER,
        };
        let shortest = if tcp { TCP_HEADER } else { UDP_HEADER };
        let payload = transport + transport_header;
        let valid = vnet.flags & NEEDS_CHECKSUM != 0
            && segment > 0
            && transport >= header.header
            && transport_header >= shortest
            && payload <= packet.len();
        valid
            .then_some(Split {
                tcp,
                transport,
                payload,
                segment,
            })
            .ok_or(Malformed)
    }
}

/// Completes a checksum that the kernel left to the reader: its field has the sum of the pseudo
/// header.
fn complete_checksum(
    vnet: &VnetHeader,
    packet: &mut [u8],
    header: &Header,
) -> Result<(), Malformed> {
    let start = usize::from(vnet.checksum_start);
    if start < header.header {
        return Err(Malformed);
    }
    let field = start + usize::from(vnet.checksum_offset);
    let covered = packet.get(start..).ok_or(Malformed)?;
    let checksum = checksum::finish(checksum::sum(covered));
    let field = packet.get_mut(field..field + 2).ok_or(Malformed)?;
    // zero says that there is no checksum: both are the same number to a receiver
    let checksum = if checksum == [0, 0] {
        [0xff, 0xff]
    } else {
        checksum
    };
    field.copy_from_slice(&checksum);
    Ok(())
}

/// Writes the checksum of a TCP or UDP packet, from the addresses on.
fn write_transport_checksum(packet: &mut [u8], header: &Header, split: &Split) {
    let (protocol, field) = match split.tcp {
        true => (ip::TCP, split.transport + 16),
        false => (ip::UDP, split.transport + 6),
    };
    let length = packet.len() - split.transport;
    let pseudo = checksum::pseudo_header(header.source, header.destination, protocol, length);
    packet[field..field + 2].fill(0);
    let checksum = checksum::finish(pseudo + checksum::sum(&packet[split.transport..]));
    let checksum = if checksum == [0, 0] {
        [0xff, 0xff]
    } else {
        checksum
    };
    packet[field..field + 2].copy_from_slice(&checksum);
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        let part = match self.split {
            None => {
                if self.next > 0 {
                    return None;
                }
                None
            }
            Some(split) => {
                let begin = split.payload + self.next * split.segment;
                if begin >= self.packet.len() {
                    return None;
                }
                Some((split, self.next, begin))
            }
        };
        self.next += 1;
        Some(Segment {
            packet: self.packet,
            header: self.header,
            part,
        })
    }
}

impl Segment<'_> {
    /// In bytes.
    #[allow(clippy::len_without_is_empty, reason = "no packet is empty")]
    pub fn len(&self) -> usize {
        match self.part {
            None => self.packet.len(),
            Some((split, _, begin)) => split.payload + split.segment.min(self.packet.len() - begin),
        }
    }

    /// Writes the packet to the beginning of `to`, which has at least [`Segment::len`] bytes, and
    /// returns its length.
    pub fn write(&self, to: &mut [u8]) -> usize {
        let length = self.len();
        let to = &mut to[..length];
        let Some((split, number, begin)) = self.part else {
            to.copy_from_slice(self.packet);
            return length;
        };
        let (headers, payload) = to.split_at_mut(split.payload);
        headers.copy_from_slice(&self.packet[..split.payload]);
        payload.copy_from_slice(&self.packet[begin..begin + payload.len()]);
        let last = begin + payload.len() >= self.packet.len();
        self.write_ip(to, number);
        // sequence numbers, and lengths that are at most 65535
        if split.tcp {
            let at = split.transport + 4;
            let first = [to[at], to[at + 1], to[at + 2], to[at + 3]];
            let sequence = u32::from_be_bytes(first)
                .wrapping_add((number as u32).wrapping_mul(split.segment as u32));
            to[at..at + 4].copy_from_slice(&sequence.to_be_bytes());
            let flags = &mut to[split.transport + 13];
            if !last {
                *flags &= !(FIN | PUSH);
            }
            if number > 0 {
                *flags &= !CWR;
            }
        } else {
            let udp = (length - split.transport) as u16;
            to[split.transport + 4..split.transport + 6].copy_from_slice(&udp.to_be_bytes());
        }
        write_transport_checksum(to, &self.header, &split);
        length
    }

    /// The IP header of the segment with this number.
    fn write_ip(&self, to: &mut [u8], number: usize) {
        // a segment is shorter than the super-packet, which has at most 65575 bytes
        if self.header.source.is_ipv4() {
            let length = to.len() as u16;
            to[2..4].copy_from_slice(&length.to_be_bytes());
            let id = u16::from_be_bytes([to[4], to[5]]).wrapping_add(number as u16);
            to[4..6].copy_from_slice(&id.to_be_bytes());
            ip::write_v4_checksum(to, self.header.header);
        } else {
            let length = (to.len() - ip::V6_HEADER) as u16;
            to[4..6].copy_from_slice(&length.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
