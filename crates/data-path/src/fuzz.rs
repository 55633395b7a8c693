//! Entry points of the fuzz targets in tests/fuzz. No program calls them.

use crate::{TunPacket, coalesce::Coalescer, ip::Header, udp, vnet::VNET_HEADER};
use linux_net::tun::Offload;

/// What a socket receives, and what a device gives: a super-packet is split, its packets are joined
/// again, and the result is the packet that it was.
pub fn packets(bytes: &[u8]) {
    udp::fuzz(bytes);
    let mut from_device = bytes.to_vec();
    let Ok(packet) = TunPacket::read(&mut from_device) else {
        return;
    };
    let whole = packet.bytes().to_vec();
    let mut coalescer = Coalescer::new(Offload {
        tcp: true,
        udp: true,
    });
    let mut place = vec![0; whole.len()];
    let mut written = Vec::new();
    let mut payloads = 0;
    for segment in packet.segments() {
        let length = segment.write(&mut place);
        assert!(length <= packet.longest());
        payloads += length;
        assert!(Header::read(&place[..length]).is_ok_and(|header| header.length == length));
        coalescer.push(&place[..length], |header, packet| {
            written.push((header, packet.to_vec()));
        });
    }
    coalescer.flush(|header, packet| written.push((header, packet.to_vec())));
    assert!(payloads >= whole.len());
    for (header, packet) in written {
        let mut again = header.to_bytes().to_vec();
        assert_eq!(again.len(), VNET_HEADER);
        again.extend_from_slice(&packet);
        let read = TunPacket::read(&mut again).map(|packet| packet.segments().count());
        assert!(read.is_ok(), "what is written can be read");
    }
}
