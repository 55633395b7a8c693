//! Neighbours: ARP and NDP entries (rtnetlink(7) RTM_NEWNEIGH).

use crate::{
    Mac, Netlink, Request, Result,
    netlink::{Mode, Read, attributes, header},
};
use netlink_packet_route::{
    AddressFamily,
    neighbour::{NeighbourAttribute, NeighbourMessage},
    route::RouteType,
};
use std::net::IpAddr;

pub(crate) const RTM_NEWNEIGH: u16 = 28;
pub(crate) const RTM_DELNEIGH: u16 = 29;
pub(crate) const RTM_GETNEIGH: u16 = 30;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// Proxy entries are another table that shares the messages.
const NTF_PROXY: u8 = 0x08;

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Neighbour {
    /// ifindex
    pub index: u32,
    /// address
    pub ip: IpAddr,
    /// MAC; None while unresolved
    pub mac: Option<Mac>,
    /// NUD_* bits, 0x80 permanent
    pub state: u16,
}

impl Neighbour {
    /// NUD_PERMANENT
    pub fn permanent(index: u32, ip: IpAddr, mac: Mac) -> Self {
        Self {
            index,
            ip,
            mac: Some(mac),
            state: 0x80,
        }
    }

    /// NUD_PERMANENT, whatever else is set: `bridge fdb` and `ip neigh` add NUD_NOARP to some.
    pub fn is_permanent(&self) -> bool {
        self.state & 0x80 != 0
    }
}

/// NLM_F_CREATE|REPLACE
pub fn replace(n: &Neighbour) -> Request {
    let mut message = message(n);
    message.header.state = n.state.into();
    message.header.kind = RouteType::Unicast;
    let mac = n.mac.map(|mac| mac.0.to_vec());
    message
        .attributes
        .extend(mac.map(NeighbourAttribute::LinkLayerAddress));
    let mac = n.mac.map(|mac| format!(" lladdr {mac}"));
    let what = format!(
        "replace neighbour {}{} on link {}",
        n.ip,
        mac.unwrap_or_default(),
        n.index
    );
    Request::new(RTM_NEWNEIGH, Mode::Replace, &message, what)
}

/// RTM_DELNEIGH
pub fn delete(n: &Neighbour) -> Request {
    let what = format!("delete neighbour {} of link {}", n.ip, n.index);
    Request::new(RTM_DELNEIGH, Mode::Existing, &message(n), what)
}

fn message(n: &Neighbour) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = match n.ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.ifindex = n.index;
    message.attributes = vec![NeighbourAttribute::Destination(n.ip.into())];
    message
}

/// What an RTM_*NEIGH message says, whichever table it is about (`struct ndmsg`, NDA_*).
pub(crate) struct Entry {
    pub(crate) family: u8,
    pub(crate) index: u32,
    pub(crate) state: u16,
    pub(crate) flags: u8,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) mac: Option<Mac>,
}

impl Entry {
    pub(crate) fn read(payload: &[u8]) -> Read<Entry> {
        let (ndmsg, rest) = header::<12>(payload)?;
        let [family, _, _, _, i0, i1, i2, i3, s0, s1, flags, _] = ndmsg;
        let mut entry = Entry {
            family,
            index: u32::from_ne_bytes([i0, i1, i2, i3]),
            state: u16::from_ne_bytes([s0, s1]),
            flags,
            ip: None,
            mac: None,
        };
        for attribute in attributes(rest) {
            let attribute = attribute?;
            match attribute.kind {
                // other families have other addresses there
                NDA_DST => entry.ip = attribute.ip().ok(),
                NDA_LLADDR => entry.mac = attribute.mac(),
                _ => {}
            }
        }
        Ok(entry)
    }

    /// None if it is not an ARP or NDP entry.
    pub(crate) fn neighbour(&self) -> Option<Neighbour> {
        if !crate::route::is_ip(self.family) || self.flags & NTF_PROXY != 0 {
            return None;
        }
        Some(Neighbour {
            index: self.index,
            ip: self.ip?,
            mac: self.mac,
            state: self.state,
        })
    }
}

impl Netlink {
    /// Both families, or of one link.
    pub fn neighbours(&mut self, index: Option<u32>) -> Result<Vec<Neighbour>> {
        let mut message = NeighbourMessage::default();
        message
            .attributes
            .extend(index.map(NeighbourAttribute::IfIndex));
        let what = match index {
            Some(index) => format!("list neighbours of link {index}"),
            None => "list neighbours".into(),
        };
        let request = Request::new(RTM_GETNEIGH, Mode::Dump, &message, what);
        self.client.dump(&request, |kind, payload| {
            if kind != RTM_NEWNEIGH {
                return Ok(None);
            }
            let neighbour = Entry::read(payload)?.neighbour();
            Ok(neighbour.filter(|neighbour| index.is_none_or(|index| neighbour.index == index)))
        })
    }
}
