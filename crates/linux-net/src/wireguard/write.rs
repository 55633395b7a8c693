//! Writing WG_CMD_SET_DEVICE. A message and a nested attribute have less than 64 KiB: each peer has
//! a message of its own, and one with many allowed IPs several.

use super::{PeerChange, PresharedKey, PrivateKey, PutPeer};
use crate::{Request, generic, netlink::Mode};
use ipnetwork::IpNetwork;
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute,
    WireguardCmd, WireguardMessage, WireguardPeer, WireguardPeerAttribute, WireguardPeerFlags,
};

/// Allowed IPs in one message: 40 bytes each.
pub(super) const ALLOWED_IPS: usize = 512;

/// The private key, the port or both.
pub(super) fn device(
    family: u16,
    index: u32,
    private_key: Option<&PrivateKey>,
    listen_port: Option<u16>,
) -> Request {
    let key = private_key.map(|key| WireguardAttribute::PrivateKey(*key.bytes()));
    let port = listen_port.map(WireguardAttribute::ListenPort);
    let attributes = key.into_iter().chain(port);
    let port = listen_port.map(|port| format!(" with port {port}"));
    let what = format!("set link {index}{}", port.unwrap_or_default());
    request(family, index, attributes, what)
}

/// The messages of one change, in order.
pub(super) fn peer(family: u16, index: u32, change: &PeerChange) -> Vec<Request> {
    let key = change.public_key();
    let of_link = |pieces: Vec<Vec<WireguardPeerAttribute>>, what: &str| {
        let message = |piece| {
            let peers = vec![WireguardPeer(piece)];
            let what = format!("{what} peer {key} of link {index}");
            request(family, index, [WireguardAttribute::Peers(peers)], what)
        };
        pieces.into_iter().map(message).collect()
    };
    match change {
        PeerChange::Put(peer) => of_link(pieces(peer), "set"),
        PeerChange::Remove(_) => {
            let remove = vec![
                WireguardPeerAttribute::PublicKey(key.0),
                WireguardPeerAttribute::Flags(WireguardPeerFlags::RemoveMe),
            ];
            of_link(vec![remove], "remove")
        }
        PeerChange::BeginHandshake { keepalive, .. } => {
            let with = |keepalive: u16| {
                vec![
                    WireguardPeerAttribute::PublicKey(key.0),
                    WireguardPeerAttribute::Flags(WireguardPeerFlags::UpdateOnly),
                    WireguardPeerAttribute::PersistentKeepalive(keepalive),
                ]
            };
            let off_on_and_as_it_was = [0, 1, *keepalive].map(with);
            of_link(off_on_and_as_it_was.into(), "begin a handshake with")
        }
    }
}

fn request(
    family: u16,
    index: u32,
    attributes: impl IntoIterator<Item = WireguardAttribute>,
    what: String,
) -> Request {
    let mut all = vec![WireguardAttribute::IfIndex(index)];
    all.extend(attributes);
    let message = WireguardMessage {
        cmd: WireguardCmd::SetDevice,
        attributes: all,
    };
    generic::request(family, Mode::Existing, message, what)
}

/// The first piece sets everything but further allowed IPs.
fn pieces(peer: &PutPeer) -> Vec<Vec<WireguardPeerAttribute>> {
    let key = WireguardPeerAttribute::PublicKey(peer.public_key.0);
    let mut chunks = peer.allowed_ips.chunks(ALLOWED_IPS);
    let allowed_ips = |chunk: &[IpNetwork]| {
        let ips = chunk.iter().copied().map(allowed_ip);
        WireguardPeerAttribute::AllowedIps(ips.collect())
    };
    // zeros remove a key
    let preshared = peer.preshared_key.as_ref().map(PresharedKey::bytes);
    let mut first = vec![
        key.clone(),
        WireguardPeerAttribute::PresharedKey(preshared.copied().unwrap_or_default()),
        WireguardPeerAttribute::PersistentKeepalive(peer.keepalive),
    ];
    if peer.replace_allowed_ips {
        let flag = WireguardPeerFlags::ReplaceAllowedIps;
        first.push(WireguardPeerAttribute::Flags(flag));
    }
    first.extend(peer.endpoint.map(WireguardPeerAttribute::Endpoint));
    first.extend(chunks.next().map(allowed_ips));
    let further = |chunk| {
        let flag = WireguardPeerFlags::UpdateOnly;
        vec![
            key.clone(),
            WireguardPeerAttribute::Flags(flag),
            allowed_ips(chunk),
        ]
    };
    let mut pieces = vec![first];
    pieces.extend(chunks.map(further));
    pieces
}

fn allowed_ip(net: IpNetwork) -> WireguardAllowedIp {
    let family = match net {
        IpNetwork::V4(_) => WireguardAddressFamily::Ipv4,
        IpNetwork::V6(_) => WireguardAddressFamily::Ipv6,
    };
    WireguardAllowedIp(vec![
        WireguardAllowedIpAttr::Family(family),
        WireguardAllowedIpAttr::IpAddr(net.ip()),
        WireguardAllowedIpAttr::Cidr(net.prefix()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wireguard::{KEY_LEN, PublicKey};

    /// linux/wireguard.h: WGPEER_F_REPLACE_ALLOWEDIPS.
    const REPLACE: u32 = 2;
    /// WGPEER_F_UPDATE_ONLY
    const UPDATE_ONLY: u32 = 4;

    fn put(allowed_ips: Vec<IpNetwork>) -> PeerChange {
        PeerChange::Put(PutPeer {
            public_key: PublicKey([1; KEY_LEN]),
            preshared_key: Some(PresharedKey::new([2; KEY_LEN])),
            endpoint: Some("192.0.2.7:51820".parse().unwrap()),
            keepalive: 25,
            allowed_ips,
            replace_allowed_ips: true,
        })
    }

    #[test]
    fn peer_is_written_as_the_kernel_reads_it() {
        let change = put(vec!["10.244.2.0/24".parse().unwrap()]);
        let requests = peer(0x20, 7, &change);
        let [request] = requests.as_slice() else {
            panic!("{} requests", requests.len());
        };
        let mut expected = Vec::new();
        // WG_CMD_SET_DEVICE of version 1, WGDEVICE_A_IFINDEX
        expected.extend([1, 1, 0, 0, 8, 0, 1, 0, 7, 0, 0, 0]);
        // WGDEVICE_A_PEERS with one entry
        expected.extend([148, 0, 8, 0x80, 144, 0, 0, 0x80]);
        expected.extend([36, 0, 1, 0]);
        expected.extend([1; KEY_LEN]);
        expected.extend([36, 0, 2, 0]);
        expected.extend([2; KEY_LEN]);
        expected.extend([6, 0, 5, 0, 25, 0, 0, 0]);
        expected.extend([8, 0, 3, 0, REPLACE as u8, 0, 0, 0]);
        expected.extend([20, 0, 4, 0, 2, 0, 0xca, 0x6c, 192, 0, 2, 7]);
        expected.extend([0; 8]);
        // WGPEER_A_ALLOWEDIPS with one entry: family, address, length
        expected.extend([32, 0, 9, 0x80, 28, 0, 0, 0x80]);
        expected.extend([6, 0, 1, 0, 2, 0, 0, 0]);
        expected.extend([8, 0, 2, 0, 10, 244, 2, 0]);
        expected.extend([5, 0, 3, 0, 24, 0, 0, 0]);
        assert_eq!(request.body(), expected);
        let text = format!("{request:?} {change:?}");
        assert!(!text.contains("2, 2, 2"), "{text}");
    }

    #[test]
    fn device_is_written_with_key_and_port() {
        let key = PrivateKey::new([0x48; KEY_LEN]);
        let request = device(0x20, 7, Some(&key), Some(51820));
        let mut expected = vec![1, 1, 0, 0, 8, 0, 1, 0, 7, 0, 0, 0, 36, 0, 3, 0];
        expected.extend([0x48; KEY_LEN]);
        expected.extend([6, 0, 6, 0, 0x6c, 0xca, 0, 0]);
        assert_eq!(request.body(), expected);
        assert_eq!(request.what(), "set link 7 with port 51820");
        let text = format!("{request:?}");
        assert!(!text.contains("72"), "{text}");
    }

    #[test]
    fn many_allowed_ips_are_split_and_only_the_first_message_replaces() {
        let net = |n: usize| format!("10.{}.{}.0/24", n / 256, n % 256).parse().unwrap();
        let requests = peer(0x20, 7, &put((0..2 * ALLOWED_IPS + 1).map(net).collect()));
        assert_eq!(requests.len(), 3);
        let has = |request: &Request, flags: u32| {
            let mut attribute = vec![8, 0, 3, 0];
            attribute.extend(flags.to_ne_bytes());
            let mut windows = request.body().windows(attribute.len());
            windows.any(|window| window == attribute)
        };
        let flags = |request| (has(request, REPLACE), has(request, UPDATE_ONLY));
        let all: Vec<_> = requests.iter().map(flags).collect();
        assert_eq!(all, [(true, false), (false, true), (false, true)]);
        assert!(
            requests
                .iter()
                .all(|request| request.body().len() < 1 << 15)
        );
    }

    #[test]
    fn removed_peer_has_nothing_but_its_key() {
        let requests = peer(0x20, 7, &PeerChange::Remove(PublicKey([1; KEY_LEN])));
        let mut expected = vec![1, 1, 0, 0, 8, 0, 1, 0, 7, 0, 0, 0];
        expected.extend([52, 0, 8, 0x80, 48, 0, 0, 0x80, 36, 0, 1, 0]);
        expected.extend([1; KEY_LEN]);
        expected.extend([8, 0, 3, 0, 1, 0, 0, 0]);
        assert_eq!(requests[0].body(), expected);
    }

    /// The kernel sends a packet where the interval was 0; it keeps the one that the peer has.
    #[test]
    fn handshake_begins_by_keepalive_packets_that_are_switched_on() {
        let begin = PeerChange::BeginHandshake {
            public_key: PublicKey([1; KEY_LEN]),
            keepalive: 25,
        };
        let requests = peer(0x20, 7, &begin);
        let intervals = requests.iter().map(|request| {
            let (rest, interval) = request.body().split_at(request.body().len() - 8);
            let mut flags = vec![8, 0, 3, 0];
            flags.extend(UPDATE_ONLY.to_ne_bytes());
            assert!(rest.ends_with(&flags), "no peer is made: {rest:?}");
            interval.to_vec()
        });
        let wanted = [0, 1, 25].map(|interval| vec![6, 0, 5, 0, interval, 0, 0, 0]);
        assert_eq!(intervals.collect::<Vec<_>>(), wanted);
    }
}
