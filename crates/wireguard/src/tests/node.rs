//! A device with the datagrams and packets that it has made.

use crate::{Device, DeviceConfig, Output, PeerConfig, PresharedKey, PrivateKey, Sent, Worker};
use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

/// What a worker has made.
#[derive(Default)]
pub(crate) struct Made {
    pub(crate) datagrams: VecDeque<(SocketAddr, u8, Vec<u8>)>,
    pub(crate) packets: Vec<Vec<u8>>,
    pub(crate) unreachable: usize,
    pub(crate) limit: Option<usize>,
}

impl Output for Made {
    fn datagram(&mut self, to: SocketAddr, ecn: u8, write: impl FnOnce(&mut [u8]) -> usize) {
        let mut datagram = vec![0; 2000];
        let length = write(&mut datagram);
        assert!(length > 0, "a datagram is made only where there is one");
        datagram.truncate(length);
        self.datagrams.push_back((to, ecn, datagram));
    }

    fn packet(&mut self, packet: &[u8]) {
        self.packets.push(packet.to_vec());
    }

    fn limit(&mut self, _: SocketAddr) -> Option<usize> {
        self.limit
    }
}

/// A host of the tests: number 1 has the pods 10.0.1.0/24 and fd00::1:0/112's host numbers.
pub(crate) struct Node {
    pub(crate) device: Arc<Device>,
    pub(crate) worker: Worker,
    pub(crate) made: Made,
    pub(crate) address: SocketAddr,
    pub(crate) now: Instant,
}

pub(crate) const MTU: usize = 1420;

pub(crate) fn key(number: u8) -> PrivateKey {
    PrivateKey::new([number; 32])
}

pub(crate) fn address(number: u8) -> SocketAddr {
    (Ipv4Addr::new(192, 0, 2, number), 51820).into()
}

/// The peer with this number, as the others configure it.
pub(crate) fn peer(number: u8) -> PeerConfig {
    PeerConfig {
        public_key: key(number).public(),
        preshared_key: None,
        endpoint: Some(address(number)),
        allowed_ips: vec![
            format!("10.0.{number}.0/24").parse().unwrap(),
            format!("fd00::{number:x}/128").parse().unwrap(),
        ],
        persistent_keepalive: 0,
    }
}

pub(crate) fn config(number: u8, peers: Vec<PeerConfig>) -> DeviceConfig {
    DeviceConfig {
        private_key: key(number),
        mtu: MTU,
        peers,
    }
}

pub(crate) fn with_secret(mut peer: PeerConfig, secret: u8) -> PeerConfig {
    peer.preshared_key = Some(PresharedKey([secret; 32]));
    peer
}

pub(crate) fn pod_packet(from: u8, to: u8, data: &[u8]) -> Vec<u8> {
    super::packets::ipv4([10, 0, from, 2], [10, 0, to, 2], data)
}

impl Node {
    pub(crate) fn new(number: u8, peers: Vec<PeerConfig>) -> Self {
        let now = Instant::now();
        let device = Device::new(config(number, peers), now).unwrap();
        Self {
            worker: Worker::new(device.clone(), 0, 1, now),
            device,
            made: Made::default(),
            address: address(number),
            now,
        }
    }

    pub(crate) fn send(&mut self, packet: &[u8]) {
        let sent = self.worker.packet(packet, self.now, &mut self.made);
        self.made.unreachable += usize::from(sent == Sent::Unreachable);
    }

    pub(crate) fn receive(&mut self, from: SocketAddr, datagram: &[u8]) {
        self.worker
            .datagram(from, 0, datagram, self.now, &mut self.made);
    }

    pub(crate) fn tick(&mut self) {
        self.worker.tick(self.now, &mut self.made);
    }

    pub(crate) fn advance(&mut self, time: Duration) {
        self.now += time;
    }

    pub(crate) fn take_packets(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.made.packets)
    }

    /// Whether a session with its first peer can be used.
    pub(crate) fn connected(&self) -> bool {
        self.device.peers()[0].latest_handshake.is_some()
    }
}

/// Carries every datagram to the node of its address until there are none; others are lost.
/// Returns how many it carried.
pub(crate) fn carry(nodes: &mut [&mut Node]) -> usize {
    let mut carried = 0;
    loop {
        let mut moved = Vec::new();
        for node in nodes.iter_mut() {
            let from = node.address;
            moved.extend(node.made.datagrams.drain(..).map(|each| (from, each)));
        }
        if moved.is_empty() {
            return carried;
        }
        for (from, (to, ecn, datagram)) in moved {
            if let Some(node) = nodes.iter_mut().find(|node| node.address == to) {
                carried += 1;
                let now = node.now;
                node.worker
                    .datagram(from, ecn, &datagram, now, &mut node.made);
            }
        }
    }
}

/// Two nodes that know each other and have spoken.
pub(crate) fn connected_pair() -> (Node, Node) {
    let (mut one, mut two) = (Node::new(1, vec![peer(2)]), Node::new(2, vec![peer(1)]));
    one.tick();
    carry(&mut [&mut one, &mut two]);
    assert!(one.connected() && two.connected());
    (one, two)
}
