//! IP packets of tests.

use std::net::Ipv6Addr;

/// An IPv4 packet with a right checksum.
pub(crate) fn ipv4(source: [u8; 4], destination: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20];
    packet[0] = 0x45;
    let length = u16::try_from(20 + data.len()).unwrap();
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[8] = 64;
    packet[9] = 17;
    packet[12..16].copy_from_slice(&source);
    packet[16..20].copy_from_slice(&destination);
    mend_checksum(&mut packet);
    packet.extend(data);
    packet
}

/// Writes the checksum of an IPv4 header.
pub(crate) fn mend_checksum(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let words = packet[..20].chunks(2);
    let mut sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[10..12].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
}

/// An IPv6 packet between the hosts of these numbers in fd00::/64.
pub(crate) fn ipv6(source: u16, destination: u16, data: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 40];
    packet[0] = 0x60;
    let length = u16::try_from(data.len()).unwrap();
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    packet[6] = 17;
    packet[7] = 64;
    let address = |host| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host).octets();
    packet[8..24].copy_from_slice(&address(source));
    packet[24..40].copy_from_slice(&address(destination));
    packet.extend(data);
    packet
}
