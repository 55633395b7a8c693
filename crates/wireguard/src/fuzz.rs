//! The packet path with any datagrams, any packets, in any order. The target lies in `tests/fuzz`.

use crate::{Device, DeviceConfig, Output, PeerConfig, PresharedKey, PrivateKey, Sent, Worker};
use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

/// Datagrams under way at most: more are lost, as a network does.
const UNDER_WAY: usize = 64;

/// What a device has made, and whether every packet was one that its peer may send.
#[derive(Default)]
struct Made {
    datagrams: VecDeque<Vec<u8>>,
}

impl Output for Made {
    fn datagram(&mut self, _: SocketAddr, ecn: u8, write: impl FnOnce(&mut [u8]) -> usize) {
        assert!(ecn < 4, "not bits of ECN: {ecn}");
        let mut datagram = vec![0; 512];
        let length = write(&mut datagram);
        assert!(length >= 32, "shorter than any message");
        datagram.truncate(length);
        if self.datagrams.len() < UNDER_WAY {
            self.datagrams.push_back(datagram);
        }
    }

    fn packet(&mut self, packet: &[u8]) {
        let version = packet.first().map(|byte| byte >> 4);
        assert!(
            matches!(version, Some(4 | 6)),
            "not an IP packet: {packet:?}"
        );
    }

    fn limit(&mut self, _: SocketAddr) -> Option<usize> {
        None
    }
}

struct Side {
    device: Arc<Device>,
    worker: Worker,
    made: Made,
}

/// The key of side 0 or 1, and the networks that it has.
fn config(number: u8, secret: bool, now: Instant) -> Option<Side> {
    let other = 1 - number;
    let peer = PeerConfig {
        public_key: PrivateKey::new([other + 1; 32]).public(),
        preshared_key: secret.then_some(PresharedKey([3; 32])),
        endpoint: Some((Ipv4Addr::LOCALHOST, 1).into()),
        allowed_ips: vec![
            format!("10.{other}.0.0/16").parse().ok()?,
            format!("fd00:{other}::/32").parse().ok()?,
        ],
        persistent_keepalive: 1,
    };
    let config = DeviceConfig {
        private_key: PrivateKey::new([number + 1; 32]),
        mtu: 1420,
        peers: vec![peer],
    };
    let device = Device::new(config, now).ok()?;
    Some(Side {
        worker: Worker::new(device.clone(), 0, 1, now),
        device,
        made: Made::default(),
    })
}

/// Reads the input as steps of two connected devices: a byte says what happens and to which, a
/// second one how many of the following bytes belong to it.
///
/// # Panics
///
/// Panics if a device makes what no peer or host may get, or keeps more than its bound.
pub fn packets(mut input: &[u8]) {
    let mut now = Instant::now();
    let (Some(one), Some(two)) = (config(0, true, now), config(1, true, now)) else {
        return;
    };
    let mut sides = [one, two];
    let from = |last: u8| SocketAddr::new(IpAddr::from([192, 0, 2, last]), 51820);
    for _ in 0..200 {
        let [step, length, rest @ ..] = input else {
            return;
        };
        let (bytes, rest) = rest.split_at(rest.len().min((*length).into()));
        input = rest;
        let (this, other) = match step & 1 {
            0 => (0, 1),
            _ => (1, 0),
        };
        let mut made = std::mem::take(&mut sides[this].made);
        let worker = &mut sides[this].worker;
        match (step >> 1) % 6 {
            0 => worker.datagram(from(*step), step >> 6, bytes, now, &mut made),
            1 => {
                let sent = worker.packet(bytes, now, &mut made);
                assert!(!matches!(sent, Sent::TooLong(_)), "no path has a limit");
            }
            2 => {
                now += Duration::from_millis(u64::from(*length) * 8);
                assert!(worker.tick(now, &mut made) > now, "time goes on");
            }
            // what the other one has sent arrives, in order, or the newest first, or changed
            kind => {
                let sent = &mut sides[other].made.datagrams;
                let arrived = match kind {
                    4 => sent.pop_back(),
                    _ => sent.pop_front(),
                };
                let Some(mut datagram) = arrived else {
                    continue;
                };
                if kind == 5 {
                    for (target, change) in datagram.iter_mut().rev().zip(bytes) {
                        *target ^= change;
                    }
                }
                let worker = &mut sides[this].worker;
                worker.datagram(from(*step), step >> 6, &datagram, now, &mut made);
            }
        }
        sides[this].made = made;
        let waiting = sides[this].device.waiting_bytes();
        assert!(waiting <= 128 * 65_535, "{waiting} bytes wait");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_script_connects_the_devices() {
        // both tick, and what they send arrives
        let mut script = vec![4, 0, 5, 0];
        for _ in 0..4 {
            script.extend([7, 0, 6, 0]);
        }
        super::packets(&script);
    }
}
