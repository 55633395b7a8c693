//! Packets that wait for a handshake.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// Packets that wait for one peer; the oldest goes when one too many comes.
/// Source: `MAX_STAGED_PACKETS` of drivers/net/wireguard/messages.h.
const PER_PEER: usize = 128;
/// Bytes that wait for all peers of a device together.
const PER_DEVICE: usize = 8 << 20;

/// The waiting packets of one peer. Their bytes count in the device's `total`.
#[derive(Debug)]
pub(crate) struct Waiting {
    packets: VecDeque<Box<[u8]>>,
    total: Arc<AtomicUsize>,
}

impl Waiting {
    pub(crate) fn new(total: Arc<AtomicUsize>) -> Self {
        Self {
            packets: VecDeque::new(),
            total,
        }
    }

    /// Adds a packet. Drops the peer's oldest where it has too many, and the packet where the
    /// device has no room.
    pub(crate) fn push(&mut self, packet: &[u8]) {
        if self.packets.len() >= PER_PEER {
            drop(self.pop());
        }
        let before = self.total.fetch_add(packet.len(), Relaxed);
        if before + packet.len() <= PER_DEVICE {
            self.packets.push_back(packet.into());
        } else {
            self.total.fetch_sub(packet.len(), Relaxed);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Box<[u8]>> {
        let packet = self.packets.pop_front()?;
        self.total.fetch_sub(packet.len(), Relaxed);
        Some(packet)
    }

    pub(crate) fn clear(&mut self) {
        while self.pop().is_some() {}
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_packet_of_a_peer_makes_room() {
        let total = Arc::new(AtomicUsize::new(0));
        let mut waiting = Waiting::new(total.clone());
        for number in 0..=PER_PEER {
            waiting.push(&number.to_be_bytes());
        }
        assert_eq!(total.load(Relaxed), PER_PEER * size_of::<usize>());
        let first = waiting.pop().unwrap();
        assert_eq!(*first, 1usize.to_be_bytes());
        drop(waiting);
        assert_eq!(total.load(Relaxed), 0);
    }

    #[test]
    fn the_packets_of_all_peers_are_bounded() {
        let total = Arc::new(AtomicUsize::new(0));
        let mut peers: Vec<_> = (0..3).map(|_| Waiting::new(total.clone())).collect();
        for _ in 0..PER_PEER {
            for peer in &mut peers {
                peer.push(&[0; 65_535]);
            }
        }
        assert!(total.load(Relaxed) <= PER_DEVICE);
    }
}
