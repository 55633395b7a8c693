//! Entry points of the fuzz targets in tests/fuzz. No program calls them.

use crate::{
    address, bridge_vlan, in_use, link,
    neighbour::Entry,
    netlink::{self, Notification},
    route, tc, unix_sockets,
};
#[cfg(feature = "tunnels")]
use crate::{generic, wireguard, xfrm};

/// A datagram of the kernel, and its messages as those of every kind.
pub fn datagram(bytes: &[u8]) {
    netlink::each_notification(bytes, &mut |notification| {
        if let Notification::Message { payload, .. } = notification {
            message(payload);
        }
    });
    message(bytes);
}

/// The messages of a dump of a WireGuard device, and of an answer about a family.
#[cfg(feature = "tunnels")]
pub fn wireguard(bytes: &[u8]) {
    let mut payloads = Vec::new();
    netlink::each_notification(bytes, &mut |notification| {
        if let Notification::Message { payload, .. } = notification {
            payloads.push(payload.to_vec());
        }
    });
    let payloads: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
    for payload in payloads.iter().copied().chain([bytes]) {
        generic::fuzz(payload);
        wireguard::fuzz(&[payload]);
    }
    wireguard::fuzz(&payloads);
}

fn message(payload: &[u8]) {
    drop(link::read(payload));
    drop(address::read(payload));
    drop(route::read(payload));
    if let Ok(entry) = Entry::read(payload) {
        entry.fdb();
        entry.neighbour();
    }
    drop(tc::read(payload));
    unix_sockets::owner(payload, b"n").ok();
    let index = payload.get(4..8).and_then(|index| index.try_into().ok());
    drop(bridge_vlan::read(
        payload,
        index.map_or(0, u32::from_ne_bytes),
    ));
}

/// `/proc/PID/mountinfo`: paths of network namespaces.
pub fn mountinfo(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let count = in_use::mounted(&text).count();
    assert!(count <= text.lines().count());
}

/// A notification of IPsec: its type in the first byte, then what follows the netlink header.
#[cfg(feature = "tunnels")]
pub fn xfrm(bytes: &[u8]) {
    let Some((kind, payload)) = bytes.split_first() else {
        return;
    };
    if let Ok(Some(xfrm::Event::Policy(policy, _))) = xfrm::event((*kind).into(), payload) {
        let request = xfrm::update(&policy);
        assert!(request.what().ends_with(&policy.to_string()));
    }
}
