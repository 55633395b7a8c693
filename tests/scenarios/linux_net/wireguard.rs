//! WireGuard devices: what is set is what `wg` shows and what is read again.

use ipnetwork::IpNetwork;
use linux_net::{
    Netlink, link,
    wireguard::{Device, PeerChange, PresharedKey, PrivateKey, PublicKey, PutPeer, Wireguard},
};
use std::{net::Ipv4Addr, time::Instant};
use tests::{Host, kernel::without_wireguard, scenario};

const MANY: u32 = 1_000;

/// A host with the device `wg0`; its index and sockets inside.
fn with_device() -> (Host, Wireguard, u32) {
    let host = Host::new("a");
    let (socket, index) = host.run(|| {
        let mut netlink = Netlink::open().expect("netlink");
        let create = link::create_wireguard("wg0", Some(1420));
        netlink.request(&create).expect("device");
        let device = netlink.link_by_name("wg0").expect("link").expect("wg0");
        (Wireguard::open().expect("wireguard"), device.index)
    });
    (host, socket, index)
}

fn key(number: u32) -> PublicKey {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    PublicKey(bytes)
}

fn nets(first: u32, count: u32) -> Vec<IpNetwork> {
    let net = |number| {
        let ip = Ipv4Addr::from(0x0a00_0000 + (first + number) * 256);
        IpNetwork::new(ip.into(), 24).expect("network")
    };
    (0..count).map(net).collect()
}

fn put(number: u32, allowed_ips: Vec<IpNetwork>) -> PutPeer {
    PutPeer {
        public_key: key(number),
        preshared_key: Some(PresharedKey::new([9; 32])),
        endpoint: Some(([172, 31, 0, 2], 51820).into()),
        keepalive: 25,
        allowed_ips,
        replace_allowed_ips: false,
    }
}

#[track_caller]
fn change(socket: &mut Wireguard, index: u32, changes: &[PeerChange]) {
    let answers = socket.change_peers(index, changes);
    assert_eq!(answers.len(), changes.len());
    for answer in answers {
        answer.expect("a change");
    }
}

fn sorted(mut device: Device) -> Device {
    device.peers.sort_by_key(|peer| peer.public_key);
    for peer in &mut device.peers {
        peer.allowed_ips.sort();
    }
    device
}

#[scenario(unless = without_wireguard)]
fn wireguard_device_has_what_was_set() {
    let (host, mut socket, index) = with_device();
    let private = PrivateKey::new([0x48; 32]);
    socket
        .set_device(index, Some(&private), Some(4000))
        .expect("key and port");
    let mut peer = put(1, nets(0, 2));
    peer.allowed_ips.push("fd00:1::/64".parse().expect("net"));
    peer.endpoint = Some("[fd31::2]:51821".parse().expect("address"));
    change(&mut socket, index, &[PeerChange::Put(peer.clone())]);
    let device = sorted(socket.device(index).expect("device"));
    assert_eq!(
        (device.private_key, device.listen_port),
        (Some(private.clone()), 4000)
    );
    let read = &device.peers[0];
    assert_eq!(
        (read.public_key, read.endpoint, read.keepalive),
        (key(1), peer.endpoint, 25)
    );
    assert_eq!(read.preshared_key, peer.preshared_key);
    assert_eq!(read.allowed_ips, peer.allowed_ips);
    assert_eq!(read.last_handshake, None);
    assert_eq!(host.sh("wg show wg0 private-key").trim(), private.text());
    let public = device.public_key.expect("a key").to_string();
    assert_eq!(host.sh("wg show wg0 public-key").trim(), public);
    let shown = host.sh("wg show wg0 allowed-ips");
    assert_eq!(
        shown.trim(),
        format!("{}\t10.0.0.0/24 10.0.1.0/24 fd00:1::/64", key(1))
    );
    // less than before, and without the preshared key
    let fewer = PutPeer {
        preshared_key: None,
        allowed_ips: nets(1, 1),
        replace_allowed_ips: true,
        ..peer
    };
    change(&mut socket, index, &[PeerChange::Put(fewer)]);
    let device = socket.device(index).expect("device");
    assert_eq!(device.peers[0].allowed_ips, nets(1, 1));
    assert_eq!(device.peers[0].preshared_key, None);
    change(
        &mut socket,
        index,
        &[PeerChange::Remove(key(1)), PeerChange::Remove(key(2))],
    );
    assert_eq!(socket.device(index).expect("device").peers, []);
    let gone = socket.device(index + 100).expect_err("no device");
    assert!(gone.is_absent(), "{gone}");
}

/// Peers and the allowed IPs of one peer continue over messages, in both directions.
#[scenario(unless = without_wireguard)]
fn wireguard_device_with_a_thousand_peers_is_read_whole() {
    let (_host, mut socket, index) = with_device();
    let mut wanted: Vec<_> = (1..MANY)
        .map(|number| put(number, nets(number, 1)))
        .collect();
    wanted.push(put(0, nets(2 * MANY, 1500)));
    let changes: Vec<_> = wanted.iter().cloned().map(PeerChange::Put).collect();
    let start = Instant::now();
    change(&mut socket, index, &changes);
    let set = start.elapsed();
    let start = Instant::now();
    let device = socket.device(index).expect("device");
    println!(
        "{MANY} peers: set in {set:?}, read in {:?}",
        start.elapsed()
    );
    let device = sorted(device);
    assert_eq!(device.peers.len(), wanted.len());
    wanted.sort_by_key(|peer| peer.public_key);
    for (read, wanted) in device.peers.iter().zip(&wanted) {
        assert_eq!(
            (read.public_key, &read.allowed_ips),
            (wanted.public_key, &wanted.allowed_ips)
        );
    }
    // an allowed IP that another peer gets moves
    let moved = PeerChange::Put(put(MANY, nets(1, 1)));
    change(&mut socket, index, &[moved, PeerChange::Remove(key(1))]);
    let device = socket.device(index).expect("device");
    let owner = device
        .peers
        .iter()
        .find(|peer| peer.allowed_ips == nets(1, 1));
    assert_eq!(owner.map(|peer| peer.public_key), Some(key(MANY)));
    assert_eq!(device.peers.len(), wanted.len());
}
