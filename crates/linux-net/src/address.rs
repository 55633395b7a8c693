//! Addresses (rtnetlink(7) RTM_NEWADDR).

use crate::{
    Netlink, Request, Result,
    family::{self, is_ip},
    netlink::{Malformed, Mode, Read, attributes, header},
};
use ipnetwork::IpNetwork;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use nix::libc::{
    IFA_ADDRESS, IFA_FLAGS, IFA_LABEL, IFA_LOCAL, RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR,
};
use std::net::{IpAddr, Ipv4Addr};

pub use netlink_packet_route::address::{AddressFlags, AddressScope};

/// An address on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// ifindex
    pub index: u32,
    /// address and prefix length; host bits are kept
    pub net: IpNetwork,
    /// RT_SCOPE_*
    pub scope: AddressScope,
    /// IFA_F_*
    pub flags: AddressFlags,
    /// IFA_LABEL, of IPv4 addresses only
    pub label: Option<String>,
}

impl Address {
    /// IFA_F_TENTATIVE: duplicate address detection runs.
    pub fn tentative(&self) -> bool {
        self.flags.contains(AddressFlags::Tentative)
    }

    /// IFA_F_DADFAILED: another host has the address.
    pub fn dad_failed(&self) -> bool {
        self.flags.contains(AddressFlags::Dadfailed)
    }
}

/// Adds an address; EEXIST if it is there. IPv4 networks up to /30 get their broadcast address, as
/// from the Go plugins' netlink library. `nodad` sets IFA_F_NODAD.
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
    message.header.family = family::of(net.ip());
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

/// `struct ifaddrmsg` and IFA_*; None for families other than IPv4 and IPv6.
pub(crate) fn read(payload: &[u8]) -> Read<Option<Address>> {
    let (ifaddr, rest) = header::<8>(payload)?;
    let [family, prefix, flags, scope, index @ ..] = ifaddr;
    if !is_ip(family) {
        return Ok(None);
    }
    // on point-to-point links IFA_ADDRESS is the peer's; IPv6 mostly has IFA_ADDRESS alone
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
        index: u32::from_ne_bytes(index),
        net,
        scope: scope.into(),
        flags: AddressFlags::from_bits_retain(flags),
        label,
    }))
}

impl Netlink {
    /// The addresses of all links, or of one.
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
