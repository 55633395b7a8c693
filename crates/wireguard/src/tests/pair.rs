//! Two devices: handshakes, data, and what an attacker or a bad network does to them.

use super::{
    node::{Node, address, carry, connected_pair, peer, pod_packet, with_secret},
    packets,
};
use crate::Sent;
use std::net::SocketAddr;

#[test]
fn a_new_device_needs_one_round_trip_until_its_session_works() {
    let (mut one, mut two) = (Node::new(1, vec![peer(2)]), Node::new(2, vec![peer(1)]));
    one.tick();
    assert_eq!(one.made.datagrams.len(), 1);
    assert_eq!(
        carry(&mut [&mut one, &mut two]),
        3,
        "initiation, response, keepalive"
    );
    assert!(one.connected() && two.connected());
}

#[test]
fn packets_wait_for_the_handshake_and_keep_their_order() {
    let (mut one, mut two) = (Node::new(1, vec![peer(2)]), Node::new(2, vec![peer(1)]));
    let sent: Vec<_> = (0..5).map(|each| pod_packet(1, 2, &[each; 100])).collect();
    sent.iter().for_each(|packet| one.send(packet));
    assert_eq!(one.made.datagrams.len(), 1, "one initiation for all");
    carry(&mut [&mut one, &mut two]);
    assert_eq!(two.take_packets(), sent);
    assert_eq!(one.device.waiting_bytes(), 0);
}

#[test]
fn both_families_go_both_ways() {
    let (mut one, mut two) = connected_pair();
    let (v4, v6) = (pod_packet(1, 2, &[7; 1400]), packets::ipv6(1, 2, &[7; 999]));
    one.send(&v4);
    one.send(&v6);
    let (back4, back6) = (pod_packet(2, 1, b""), packets::ipv6(2, 1, b"x"));
    two.send(&back4);
    two.send(&back6);
    carry(&mut [&mut one, &mut two]);
    assert_eq!(two.take_packets(), [v4, v6]);
    assert_eq!(one.take_packets(), [back4, back6]);
    let status = &one.device.peers()[0];
    assert!(status.sent > 2400 && status.received > 0, "{status:?}");
}

#[test]
fn both_may_begin_at_once() {
    let (mut one, mut two) = (Node::new(1, vec![peer(2)]), Node::new(2, vec![peer(1)]));
    one.tick();
    two.tick();
    carry(&mut [&mut one, &mut two]);
    one.send(&pod_packet(1, 2, b"there"));
    two.send(&pod_packet(2, 1, b"back"));
    carry(&mut [&mut one, &mut two]);
    assert_eq!((one.take_packets().len(), two.take_packets().len()), (1, 1));
}

#[test]
fn datagrams_are_padded_up_to_the_mtu() {
    let (mut one, _two) = connected_pair();
    for (length, padded) in [(20, 32), (33, 48), (1410, 1420), (1420, 1420)] {
        one.send(&pod_packet(1, 2, &vec![0; length - 20]));
        let (_, _, datagram) = one.made.datagrams.pop_back().unwrap();
        assert_eq!(datagram.len(), 32 + padded, "{length}");
    }
}

#[test]
fn the_path_limits_packets_and_padding() {
    let (mut one, _two) = connected_pair();
    one.made.limit = Some(1332);
    let now = one.now;
    let packet = |length: usize| pod_packet(1, 2, &vec![0; length - 20]);
    let sent = one.worker.packet(&packet(1301), now, &mut one.made);
    assert_eq!(sent, Sent::TooLong(1300));
    assert!(one.made.datagrams.is_empty());
    one.send(&packet(1299));
    let (_, _, datagram) = one.made.datagrams.pop_back().unwrap();
    assert_eq!(datagram.len(), 1332);
}

#[test]
fn a_repeated_datagram_arrives_once() {
    let (mut one, mut two) = connected_pair();
    one.send(&pod_packet(1, 2, b"once"));
    let (_, _, datagram) = one.made.datagrams.pop_back().unwrap();
    for _ in 0..3 {
        two.receive(address(1), &datagram);
    }
    assert_eq!(two.take_packets().len(), 1);
}

#[test]
fn reordered_datagrams_arrive_within_the_window() {
    let (mut one, mut two) = connected_pair();
    let packet = |number: u32| pod_packet(1, 2, &number.to_be_bytes());
    (0..1000).for_each(|number| one.send(&packet(number)));
    let datagrams: Vec<_> = one.made.datagrams.drain(..).collect();
    for (_, _, datagram) in datagrams.iter().rev() {
        two.receive(address(1), datagram);
    }
    let expected: Vec<_> = (0..1000).rev().map(packet).collect();
    assert_eq!(two.take_packets(), expected);
}

#[test]
fn changed_and_foreign_datagrams_are_dropped() {
    let (mut one, mut two) = connected_pair();
    one.send(&pod_packet(1, 2, b"data"));
    let (_, _, datagram) = one.made.datagrams.pop_back().unwrap();
    for position in 0..datagram.len() {
        let mut changed = datagram.clone();
        changed[position] ^= 0x40;
        two.receive(address(9), &changed);
        two.receive(address(9), &datagram[..position]);
    }
    assert!(two.take_packets().is_empty());
    assert_eq!(
        two.device.peers()[0].endpoint,
        Some(address(1)),
        "no roaming without a key"
    );
    two.receive(address(1), &datagram);
    assert_eq!(two.take_packets().len(), 1);
}

#[test]
fn a_source_of_another_peer_is_dropped() {
    let (mut one, mut two) = (
        Node::new(1, vec![peer(2)]),
        Node::new(2, vec![peer(1), peer(3)]),
    );
    one.send(&pod_packet(1, 2, b"true"));
    one.send(&pod_packet(3, 2, b"false"));
    one.send(&packets::ipv4([172, 16, 0, 1], [10, 0, 2, 2], b"unknown"));
    carry(&mut [&mut one, &mut two]);
    assert_eq!(two.take_packets(), [pod_packet(1, 2, b"true")]);
}

#[test]
fn the_sender_learns_that_nobody_has_the_address() {
    let mut silent = peer(3);
    silent.endpoint = None;
    let mut one = Node::new(1, vec![peer(2), silent]);
    one.send(&pod_packet(1, 9, b"no peer"));
    one.send(&pod_packet(1, 3, b"no endpoint"));
    assert_eq!(one.made.unreachable, 2);
    assert!(one.made.datagrams.is_empty());
    one.send(b"neither family");
    assert_eq!(one.made.unreachable, 2);
}

#[test]
fn answers_go_where_the_last_packet_came_from() {
    let (mut one, mut two) = connected_pair();
    let elsewhere: SocketAddr = "198.51.100.7:4000".parse().unwrap();
    one.send(&pod_packet(1, 2, b"moved"));
    let (_, _, datagram) = one.made.datagrams.pop_back().unwrap();
    // a socket of both families tells IPv4 senders so
    two.receive("[::ffff:198.51.100.7]:4000".parse().unwrap(), &datagram);
    two.send(&pod_packet(2, 1, b"answer"));
    let (to, _, answer) = two.made.datagrams.pop_back().unwrap();
    assert_eq!(to, elsewhere);
    one.receive(address(2), &answer);
    assert_eq!(one.take_packets().len(), 1);
}

#[test]
fn a_secret_of_one_side_only_lets_nothing_through() {
    let mut one = Node::new(1, vec![with_secret(peer(2), 1)]);
    let mut two = Node::new(2, vec![with_secret(peer(1), 2)]);
    one.send(&pod_packet(1, 2, b"data"));
    two.send(&pod_packet(2, 1, b"data"));
    carry(&mut [&mut one, &mut two]);
    assert!(one.take_packets().is_empty() && two.take_packets().is_empty());
    assert!(!one.connected() && !two.connected());
    let mut one = Node::new(1, vec![with_secret(peer(2), 2)]);
    one.send(&pod_packet(1, 2, b"data"));
    carry(&mut [&mut one, &mut two]);
    assert_eq!(two.take_packets().len(), 1);
}

#[test]
fn a_device_that_starts_again_is_heard_after_a_round_trip() {
    let (one, mut two) = connected_pair();
    drop(one);
    two.send(&pod_packet(2, 1, b"lost"));
    let mut one = Node::new(1, vec![peer(2)]);
    carry(&mut [&mut one, &mut two]);
    assert!(
        one.take_packets().is_empty(),
        "a session of the predecessor"
    );
    one.tick();
    carry(&mut [&mut one, &mut two]);
    two.send(&pod_packet(2, 1, b"heard"));
    carry(&mut [&mut one, &mut two]);
    assert_eq!(one.take_packets(), [pod_packet(2, 1, b"heard")]);
}

#[test]
fn congestion_goes_through_the_tunnel() {
    let (mut one, mut two) = connected_pair();
    let mut packet = pod_packet(1, 2, b"data");
    packet[1] = 0b10;
    packets::mend_checksum(&mut packet);
    one.send(&packet);
    let (_, ecn, datagram) = one.made.datagrams.pop_back().unwrap();
    assert_eq!(ecn, 0b10, "the path may mark it");
    two.worker
        .datagram(address(1), 0b11, &datagram, two.now, &mut two.made);
    assert_eq!(two.take_packets()[0][1] & 0b11, 0b11);
}

#[test]
fn many_handshakes_of_one_second_need_a_cookie() {
    let mut two = Node::new(2, vec![peer(1)]);
    // 148 bytes with a right first authentication code: anybody who knows the public key can
    let mut one = Node::new(1, vec![peer(2)]);
    one.tick();
    let (_, _, initiation) = one.made.datagrams.pop_back().unwrap();
    for _ in 0..1000 {
        two.receive(address(1), &initiation);
    }
    two.made.datagrams.clear();
    two.receive(address(1), &initiation);
    let (to, _, reply) = two.made.datagrams.pop_back().unwrap();
    assert_eq!((to, reply.len(), reply[0]), (address(1), 64, 3), "a cookie");
    one.receive(address(2), &reply);
}
