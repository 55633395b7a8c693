//! Creating links, each in one request with all that it needs.

use super::{VethPeer, Vxlan, mac_attribute, name_attribute};
use crate::{Mac, NetNs, Request, netlink::Mode};
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};
use nix::libc::RTM_NEWLINK;
use std::{net::IpAddr, os::fd::AsRawFd};

/// A bridge. Without `mtu` it has the kernel's default.
pub fn create_bridge(
    name: &str,
    mtu: Option<u32>,
    vlan_filtering: bool,
    mac: Option<Mac>,
) -> Request {
    // a kernel without VLAN filtering refuses the attribute, so it is sent on demand only
    let data = vlan_filtering.then(|| InfoData::Bridge(vec![InfoBridge::VlanFiltering(true)]));
    let mut attributes = common(name, mtu, mac);
    attributes.push(info(InfoKind::Bridge, data));
    create(attributes, format!("create bridge {name}"))
}

/// A veth pair. The host end is in the socket's namespace, up, and in the bridge `master` if there
/// is one; the other end is created in `container`, since moving a link between namespaces takes 17
/// ms.
pub fn create_veth(
    host: &VethPeer,
    mtu: Option<u32>,
    master: Option<u32>,
    peer: &VethPeer,
    container: &NetNs,
) -> Request {
    let namespace = container.shared();
    let mut other = common(&peer.name, mtu, peer.mac);
    other.push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
    let mut attributes = common(&host.name, mtu, host.mac);
    attributes.extend(master.map(LinkAttribute::Controller));
    attributes.push(info(InfoKind::Veth, Some(veth_peer(other))));
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes = attributes;
    let what = format!("create veth {} with peer {}", host.name, peer.name);
    Request::new(RTM_NEWLINK, Mode::Create, &message, what).holding(namespace)
}

/// A veth pair in one namespace.
pub fn create_veth_here(name: &str, peer_name: &str, mtu: Option<u32>) -> Request {
    let mut attributes = common(name, mtu, None);
    let other = common(peer_name, mtu, None);
    attributes.push(info(InfoKind::Veth, Some(veth_peer(other))));
    create(
        attributes,
        format!("create veth {name} with peer {peer_name}"),
    )
}

/// A vxlan device with the attributes that upstream sends (TTL 0, no UDP_CSUM, IFLA_TXQLEN 0).
pub fn create_vxlan(name: &str, vxlan: &Vxlan, mtu: Option<u32>, mac: Option<Mac>) -> Request {
    let mut data = vec![InfoVxlan::Id(vxlan.vni)];
    data.extend(vxlan.lower.map(InfoVxlan::Link));
    data.extend(vxlan.local.map(|ip| match ip {
        IpAddr::V4(ip) => InfoVxlan::Local(ip),
        IpAddr::V6(ip) => InfoVxlan::Local6(ip),
    }));
    data.extend(vxlan.group.map(|ip| match ip {
        IpAddr::V4(ip) => InfoVxlan::Group(ip),
        IpAddr::V6(ip) => InfoVxlan::Group6(ip),
    }));
    data.extend([
        InfoVxlan::Ttl(0),
        InfoVxlan::Tos(0),
        InfoVxlan::Learning(vxlan.learning),
        InfoVxlan::Proxy(false),
        InfoVxlan::Rsc(false),
        InfoVxlan::L2Miss(vxlan.l2miss),
        InfoVxlan::L3Miss(vxlan.l3miss),
        InfoVxlan::UDPZeroCsumTX(false),
        InfoVxlan::UDPZeroCsumRX(false),
    ]);
    data.extend(vxlan.gbp.then_some(InfoVxlan::Gbp));
    data.extend(vxlan.port.map(InfoVxlan::Port));
    let mut attributes = common(name, mtu, mac);
    attributes.push(LinkAttribute::TxQueueLen(0));
    attributes.push(info(InfoKind::Vxlan, Some(InfoData::Vxlan(data))));
    create(attributes, format!("create vxlan {name}"))
}

/// A WireGuard device without a key, with the transmit queue that upstream asks for (none).
pub fn create_wireguard(name: &str, mtu: Option<u32>) -> Request {
    let mut attributes = common(name, mtu, None);
    attributes.push(LinkAttribute::TxQueueLen(0));
    attributes.push(info(InfoKind::Wireguard, None));
    create(attributes, format!("create wireguard {name}"))
}

/// An ifb device without a transmit queue: its qdisc queues.
pub fn create_ifb(name: &str, mtu: Option<u32>) -> Request {
    let mut attributes = common(name, mtu, None);
    attributes.push(LinkAttribute::TxQueueLen(0));
    attributes.push(info(InfoKind::Ifb, None));
    create(attributes, format!("create ifb {name}"))
}

pub(super) fn create(attributes: Vec<LinkAttribute>, what: String) -> Request {
    let mut message = LinkMessage::default();
    message.attributes = attributes;
    Request::new(RTM_NEWLINK, Mode::Create, &message, what)
}

pub(super) fn common(name: &str, mtu: Option<u32>, mac: Option<Mac>) -> Vec<LinkAttribute> {
    let mut attributes = vec![name_attribute(name)];
    attributes.extend(mtu.map(LinkAttribute::Mtu));
    attributes.extend(mac.map(mac_attribute));
    attributes
}

pub(super) fn info(kind: InfoKind, data: Option<InfoData>) -> LinkAttribute {
    let mut parts = vec![LinkInfo::Kind(kind)];
    parts.extend(data.map(LinkInfo::Data));
    LinkAttribute::LinkInfo(parts)
}

fn veth_peer(attributes: Vec<LinkAttribute>) -> InfoData {
    let mut peer = LinkMessage::default();
    peer.attributes = attributes;
    InfoData::Veth(InfoVeth::Peer(peer))
}
