//! Thousands of peers.

use super::node::{Node, key, peer};
use crate::{PeerConfig, PublicKey};
use std::time::Duration;

const PEERS: u32 = 1000;

fn peers() -> Vec<PeerConfig> {
    let each = |number: u32| {
        let mut config = peer(1);
        let mut bytes = key(7).public().0;
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        config.public_key = PublicKey(bytes);
        config.endpoint = Some(([127, 0, 0, 1], 1000).into());
        let [_, _, high, low] = number.to_be_bytes();
        config.allowed_ips = vec![format!("10.{high}.{low}.0/24").parse().unwrap()];
        config
    };
    (0..PEERS).map(each).collect()
}

#[test]
fn handshakes_begin_at_a_bounded_rate() {
    let mut node = Node::new(9, peers());
    let begun = |node: &mut Node| {
        node.tick();
        let count = node.made.datagrams.len();
        node.made.datagrams.clear();
        count
    };
    let first = begun(&mut node);
    assert!(first <= 41, "{first}");
    node.advance(Duration::from_millis(50));
    let next = begun(&mut node);
    assert!((19..=21).contains(&next), "{next}");
    for _ in 0..60 {
        node.advance(Duration::from_millis(50));
        begun(&mut node);
    }
    assert_eq!(begun(&mut node), 0, "all have begun");
}

/// Memory is what the peers' protocol states take, whatever they send.
#[test]
fn a_peer_takes_a_few_kibibytes() {
    let size = size_of::<crate::peer::Peer>();
    println!("a peer: {size} bytes");
    assert!(size < 16 << 10, "{size}");
}
