//! Changes of the configuration while packets go.

use super::node::{Node, address, carry, config, connected_pair, peer, pod_packet, with_secret};
use crate::{Device, TooManyPeers};
use std::time::Instant;

#[test]
fn other_peers_notice_nothing() {
    let (mut one, mut two) = connected_pair();
    let now = one.now;
    one.device
        .configure(config(1, vec![peer(3), peer(2), peer(4)]), now)
        .unwrap();
    one.tick();
    assert!(one.made.datagrams.is_empty(), "no handshake");
    one.send(&pod_packet(1, 2, b"data"));
    carry(&mut [&mut one, &mut two]);
    assert_eq!(two.take_packets().len(), 1);
    one.send(&pod_packet(1, 3, b"new"));
    let (to, _, initiation) = one.made.datagrams.pop_back().unwrap();
    assert_eq!((to, initiation[0]), (address(3), 1));
}

#[test]
fn a_removed_peer_is_deaf_and_dumb() {
    let (mut one, mut two) = connected_pair();
    let now = one.now;
    one.device.configure(config(1, vec![]), now).unwrap();
    one.send(&pod_packet(1, 2, b"data"));
    two.send(&pod_packet(2, 1, b"data"));
    carry(&mut [&mut one, &mut two]);
    assert!(one.take_packets().is_empty() && two.take_packets().is_empty());
    assert_eq!(one.made.unreachable, 1);
}

#[test]
fn the_packets_that_wait_for_a_removed_peer_go() {
    let mut one = Node::new(1, vec![peer(2)]);
    one.send(&pod_packet(1, 2, b"data"));
    assert!(one.device.waiting_bytes() > 0);
    let now = one.now;
    one.device.configure(config(1, vec![]), now).unwrap();
    one.tick();
    assert_eq!(one.device.waiting_bytes(), 0);
}

#[test]
fn networks_move_to_the_peer_that_has_them_now() {
    let (mut one, mut two) = connected_pair();
    let mut moved = peer(3);
    moved.allowed_ips.extend(peer(2).allowed_ips);
    let mut emptied = peer(2);
    emptied.allowed_ips.clear();
    let now = one.now;
    one.device
        .configure(config(1, vec![moved, emptied]), now)
        .unwrap();
    two.send(&pod_packet(2, 1, b"data"));
    carry(&mut [&mut one, &mut two]);
    assert!(one.take_packets().is_empty());
    one.send(&pod_packet(1, 2, b"data"));
    assert_eq!(one.made.datagrams.pop_back().unwrap().0, address(3));
}

#[test]
fn a_changed_endpoint_counts_and_an_unchanged_one_leaves_a_roamed_peer() {
    let (mut one, mut two) = connected_pair();
    let roamed = "203.0.113.9:999".parse().unwrap();
    two.address = roamed;
    two.send(&pod_packet(2, 1, b"data"));
    carry(&mut [&mut one, &mut two]);
    assert_eq!(one.device.peers()[0].endpoint, Some(roamed));
    let now = one.now;
    one.device.configure(config(1, vec![peer(2)]), now).unwrap();
    assert_eq!(one.device.peers()[0].endpoint, Some(roamed));
    let mut elsewhere = peer(2);
    elsewhere.endpoint = Some(address(7));
    one.device
        .configure(config(1, vec![elsewhere]), now)
        .unwrap();
    assert_eq!(one.device.peers()[0].endpoint, Some(address(7)));
    assert!(one.connected(), "the session stays");
}

#[test]
fn a_changed_secret_begins_a_handshake_at_once() {
    let (mut one, mut two) = connected_pair();
    let now = one.now;
    two.device
        .configure(config(2, vec![with_secret(peer(1), 5)]), now)
        .unwrap();
    one.device
        .configure(config(1, vec![with_secret(peer(2), 5)]), now)
        .unwrap();
    assert!(!one.connected());
    one.tick();
    carry(&mut [&mut one, &mut two]);
    assert!(one.connected() && two.connected());
}

#[test]
fn a_changed_private_key_begins_handshakes_with_all() {
    let (mut one, _) = connected_pair();
    let mut two = Node::new(2, vec![peer(5)]);
    let now = one.now;
    one.device.configure(config(5, vec![peer(2)]), now).unwrap();
    one.tick();
    carry(&mut [&mut one, &mut two]);
    assert!(one.connected() && two.connected());
}

#[test]
fn strange_entries_do_no_harm() {
    // the device's own key, and one key twice
    let one = Node::new(1, vec![peer(1), peer(2), with_secret(peer(2), 3)]);
    let peers = one.device.peers();
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0].public_key, peer(2).public_key);
    let many = vec![peer(2); (1 << 20) + 1];
    let refused = Device::new(config(1, many), Instant::now());
    assert!(matches!(refused, Err(TooManyPeers(_))));
}

#[test]
fn nothing_prints_a_secret() {
    let secret = with_secret(peer(2), 0xab);
    let config = config(0xcd, vec![secret]);
    let text = format!("{config:?}{config:#?}");
    assert!(text.contains("hidden"));
    for shown in ["171, 171", "205, 205", "abab", "cdcd"] {
        assert!(!text.contains(shown), "{text}");
    }
}
