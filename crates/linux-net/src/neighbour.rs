//! Neighbours: ARP and NDP entries (rtnetlink(7) RTM_NEWNEIGH).

use crate::{
    Mac, Netlink, Request, Result, family,
    netlink::{Mode, Read, attributes, header},
};
use netlink_packet_route::{
    neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage},
    route::RouteType,
};
use nix::libc::{
    NDA_CACHEINFO, NDA_DST, NDA_IFINDEX, NDA_LLADDR, NDA_PORT, NDA_VNI, RTM_DELNEIGH, RTM_GETNEIGH,
    RTM_NEWNEIGH,
};
use std::net::IpAddr;

pub use netlink_packet_route::neighbour::NeighbourState;

// not in libc for every C library (linux/neighbour.h)
const NDA_NH_ID: u16 = 13;

/// An ARP or NDP entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// ifindex
    pub index: u32,
    /// NDA_DST
    pub ip: IpAddr,
    /// NDA_LLADDR; None while unresolved
    pub mac: Option<Mac>,
    /// NUD_*
    pub state: NeighbourState,
}

impl Neighbour {
    /// An entry that neither expires nor is resolved again.
    pub fn permanent(index: u32, ip: IpAddr, mac: Mac) -> Self {
        Self {
            index,
            ip,
            mac: Some(mac),
            state: NeighbourState::Permanent,
        }
    }

    /// NUD_PERMANENT is set.
    pub fn is_permanent(&self) -> bool {
        is_permanent(self.state)
    }
}

/// States are bits: `bridge fdb` and `ip neigh` set NUD_NOARP besides on some entries.
pub(crate) fn is_permanent(state: NeighbourState) -> bool {
    u16::from(state) & u16::from(NeighbourState::Permanent) != 0
}

/// Adds or replaces an entry.
pub fn replace(n: &Neighbour) -> Request {
    let mut message = message(n);
    message.header.state = n.state;
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

/// Deletes the entry of an address.
pub fn delete(n: &Neighbour) -> Request {
    let what = format!("delete neighbour {} of link {}", n.ip, n.index);
    Request::new(RTM_DELNEIGH, Mode::Existing, &message(n), what)
}

fn message(n: &Neighbour) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family::of(n.ip);
    message.header.ifindex = n.index;
    message.attributes = vec![NeighbourAttribute::Destination(n.ip.into())];
    message
}

/// An entry of any table that RTM_*NEIGH messages are about (`struct ndmsg`, NDA_*).
pub(crate) struct Entry {
    pub(crate) family: u8,
    pub(crate) index: u32,
    pub(crate) state: NeighbourState,
    pub(crate) flags: NeighbourFlags,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) mac: Option<Mac>,
    /// [`crate::fdb::FdbEntry::altered`]
    pub(crate) altered: bool,
    /// NDA_CACHEINFO is there.
    pub(crate) has_times: bool,
}

impl Entry {
    pub(crate) fn read(payload: &[u8]) -> Read<Entry> {
        let (ndmsg, rest) = header::<12>(payload)?;
        let [family, _, _, _, i0, i1, i2, i3, s0, s1, flags, _] = ndmsg;
        let mut entry = Entry {
            family,
            index: u32::from_ne_bytes([i0, i1, i2, i3]),
            state: u16::from_ne_bytes([s0, s1]).into(),
            flags: NeighbourFlags::from_bits_retain(flags),
            ip: None,
            mac: None,
            altered: false,
            has_times: false,
        };
        for attribute in attributes(rest) {
            let attribute = attribute?;
            match attribute.kind {
                // other families have addresses of other lengths
                NDA_DST => entry.ip = attribute.ip().ok(),
                NDA_LLADDR => entry.mac = attribute.mac(),
                // the kernel names them where they differ from the device's
                NDA_PORT | NDA_VNI | NDA_IFINDEX | NDA_NH_ID => entry.altered = true,
                NDA_CACHEINFO => entry.has_times = true,
                _ => {}
            }
        }
        Ok(entry)
    }

    /// None if it is not an ARP or NDP entry. Proxy entries are another table.
    pub(crate) fn neighbour(&self) -> Option<Neighbour> {
        if !family::is_ip(self.family) || self.flags.contains(NeighbourFlags::Proxy) {
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
    /// The entries of both families, of all links or of one.
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
