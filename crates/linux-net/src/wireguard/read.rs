//! Reading WG_CMD_GET_DEVICE. A device with many peers comes in several messages, and so does a
//! peer with many allowed IPs: each further message has the peer's key and the rest of them.

use super::{
    Device, KEY_LEN, Peer, PeerChange, PresharedKey, PrivateKey, PublicKey, PutPeer, write,
};
use crate::{
    generic,
    netlink::{Attribute, Malformed, Read, attributes},
};
use ipnetwork::IpNetwork;
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};

// linux/wireguard.h
const DEVICE_PRIVATE_KEY: u16 = 3;
const DEVICE_PUBLIC_KEY: u16 = 4;
const DEVICE_LISTEN_PORT: u16 = 6;
const DEVICE_FWMARK: u16 = 7;
const DEVICE_PEERS: u16 = 8;
const PEER_PUBLIC_KEY: u16 = 1;
const PEER_PRESHARED_KEY: u16 = 2;
const PEER_ENDPOINT: u16 = 4;
const PEER_KEEPALIVE: u16 = 5;
const PEER_LAST_HANDSHAKE: u16 = 6;
const PEER_RX_BYTES: u16 = 7;
const PEER_TX_BYTES: u16 = 8;
const PEER_ALLOWED_IPS: u16 = 9;
const ALLOWED_IP_ADDRESS: u16 = 2;
const ALLOWED_IP_MASK: u16 = 3;

/// One message of the dump as a device: what it does not say is as in an empty one.
pub(super) fn part(payload: &[u8]) -> Read<Device> {
    let mut device = Device::default();
    for attribute in attributes(generic::body(payload)?) {
        let attribute = attribute?;
        match attribute.kind {
            DEVICE_PRIVATE_KEY => device.private_key = key(&attribute)?.map(PrivateKey::new),
            DEVICE_PUBLIC_KEY => device.public_key = key(&attribute)?.map(PublicKey),
            DEVICE_LISTEN_PORT => device.listen_port = attribute.u16()?,
            DEVICE_FWMARK => device.fwmark = attribute.u32()?,
            DEVICE_PEERS => {
                for entry in attributes(attribute.value) {
                    append(&mut device.peers, peer(entry?.value)?);
                }
            }
            _ => {}
        }
    }
    Ok(device)
}

/// The messages of a dump as one device.
pub(super) fn merge(parts: Vec<Device>) -> Read<Device> {
    let mut parts = parts.into_iter();
    let mut device = parts.next().ok_or_else(|| Malformed("no message".into()))?;
    for part in parts {
        for peer in part.peers {
            append(&mut device.peers, peer);
        }
    }
    Ok(device)
}

/// Adds a peer, or the allowed IPs of the last one that continue here.
fn append(peers: &mut Vec<Peer>, peer: Peer) {
    match peers.last_mut() {
        Some(last) if last.public_key == peer.public_key => {
            last.allowed_ips.extend(peer.allowed_ips);
        }
        Some(_) | None => peers.push(peer),
    }
}

/// Nothing is known of it but its key.
fn bare(public_key: PublicKey) -> Peer {
    Peer {
        public_key,
        preshared_key: None,
        endpoint: None,
        keepalive: 0,
        last_handshake: None,
        rx_bytes: 0,
        tx_bytes: 0,
        allowed_ips: Vec::new(),
    }
}

fn peer(bytes: &[u8]) -> Read<Peer> {
    let mut public_key = None;
    let mut peer = bare(PublicKey([0; KEY_LEN]));
    for attribute in attributes(bytes) {
        let attribute = attribute?;
        match attribute.kind {
            PEER_PUBLIC_KEY => public_key = key(&attribute)?,
            PEER_PRESHARED_KEY => peer.preshared_key = key(&attribute)?.map(PresharedKey::new),
            PEER_ENDPOINT => peer.endpoint = endpoint(attribute.value)?,
            PEER_KEEPALIVE => peer.keepalive = attribute.u16()?,
            PEER_LAST_HANDSHAKE => peer.last_handshake = time(&attribute)?,
            PEER_RX_BYTES => peer.rx_bytes = u64::from_ne_bytes(fixed(&attribute)?),
            PEER_TX_BYTES => peer.tx_bytes = u64::from_ne_bytes(fixed(&attribute)?),
            PEER_ALLOWED_IPS => {
                for entry in attributes(attribute.value) {
                    peer.allowed_ips.push(allowed_ip(entry?.value)?);
                }
            }
            _ => {}
        }
    }
    let public_key = public_key.ok_or_else(|| Malformed("a peer without public key".into()))?;
    Ok(Peer {
        public_key: PublicKey(public_key),
        ..peer
    })
}

/// Zeros stand for no key.
fn key(attribute: &Attribute<'_>) -> Read<Option<[u8; KEY_LEN]>> {
    let bytes = fixed(attribute)?;
    Ok(Some(bytes).filter(|bytes| *bytes != [0; KEY_LEN]))
}

fn fixed<const N: usize>(attribute: &Attribute<'_>) -> Read<[u8; N]> {
    attribute.value.try_into().map_err(|_| {
        let (kind, length) = (attribute.kind, attribute.value.len());
        // not the bytes: they may be a key
        Malformed(format!("attribute {kind} has {length} bytes, not {N}"))
    })
}

/// `struct __kernel_timespec`; zero is none.
fn time(attribute: &Attribute<'_>) -> Read<Option<Duration>> {
    let bytes: [u8; 16] = fixed(attribute)?;
    let [seconds, nanoseconds] = [0, 8].map(|at| {
        let number = bytes.get(at..at + 8).and_then(|part| part.try_into().ok());
        i64::from_ne_bytes(number.unwrap_or_default())
    });
    let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(seconds), u32::try_from(nanoseconds))
    else {
        return Err(Malformed("a handshake before 1970".into()));
    };
    let time = (nanoseconds < 1_000_000_000).then(|| Duration::new(seconds, nanoseconds));
    let time = time.ok_or_else(|| Malformed("a second of more than 1e9 nanoseconds".into()))?;
    Ok(Some(time).filter(|time| !time.is_zero()))
}

/// `struct sockaddr_in` or `sockaddr_in6`.
fn endpoint(bytes: &[u8]) -> Read<Option<SocketAddr>> {
    let ip = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).map(Ipv6Addr::from).ok();
    let port = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    let address = match *bytes {
        [_, _, p0, p1, a, b, c, d, _, _, _, _, _, _, _, _] => {
            Some(SocketAddr::new(IpAddr::from([a, b, c, d]), port(p0, p1)))
        }
        [_, _, p0, p1, _, _, _, _, ref address @ .., s0, s1, s2, s3] => {
            // the flow label says nothing of the destination
            let scope = u32::from_ne_bytes([s0, s1, s2, s3]);
            ip(address).map(|ip| SocketAddrV6::new(ip, port(p0, p1), 0, scope).into())
        }
        _ => None,
    };
    let length = bytes.len();
    match address {
        Some(address) => Ok(Some(address).filter(|address| !address.ip().is_unspecified())),
        None => Err(Malformed(format!("an endpoint of {length} bytes"))),
    }
}

fn allowed_ip(bytes: &[u8]) -> Read<IpNetwork> {
    let (mut address, mut length) = (None, None);
    for attribute in attributes(bytes) {
        let attribute = attribute?;
        match attribute.kind {
            ALLOWED_IP_ADDRESS => address = Some(attribute.ip()?),
            ALLOWED_IP_MASK => length = Some(attribute.u8()?),
            _ => {}
        }
    }
    let (Some(address), Some(length)) = (address, length) else {
        return Err(Malformed("an allowed IP without address or length".into()));
    };
    let net = IpNetwork::new(address, length).ok();
    let net = net.and_then(|net| IpNetwork::new(net.network(), length).ok());
    net.ok_or_else(|| Malformed(format!("an allowed IP {address}/{length}")))
}

/// The fuzz target's part: the messages of a dump. A peer that was read is read again from the
/// requests that make it.
pub(crate) fn fuzz(payloads: &[&[u8]]) {
    let parts = payloads.iter().map(|payload| part(payload));
    let Ok(device) = parts.collect::<Read<Vec<_>>>().and_then(merge) else {
        return;
    };
    for peer in device.peers {
        assert_eq!(again(&peer).as_ref(), Ok(&peer));
    }
}

/// The peer as it is read from the requests that make it.
fn again(peer: &Peer) -> Read<Peer> {
    let put = PutPeer {
        public_key: peer.public_key,
        preshared_key: peer.preshared_key.clone(),
        endpoint: peer.endpoint,
        keepalive: peer.keepalive,
        allowed_ips: peer.allowed_ips.clone(),
        replace_allowed_ips: true,
    };
    let requests = write::peer(0x20, 1, &PeerChange::Put(put));
    let parts = requests.iter().map(|request| part(request.body()));
    let mut device = parts.collect::<Read<Vec<_>>>().and_then(merge)?;
    match (device.peers.pop(), device.peers.is_empty()) {
        (Some(read), true) => Ok(Peer {
            last_handshake: peer.last_handshake,
            rx_bytes: peer.rx_bytes,
            tx_bytes: peer.tx_bytes,
            ..read
        }),
        _ => Err(Malformed("not one peer".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::write::ALLOWED_IPS, *};
    use crate::wireguard::KEY_LEN;
    use proptest::{collection::vec, option, prelude::*};

    /// The bytes of an attribute with its padding.
    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(attributes: &[Vec<u8>]) -> Vec<u8> {
        [vec![0, 1, 0, 0], attributes.concat()].concat()
    }

    const NESTED: u16 = 0x8000;

    fn ip_of(net: &str) -> Vec<u8> {
        let net: IpNetwork = net.parse().unwrap();
        let address = match net.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let parts = [attribute(2, &address), attribute(3, &[net.prefix()])];
        attribute(NESTED, &parts.concat())
    }

    /// A peer with that key, further attributes and allowed IPs.
    fn peer_of(key: u8, others: &[Vec<u8>], nets: &[&str]) -> Vec<u8> {
        let nets: Vec<_> = nets.iter().map(|net| ip_of(net)).collect();
        let parts = [
            attribute(1, &[key; KEY_LEN]),
            others.concat(),
            attribute(9 | NESTED, &nets.concat()),
        ];
        attribute(NESTED, &parts.concat())
    }

    fn nets(texts: &[&str]) -> Vec<IpNetwork> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn peer_and_its_allowed_ips_continue_in_the_next_message() {
        let others = [
            attribute(2, &[9; KEY_LEN]),
            attribute(4, &[2, 0, 0xca, 0x6c, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0]),
            attribute(5, &25u16.to_ne_bytes()),
            attribute(
                6,
                &[1700000000i64.to_ne_bytes(), 5i64.to_ne_bytes()].concat(),
            ),
            attribute(7, &1000u64.to_ne_bytes()),
            attribute(8, &2000u64.to_ne_bytes()),
            attribute(10, &1u32.to_ne_bytes()),
        ];
        let peers = peer_of(1, &others, &["10.244.2.0/24"]);
        let first = message(&[
            attribute(3, &[7; KEY_LEN]),
            attribute(4, &[8; KEY_LEN]),
            attribute(6, &51820u16.to_ne_bytes()),
            attribute(7, &0x2au32.to_ne_bytes()),
            attribute(8 | NESTED, &peers),
        ]);
        let rest = [
            peer_of(1, &[], &["fd00:10:244:2::/64"]),
            peer_of(2, &[], &["10.244.3.0/24"]),
        ];
        let second = message(&[attribute(8 | NESTED, &rest.concat())]);
        let parts = vec![part(&first).unwrap(), part(&second).unwrap()];
        let bare = Peer {
            allowed_ips: nets(&["10.244.3.0/24"]),
            ..bare(PublicKey([2; KEY_LEN]))
        };
        let whole = Peer {
            public_key: PublicKey([1; KEY_LEN]),
            preshared_key: Some(PresharedKey::new([9; KEY_LEN])),
            endpoint: Some("192.0.2.7:51820".parse().unwrap()),
            keepalive: 25,
            last_handshake: Some(Duration::new(1700000000, 5)),
            rx_bytes: 1000,
            tx_bytes: 2000,
            allowed_ips: nets(&["10.244.2.0/24", "fd00:10:244:2::/64"]),
        };
        let expected = Device {
            private_key: Some(PrivateKey::new([7; KEY_LEN])),
            public_key: Some(PublicKey([8; KEY_LEN])),
            listen_port: 51820,
            fwmark: 0x2a,
            peers: vec![whole, bare],
        };
        assert_eq!(merge(parts), Ok(expected));
    }

    #[test]
    fn zeros_are_no_key_no_handshake_and_no_endpoint() {
        let zeros = [
            attribute(2, &[0; KEY_LEN]),
            attribute(4, &[0; 16]),
            attribute(6, &[0; 16]),
        ];
        let peers = peer_of(3, &zeros, &[]);
        let device = message(&[attribute(3, &[0; KEY_LEN]), attribute(8 | NESTED, &peers)]);
        let device = part(&device).unwrap();
        assert_eq!(device.private_key, None);
        let peer = &device.peers[0];
        assert_eq!(
            (&peer.preshared_key, peer.endpoint, peer.last_handshake),
            (&None, None, None)
        );
    }

    #[test]
    fn what_cannot_be_is_refused_without_the_bytes_of_keys() {
        let peer = |others: &[Vec<u8>]| {
            let peers = peer_of(3, others, &[]);
            part(&message(&[attribute(8 | NESTED, &peers)]))
        };
        for bad in [
            attribute(2, &[0xab; 31]),
            attribute(4, &[0; 17]),
            attribute(6, &[0; 15]),
            attribute(6, &[0xff; 16]),
            attribute(7, &[0; 4]),
            attribute(
                9 | NESTED,
                &attribute(NESTED, &attribute(2, &[10, 0, 0, 0])),
            ),
            attribute(
                9 | NESTED,
                &attribute(
                    NESTED,
                    &[attribute(2, &[10, 0, 0, 0]), attribute(3, &[33])].concat(),
                ),
            ),
        ] {
            let Malformed(reason) = peer(std::slice::from_ref(&bad)).unwrap_err();
            assert!(
                !reason.contains("171") && !reason.contains("ab"),
                "{reason}"
            );
        }
        let nameless = attribute(NESTED, &attribute(5, &[1, 0]));
        assert!(part(&message(&[attribute(8 | NESTED, &nameless)])).is_err());
        assert!(part(&[0, 1]).is_err());
        assert!(merge(Vec::new()).is_err());
    }

    #[test]
    fn host_bits_of_an_allowed_ip_are_dropped() {
        let peers = peer_of(3, &[], &["10.244.2.9/24"]);
        let device = part(&message(&[attribute(8 | NESTED, &peers)])).unwrap();
        assert_eq!(device.peers[0].allowed_ips, nets(&["10.244.2.0/24"]));
    }

    fn any_net() -> impl Strategy<Value = IpNetwork> {
        let v4 = (any::<[u8; 4]>(), 0..=32u8).prop_map(|(ip, len)| (IpAddr::from(ip), len));
        let v6 = (any::<[u8; 16]>(), 0..=128u8).prop_map(|(ip, len)| (IpAddr::from(ip), len));
        prop_oneof![v4, v6].prop_map(|(ip, len)| {
            let net = IpNetwork::new(ip, len).unwrap();
            IpNetwork::new(net.network(), len).unwrap()
        })
    }

    fn any_endpoint() -> impl Strategy<Value = SocketAddr> {
        let ip = prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(IpAddr::from)
        ];
        let given = |ip: &IpAddr| !ip.is_unspecified();
        let ip = ip.prop_filter("none", given);
        (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn peer_with_any_number_of_allowed_ips_is_read_from_its_requests(
            key in 1..=255u8,
            preshared in option::of(1..=255u8),
            endpoint in option::of(any_endpoint()),
            keepalive: u16,
            allowed_ips in vec(any_net(), 0..3 * ALLOWED_IPS),
        ) {
            let peer = Peer {
                public_key: PublicKey([key; KEY_LEN]),
                preshared_key: preshared.map(|byte| PresharedKey::new([byte; KEY_LEN])),
                endpoint,
                keepalive,
                last_handshake: None,
                rx_bytes: 0,
                tx_bytes: 0,
                allowed_ips,
            };
            prop_assert_eq!(again(&peer), Ok(peer));
        }

        #[test]
        fn no_bytes_panic(bytes in vec(any::<u8>(), 0..200)) {
            fuzz(&[&bytes]);
        }
    }
}
