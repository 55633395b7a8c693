//! Addresses (rtnetlink(7) RTM_NEWADDR).

use crate::{
    Netlink, Request, Result,
    netlink::{Malformed, Mode, Read, attributes, header},
};
use ipnetwork::IpNetwork;
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage},
};
use std::net::{IpAddr, Ipv4Addr};

pub(crate) const RTM_NEWADDR: u16 = 20;
pub(crate) const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_FLAGS: u16 = 8;

/// An address on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// ifindex
    pub index: u32,
    /// with host bits
    pub net: IpNetwork,
    /// RT_SCOPE_*: 0 universe, 253 link, 254 host
    pub scope: u8,
    /// IFA_F_* (permanent 0x80, tentative 0x40, dadfailed 0x08, deprecated 0x20, temporary 0x01, nodad 0x02)
    pub flags: u32,
    /// label (IPv4)
    pub label: Option<String>,
}

impl Address {
    /// IFA_F_TENTATIVE
    pub fn tentative(&self) -> bool {
        self.flags & 0x40 != 0
    }

    /// IFA_F_DADFAILED
    pub fn dad_failed(&self) -> bool {
        self.flags & 0x08 != 0
    }
}

/// Adds an address (EEXIST if it is there). IPv4 up to /30 gets its broadcast address, as the Go plugins' netlink library
/// sets it. `nodad` sets IFA_F_NODAD.
pub fn add(index: u32, net: IpNetwork, nodad: bool) -> Request {
    let mut message = message(index, net);
    message
        .attributes
        .extend(broadcast(net).map(AddressAttribute::Broadcast));
    if nodad {
        message.header.flags = AddressHeaderFlags::Nodad;
        message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    let what = format!("add address {net} to link {index}");
    Request::new(RTM_NEWADDR, Mode::Create, &message, what)
}

/// Deletes an address.
pub fn delete(index: u32, net: IpNetwork) -> Request {
    let what = format!("delete address {net} of link {index}");
    Request::new(RTM_DELADDR, Mode::Existing, &message(index, net), what)
}

fn message(index: u32, net: IpNetwork) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = match net {
        IpNetwork::V4(_) => AddressFamily::Inet,
        IpNetwork::V6(_) => AddressFamily::Inet6,
    };
    message.header.prefix_len = net.prefix();
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(net.ip()),
        AddressAttribute::Address(net.ip()),
    ];
    message
}

/// Point-to-point links and single addresses have none (RFC 3021).
fn broadcast(net: IpNetwork) -> Option<Ipv4Addr> {
    match net {
        IpNetwork::V4(net) if net.prefix() < 31 => Some(net.broadcast()),
        _ => None,
    }
}

/// An address out of what follows the netlink header; None for families other than IPv4 and IPv6.
pub(crate) fn read(payload: &[u8]) -> Read<Option<Address>> {
    let (ifaddr, rest) = header::<8>(payload)?;
    let [family, prefix, flags, scope, i0, i1, i2, i3] = ifaddr;
    if !crate::route::is_ip(family) {
        return Ok(None);
    }
    // IFA_LOCAL is the address, IFA_ADDRESS the peer's on point-to-point links; IPv6 mostly has IFA_ADDRESS alone
    let (mut local, mut peer) = (None, None);
    let (mut flags, mut label) = (u32::from(flags), None);
    for attribute in attributes(rest) {
        let attribute = attribute?;
        match attribute.kind {
            IFA_LOCAL => local = Some(attribute.ip()?),
            IFA_ADDRESS => peer = Some(attribute.ip()?),
            IFA_FLAGS => flags = attribute.u32()?,
            IFA_LABEL => label = Some(attribute.string()),
            _ => {}
        }
    }
    let ip: IpAddr = local
        .or(peer)
        .ok_or_else(|| Malformed("address message without an address".into()))?;
    let net = IpNetwork::new(ip, prefix).map_err(|error| Malformed(error.to_string()))?;
    Ok(Some(Address {
        index: u32::from_ne_bytes([i0, i1, i2, i3]),
        net,
        scope,
        flags,
        label,
    }))
}

impl Netlink {
    /// All addresses, or those of one link.
    pub fn addresses(&mut self, index: Option<u32>) -> Result<Vec<Address>> {
        let mut message = AddressMessage::default();
        message.header.index = index.unwrap_or_default();
        let what = match index {
            Some(index) => format!("list addresses of link {index}"),
            None => "list addresses".into(),
        };
        let request = Request::new(RTM_GETADDR, Mode::Dump, &message, what);
        self.client.dump(&request, |kind, payload| {
            if kind != RTM_NEWADDR {
                return Ok(None);
            }
            let address = read(payload)?;
            Ok(address.filter(|address| index.is_none_or(|index| address.index == index)))
        })
    }
}
