use super::*;
use crate::vnet::VNET_HEADER;
use proptest::prelude::*;
use std::net::Ipv6Addr;

fn super_packet(v6: bool, tcp: bool, payload: usize, segment: u16, flags: u8) -> Vec<u8> {
    let transport_header = if tcp { 32 } else { 8 };
    let protocol = if tcp { ip::TCP } else { ip::UDP };
    let length = transport_header + payload;
    let mut packet = match v6 {
        true => {
            let ip = |n: u16| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n);
            ip::v6_header(ip(1), ip(2), protocol, length).to_vec()
        }
        false => {
            let mut header =
                ip::v4_header([10, 1, 0, 1].into(), [10, 1, 1, 1].into(), protocol, length);
            header[4..6].copy_from_slice(&[0xff, 0xfe]);
            ip::write_v4_checksum(&mut header, ip::V4_HEADER);
            header.to_vec()
        }
    };
    let transport = packet.len();
    packet.resize(transport + transport_header, 0);
    packet[transport..transport + 4].copy_from_slice(&[0x30, 0x39, 0x1f, 0x90]);
    if tcp {
        packet[transport + 4..transport + 8].copy_from_slice(&0xffff_ff00u32.to_be_bytes());
        packet[transport + 12] = 8 << 4;
        packet[transport + 13] = flags;
    }
    packet.extend((0..payload).map(|number| (number % 251) as u8));
    let vnet = VnetHeader {
        flags: NEEDS_CHECKSUM,
        gso: match (tcp, v6) {
            (true, false) => GSO_TCP_V4,
            (true, true) => GSO_TCP_V6,
            (false, _) => GSO_UDP,
        },
        header_length: (transport + transport_header) as u16,
        segment,
        checksum_start: transport as u16,
        checksum_offset: if tcp { 16 } else { 6 },
    };
    [vnet.to_bytes().to_vec(), packet].concat()
}

/// The packets, of which each has right checksums.
fn packets(mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
    let packet = TunPacket::read(&mut bytes).unwrap();
    let mut packets = Vec::new();
    for segment in packet.segments() {
        let mut place = vec![0xaa; segment.len() + 5];
        let length = segment.write(&mut place);
        assert_eq!(place[length..], [0xaa; 5]);
        place.truncate(length);
        let header = Header::read(&place).unwrap();
        assert_eq!(header.length, length);
        if header.source.is_ipv4() {
            assert_eq!(checksum::finish(checksum::sum(&place[..20])), [0, 0]);
        }
        let covered = &place[header.header..];
        let pseudo = checksum::pseudo_header(
            header.source,
            header.destination,
            header.protocol,
            covered.len(),
        );
        assert_eq!(checksum::finish(pseudo + checksum::sum(covered)), [0, 0]);
        packets.push(place);
    }
    packets
}

#[test]
fn tcp_super_packet_becomes_segments_with_sequence_numbers_and_flags() {
    let all = PUSH | FIN | CWR | 0x10;
    let packets = packets(super_packet(false, true, 3500, 1448, all));
    let lengths: Vec<_> = packets.iter().map(Vec::len).collect();
    assert_eq!(lengths, [1500, 1500, 656]);
    let sequence = |packet: &[u8]| u32::from_be_bytes(packet[24..28].try_into().unwrap());
    let sequences: Vec<_> = packets.iter().map(|packet| sequence(packet)).collect();
    assert_eq!(sequences, [0xffff_ff00, 0x4a8, 0xa50], "they wrap");
    let ids: Vec<_> = packets.iter().map(|packet| packet[4..6].to_vec()).collect();
    assert_eq!(ids, [[0xff, 0xfe], [0xff, 0xff], [0, 0]]);
    let flags: Vec<_> = packets.iter().map(|packet| packet[33]).collect();
    assert_eq!(flags, [0x10 | CWR, 0x10, 0x10 | PUSH | FIN]);
    let payload: Vec<u8> = packets
        .iter()
        .flat_map(|packet| packet[52..].to_vec())
        .collect();
    let expected: Vec<u8> = (0..3500).map(|number| (number % 251) as u8).collect();
    assert_eq!(payload, expected);
}

#[test]
fn udp_super_packet_becomes_datagrams() {
    let packets = packets(super_packet(true, false, 2500, 1200, 0));
    let lengths: Vec<_> = packets
        .iter()
        .map(|packet| packet[44..46].to_vec())
        .collect();
    assert_eq!(
        lengths,
        [1208u16, 1208, 108].map(|length| length.to_be_bytes())
    );
}

#[test]
fn packet_without_checksum_gets_one() {
    let mut bytes = super_packet(false, true, 100, 0, 0x10);
    // no super-packet: the field has the sum of the pseudo header
    bytes[1] = GSO_NONE;
    let addresses = ([10, 1, 0, 1].into(), [10, 1, 1, 1].into());
    let pseudo = checksum::pseudo_header(addresses.0, addresses.1, ip::TCP, 132);
    bytes[VNET_HEADER + 36..VNET_HEADER + 38]
        .copy_from_slice(&checksum::fold(pseudo).to_ne_bytes());
    assert_eq!(packets(bytes).len(), 1);
    let one_segment = super_packet(false, true, 100, 1448, 0x10);
    assert_eq!(packets(one_segment).len(), 1);
}

#[test]
fn headers_that_contradict_the_packet_are_refused() {
    let good = super_packet(false, true, 3000, 1448, 0x10);
    assert!(TunPacket::read(&mut good.clone()).is_ok());
    for (what, at, value) in [
        ("kind", 1, 3),
        ("no segment", 4, 0),
        ("transport header inside of that of IP", 6, 10),
        ("length of the TCP header", VNET_HEADER + 32, 4 << 4),
        ("version", VNET_HEADER, 0x55),
    ] {
        let mut bad = good.clone();
        bad[at] = value;
        if what == "no segment" {
            bad[5] = 0;
        }
        assert!(TunPacket::read(&mut bad).is_err(), "{what}");
    }
    let mut checksum_of_the_ip_header = good.clone();
    checksum_of_the_ip_header[1] = GSO_NONE;
    checksum_of_the_ip_header[6..10].fill(0);
    assert!(TunPacket::read(&mut checksum_of_the_ip_header).is_err());
    assert!(TunPacket::read(&mut good[..20].to_vec()).is_err());
    assert!(TunPacket::read(&mut []).is_err());
}

proptest! {
    #[test]
    fn every_super_packet_is_split(
        v6: bool,
        tcp: bool,
        payload in 1usize..20_000,
        segment in 1u16..3000,
    ) {
        prop_assume!(payload / usize::from(segment) < 300);
        let packets = packets(super_packet(v6, tcp, payload, segment, 0x18));
        prop_assert_eq!(packets.len(), payload.div_ceil(usize::from(segment)));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        crate::fuzz::packets(&bytes);
    }
}
