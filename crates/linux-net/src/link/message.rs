//! Reading RTM_NEWLINK and RTM_DELLINK.

use super::{
    BRPORT_ISOLATED, BRPORT_MODE, BridgePort, Kind, Link, Vxlan,
    ip_tunnel::{self, Outer},
};
use crate::{
    family,
    netlink::{Attribute, Read, attributes, header},
};
use netlink_packet_route::link::{LinkFlags, State};
use nix::libc::{
    IFLA_ADDRESS, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_INFO_SLAVE_DATA,
    IFLA_INFO_SLAVE_KIND, IFLA_LINK, IFLA_LINK_NETNSID, IFLA_LINKINFO, IFLA_MASTER, IFLA_MTU,
    IFLA_OPERSTATE, IFLA_TXQLEN,
};

// not in libc (linux/if_link.h)
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_GROUP: u16 = 2;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_L2MISS: u16 = 13;
const IFLA_VXLAN_L3MISS: u16 = 14;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_GROUP6: u16 = 16;
const IFLA_VXLAN_LOCAL6: u16 = 17;
const IFLA_VXLAN_GBP: u16 = 23;

/// `struct ifinfomsg` and IFLA_*.
pub(crate) fn read(payload: &[u8]) -> Read<Link> {
    let (ifinfo, rest) = header::<16>(payload)?;
    let [_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, ..] = ifinfo;
    let flags = LinkFlags::from_bits_retain(u32::from_ne_bytes([f0, f1, f2, f3]));
    let mut link = Link {
        index: u32::from_ne_bytes([i0, i1, i2, i3]),
        name: String::new(),
        mtu: 0,
        mac: None,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        oper_up: false,
        loopback: flags.contains(LinkFlags::Loopback),
        promisc: flags.contains(LinkFlags::Promisc),
        allmulti: flags.contains(LinkFlags::Allmulti),
        master: None,
        lower: None,
        peer_netnsid: None,
        txqlen: 0,
        alias: None,
        kind: Kind::None,
        port: None,
    };
    for attribute in attributes(rest) {
        let attribute = attribute?;
        match attribute.kind {
            IFLA_IFNAME => link.name = attribute.string(),
            IFLA_MTU => link.mtu = attribute.u32()?,
            IFLA_ADDRESS => link.mac = attribute.mac(),
            IFLA_OPERSTATE => link.oper_up = State::from(attribute.u8()?) == State::Up,
            IFLA_MASTER => link.master = Some(attribute.u32()?),
            IFLA_LINK => link.lower = Some(attribute.u32()?),
            IFLA_LINK_NETNSID => link.peer_netnsid = Some(attribute.i32()?),
            IFLA_TXQLEN => link.txqlen = attribute.u32()?,
            IFLA_IFALIAS => link.alias = Some(attribute.string()),
            IFLA_LINKINFO => (link.kind, link.port) = info(&attribute)?,
            _ => {}
        }
    }
    Ok(link)
}

/// Messages about a bridge's ports (family AF_BRIDGE) look like those about links: RTM_DELLINK then
/// means that the link leaves its bridge.
pub(crate) fn is_about_port(payload: &[u8]) -> bool {
    payload
        .first()
        .is_some_and(|family| family::is_bridge(*family))
}

fn info(attribute: &Attribute<'_>) -> Read<(Kind, Option<BridgePort>)> {
    let (mut kind, mut data) = (None, &[][..]);
    let (mut port_kind, mut port_data) = (String::new(), &[][..]);
    for attribute in attributes(attribute.value) {
        let attribute = attribute?;
        match attribute.kind {
            IFLA_INFO_KIND => kind = Some(attribute.string()),
            IFLA_INFO_DATA => data = attribute.value,
            IFLA_INFO_SLAVE_KIND => port_kind = attribute.string(),
            IFLA_INFO_SLAVE_DATA => port_data = attribute.value,
            _ => {}
        }
    }
    let kind = match kind.as_deref() {
        None => Kind::None,
        Some("bridge") => Kind::Bridge {
            vlan_filtering: vlan_filtering(data)?,
        },
        Some("veth") => Kind::Veth,
        Some("vxlan") => Kind::Vxlan(vxlan(data)?),
        Some("ipip") => Kind::IpTunnel(ip_tunnel::read(Outer::V4, data)?),
        Some("ip6tnl") => Kind::IpTunnel(ip_tunnel::read(Outer::V6, data)?),
        Some(other) => Kind::Other(other.to_owned()),
    };
    let port = (port_kind == "bridge").then(|| port(port_data));
    Ok((kind, port.transpose()?))
}

fn vlan_filtering(data: &[u8]) -> Read<bool> {
    for attribute in attributes(data) {
        let attribute = attribute?;
        if attribute.kind == IFLA_BR_VLAN_FILTERING {
            return attribute.flag();
        }
    }
    Ok(false)
}

fn port(data: &[u8]) -> Read<BridgePort> {
    let mut port = BridgePort::default();
    for attribute in attributes(data) {
        let attribute = attribute?;
        match attribute.kind {
            BRPORT_MODE => port.hairpin = attribute.flag()?,
            BRPORT_ISOLATED => port.isolated = attribute.flag()?,
            _ => {}
        }
    }
    Ok(port)
}

fn vxlan(data: &[u8]) -> Read<Vxlan> {
    let mut vxlan = Vxlan::default();
    for attribute in attributes(data) {
        let attribute = attribute?;
        match attribute.kind {
            IFLA_VXLAN_ID => vxlan.vni = attribute.u32()?,
            IFLA_VXLAN_LINK => vxlan.lower = Some(attribute.u32()?),
            IFLA_VXLAN_LOCAL | IFLA_VXLAN_LOCAL6 => vxlan.local = Some(attribute.ip()?),
            IFLA_VXLAN_GROUP | IFLA_VXLAN_GROUP6 => vxlan.group = Some(attribute.ip()?),
            IFLA_VXLAN_PORT => vxlan.port = Some(attribute.u16_be()?),
            IFLA_VXLAN_LEARNING => vxlan.learning = attribute.flag()?,
            IFLA_VXLAN_GBP => vxlan.gbp = true,
            IFLA_VXLAN_L2MISS => vxlan.l2miss = attribute.flag()?,
            IFLA_VXLAN_L3MISS => vxlan.l3miss = attribute.flag()?,
            _ => {}
        }
    }
    Ok(vxlan)
}
