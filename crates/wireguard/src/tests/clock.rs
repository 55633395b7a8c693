//! What happens minutes later. `cargo test -p wireguard --features mock-clock`.

use super::node::{Node, carry, connected_pair, peer, pod_packet};
use mock_instant::MockClock;
use std::time::Duration;

/// Advances the clock of the tunnels and of the nodes, with the ticks that a data path makes.
fn pass(time: Duration, nodes: &mut [&mut Node]) {
    let step = Duration::from_millis(250);
    let mut passed = Duration::ZERO;
    while passed < time {
        MockClock::advance(step);
        passed += step;
        for node in nodes.iter_mut() {
            node.advance(step);
            node.tick();
        }
        carry(nodes);
    }
}

fn handshake_age(node: &Node) -> Option<Duration> {
    node.device.peers()[0].latest_handshake
}

#[test]
fn a_session_in_use_is_renewed_without_loss() {
    let (mut one, mut two) = connected_pair();
    for second in 0..400u32 {
        pass(Duration::from_secs(1), &mut [&mut one, &mut two]);
        one.send(&pod_packet(1, 2, &second.to_be_bytes()));
        two.send(&pod_packet(2, 1, &second.to_be_bytes()));
        carry(&mut [&mut one, &mut two]);
        assert_eq!(one.take_packets().len(), 1, "{second}");
        assert_eq!(two.take_packets().len(), 1, "{second}");
        let age = handshake_age(&one).unwrap();
        assert!(age < Duration::from_secs(130), "{age:?}");
    }
}

#[test]
fn an_idle_session_ends_and_the_next_packet_begins_another() {
    let (mut one, mut two) = connected_pair();
    pass(Duration::from_secs(600), &mut [&mut one, &mut two]);
    assert!(!one.connected() && !two.connected());
    one.send(&pod_packet(1, 2, b"data"));
    carry(&mut [&mut one, &mut two]);
    assert_eq!(two.take_packets().len(), 1);
}

#[test]
fn a_lost_handshake_is_sent_again_for_90_seconds() {
    let mut one = Node::new(1, vec![peer(2)]);
    one.send(&pod_packet(1, 2, b"data"));
    let mut sent = one.made.datagrams.drain(..).count();
    for _ in 0..120 * 4 {
        MockClock::advance(Duration::from_millis(250));
        one.advance(Duration::from_millis(250));
        one.tick();
        sent += one.made.datagrams.drain(..).count();
    }
    assert!((17..=20).contains(&sent), "{sent}");
    assert_eq!(one.device.waiting_bytes(), 0, "what waited is given up");
    one.send(&pod_packet(1, 2, b"data"));
    assert_eq!(one.made.datagrams.len(), 1, "a packet begins anew");
}

#[test]
fn a_keepalive_keeps_a_session_and_looks_for_a_lost_peer() {
    let mut with_keepalive = peer(2);
    with_keepalive.persistent_keepalive = 25;
    let (mut one, mut two) = (
        Node::new(1, vec![with_keepalive]),
        Node::new(2, vec![peer(1)]),
    );
    one.tick();
    pass(Duration::from_secs(700), &mut [&mut one, &mut two]);
    assert!(one.connected() && two.connected());
    // the peer is away for ten minutes, and is found without a packet of either
    pass(Duration::from_secs(600), &mut [&mut one]);
    assert!(!one.connected());
    let mut two = Node::new(2, vec![peer(1)]);
    pass(Duration::from_secs(15), &mut [&mut one, &mut two]);
    assert!(one.connected());
}

#[test]
fn a_silent_receiver_answers_with_an_empty_packet() {
    let (mut one, mut two) = connected_pair();
    pass(Duration::from_secs(1), &mut [&mut one, &mut two]);
    one.send(&pod_packet(1, 2, b"data"));
    carry(&mut [&mut one, &mut two]);
    let before = one.device.peers()[0].received;
    pass(Duration::from_secs(12), &mut [&mut one, &mut two]);
    assert_eq!(one.device.peers()[0].received, before + 32);
}
