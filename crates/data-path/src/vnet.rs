//! The header before each packet of a TUN device: `struct virtio_net_hdr` (linux/virtio_net.h), in
//! the byte order of the host.

pub(crate) use linux_net::tun::VNET_HEADER;

/// The checksum from `checksum_start` on is left to the reader.
pub(crate) const NEEDS_CHECKSUM: u8 = 1;
/// Bit of the kind of a super-packet: its TCP header has CWR set.
const GSO_ECN: u8 = 0x80;

/// Kinds of super-packets.
pub(crate) const GSO_NONE: u8 = 0;
pub(crate) const GSO_TCP_V4: u8 = 1;
pub(crate) const GSO_TCP_V6: u8 = 4;
pub(crate) const GSO_UDP: u8 = 5;

/// The header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct VnetHeader {
    pub(crate) flags: u8,
    /// Without the bit for ECN.
    pub(crate) gso: u8,
    /// Length of the headers before the payload, in bytes. A hint.
    pub(crate) header_length: u16,
    /// Payload of each segment, in bytes.
    pub(crate) segment: u16,
    pub(crate) checksum_start: u16,
    pub(crate) checksum_offset: u16,
}

impl VnetHeader {
    /// Divides what was read from a device into header and packet.
    pub(crate) fn read(bytes: &mut [u8]) -> Option<(VnetHeader, &mut [u8])> {
        let (header, packet) = bytes.split_first_chunk_mut::<VNET_HEADER>()?;
        let word = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let header = VnetHeader {
            flags: header[0],
            gso: header[1] & !GSO_ECN,
            header_length: word(2),
            segment: word(4),
            checksum_start: word(6),
            checksum_offset: word(8),
        };
        Some((header, packet))
    }

    pub(crate) fn to_bytes(self) -> [u8; VNET_HEADER] {
        let mut bytes = [0; VNET_HEADER];
        bytes[0] = self.flags;
        bytes[1] = self.gso;
        let words = [
            self.header_length,
            self.segment,
            self.checksum_start,
            self.checksum_offset,
        ];
        for (at, word) in (2..).step_by(2).zip(words) {
            bytes[at..at + 2].copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}
