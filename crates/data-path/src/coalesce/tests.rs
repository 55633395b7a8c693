use super::*;

const ALL: Offload = Offload {
    tcp: true,
    udp: true,
};

struct Flow {
    v6: bool,
    tcp: bool,
    port: u16,
}

const TCP: Flow = Flow {
    v6: false,
    tcp: true,
    port: 80,
};

impl Flow {
    /// A packet with that payload; `at` is the sequence number of its first byte.
    fn packet(&self, id: u16, at: u32, payload: &[u8], flags: u8) -> Vec<u8> {
        let header = if self.tcp { 20 } else { 8 };
        let protocol = if self.tcp { ip::TCP } else { ip::UDP };
        let length = header + payload.len();
        let mut packet = if self.v6 {
            let (from, to) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
            ip::v6_header(from, to, protocol, length).to_vec()
        } else {
            let (from, to) = ([10, 1, 0, 1].into(), [10, 1, 1, 1].into());
            let mut packet = ip::v4_header(from, to, protocol, length).to_vec();
            packet[4..6].copy_from_slice(&id.to_be_bytes());
            ip::write_v4_checksum(&mut packet, 20);
            packet
        };
        let transport = packet.len();
        packet.resize(transport + header, 0);
        packet[transport..transport + 2].copy_from_slice(&self.port.to_be_bytes());
        if self.tcp {
            packet[transport + 4..transport + 8].copy_from_slice(&at.to_be_bytes());
            packet[transport + 12] = 5 << 4;
            packet[transport + 13] = flags;
        } else {
            packet[transport + 4..transport + 6].copy_from_slice(&(length as u16).to_be_bytes());
        }
        packet.extend_from_slice(payload);
        let read = Header::read(&packet).unwrap();
        let pseudo = checksum::pseudo_header(read.source, read.destination, protocol, length);
        let sum = checksum::finish(pseudo + checksum::sum(&packet[transport..]));
        let field = transport + if self.tcp { 16 } else { 6 };
        packet[field..field + 2].copy_from_slice(&sum);
        packet
    }
}

/// What is written: the payload of each segment, and the packet.
fn joined(offload: Offload, packets: &[Vec<u8>]) -> Vec<(u16, Vec<u8>)> {
    let mut written = Vec::new();
    let mut coalescer = Coalescer::new(offload);
    for packet in packets {
        coalescer.push(packet, |header, packet| {
            written.push((header, packet.to_vec()));
        });
    }
    coalescer.flush(|header, packet| written.push((header, packet.to_vec())));
    written
        .into_iter()
        .map(|(header, packet)| (header.segment, packet))
        .collect()
}

/// The packets as they are.
fn apart(packets: &[Vec<u8>]) -> Vec<(u16, Vec<u8>)> {
    packets.iter().map(|packet| (0, packet.clone())).collect()
}

#[test]
fn packets_of_a_flow_become_one_that_splits_into_the_same_ones() {
    for v6 in [false, true] {
        let flow = Flow { v6, ..TCP };
        let packets = [
            flow.packet(7, 1000, &[1; 100], ACK),
            flow.packet(8, 1100, &[2; 100], ACK),
            flow.packet(9, 1200, &[3; 60], ACK | PUSH),
        ];
        let mut written = Vec::new();
        let mut coalescer = Coalescer::new(ALL);
        for packet in &packets {
            coalescer.push(packet, |_, _| panic!("it is held"));
        }
        coalescer.flush(|header, packet| {
            written = [header.to_bytes().to_vec(), packet.to_vec()].concat();
        });
        let read = crate::TunPacket::read(&mut written).unwrap();
        let split: Vec<_> = read
            .segments()
            .map(|segment| {
                let mut place = vec![0; segment.len()];
                segment.write(&mut place);
                place
            })
            .collect();
        assert_eq!(split, packets, "IPv6: {v6}");
    }
}

#[test]
fn datagrams_of_a_flow_are_joined_where_the_kernel_splits_them() {
    let flow = Flow { tcp: false, ..TCP };
    let packets = [
        flow.packet(1, 0, &[1; 90], 0),
        flow.packet(2, 0, &[2; 90], 0),
    ];
    let written = joined(ALL, &packets);
    assert_eq!((written.len(), written[0].0), (1, 90));
    let without = Offload { udp: false, ..ALL };
    assert_eq!(joined(without, &packets), apart(&packets));
}

#[test]
fn packets_that_do_not_follow_each_other_stay_apart() {
    let first = TCP.packet(7, 1000, &[1; 100], ACK);
    let other_port = Flow { port: 81, ..TCP };
    let mut bad_sum = TCP.packet(8, 1100, &[2; 100], ACK);
    bad_sum[60] ^= 1;
    let mut bad_ip_sum = TCP.packet(8, 1100, &[2; 100], ACK);
    bad_ip_sum[10] ^= 1;
    let mut other_ttl = TCP.packet(8, 1100, &[2; 100], ACK);
    ip::decrement_ttl(&mut other_ttl);
    for (what, second) in [
        ("a hole", TCP.packet(8, 1101, &[2; 100], ACK)),
        ("longer", TCP.packet(8, 1100, &[2; 101], ACK)),
        ("another flow", other_port.packet(8, 1100, &[2; 100], ACK)),
        ("another id", TCP.packet(9, 1100, &[2; 100], ACK)),
        ("FIN", TCP.packet(8, 1100, &[2; 100], ACK | 1)),
        ("no data", TCP.packet(8, 1100, &[], ACK)),
        ("a wrong checksum", bad_sum),
        ("a wrong checksum of the header", bad_ip_sum),
        ("another TTL", other_ttl),
    ] {
        let packets = [first.clone(), second];
        assert_eq!(joined(ALL, &packets), apart(&packets), "{what}");
    }
}

#[test]
fn nothing_follows_a_shorter_packet_or_one_that_is_pushed() {
    for (payload, flags) in [(60, ACK), (100, ACK | PUSH)] {
        let packets = [
            TCP.packet(7, 1000, &[1; 100], ACK),
            TCP.packet(8, 1100, &vec![2; payload], flags),
            TCP.packet(9, 1100 + payload as u32, &[3; 60], ACK),
        ];
        let written = joined(ALL, &packets);
        assert_eq!(written.len(), 2, "{payload}");
        assert_eq!(written[1], (0, packets[2].clone()));
    }
    let mut wrong_first = TCP.packet(7, 1000, &[1; 100], ACK);
    wrong_first[60] ^= 1;
    let packets = [wrong_first, TCP.packet(8, 1100, &[2; 100], ACK)];
    assert_eq!(joined(ALL, &packets), apart(&packets));
}

#[test]
fn super_packet_has_at_most_65535_bytes() {
    let packets: Vec<_> = (0..60u16)
        .map(|n| TCP.packet(n, u32::from(n) * 1400, &[n as u8; 1400], ACK))
        .collect();
    let written = joined(ALL, &packets);
    let lengths: Vec<_> = written.iter().map(|(_, packet)| packet.len()).collect();
    assert_eq!(lengths, [40 + 46 * 1400, 40 + 14 * 1400]);
}
