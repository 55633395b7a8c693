//! Forwarding entries of a vxlan device (RTM_NEWNEIGH with AF_BRIDGE and NTF_SELF).

use crate::{
    Mac, Netlink, Request, Result,
    neighbour::{Entry, RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH},
    netlink::Mode,
};
use netlink_packet_route::{
    AddressFamily,
    neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage},
};
use std::net::IpAddr;

const AF_BRIDGE: u8 = 7;
const NTF_SELF: u8 = 0x02;

/// An entry with `self`: MAC behind VTEP.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FdbEntry {
    /// ifindex of the vxlan device
    pub index: u32,
    /// MAC
    pub mac: Mac,
    /// remote VTEP
    pub dst: Option<IpAddr>,
    /// NUD_* bits, 0x80 permanent
    pub state: u16,
}

impl FdbEntry {
    /// permanent, self
    pub fn permanent(index: u32, mac: Mac, dst: IpAddr) -> Self {
        Self {
            index,
            mac,
            dst: Some(dst),
            state: 0x80,
        }
    }

    /// NUD_PERMANENT, whatever else is set: `bridge fdb` and `ip neigh` add NUD_NOARP to some.
    pub fn is_permanent(&self) -> bool {
        self.state & 0x80 != 0
    }
}

/// NLM_F_CREATE|REPLACE
pub fn replace(e: &FdbEntry) -> Request {
    let what = format!("replace FDB entry {}", described(e));
    Request::new(RTM_NEWNEIGH, Mode::Replace, &message(e), what)
}

/// RTM_DELNEIGH
pub fn delete(e: &FdbEntry) -> Request {
    let what = format!("delete FDB entry {}", described(e));
    Request::new(RTM_DELNEIGH, Mode::Existing, &message(e), what)
}

fn described(e: &FdbEntry) -> String {
    let dst = e.dst.map(|dst| format!(" dst {dst}"));
    format!("{}{} on link {}", e.mac, dst.unwrap_or_default(), e.index)
}

fn message(e: &FdbEntry) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = e.index;
    message.header.state = e.state.into();
    message.header.flags = NeighbourFlags::Own;
    message.attributes = vec![NeighbourAttribute::LinkLayerAddress(e.mac.0.to_vec())];
    let dst = e.dst.map(|dst| NeighbourAttribute::Destination(dst.into()));
    message.attributes.extend(dst);
    message
}

impl Entry {
    /// None if it is not a device's own forwarding entry: a bridge's entries have no NTF_SELF.
    pub(crate) fn fdb(&self) -> Option<FdbEntry> {
        if self.family != AF_BRIDGE || self.flags & NTF_SELF == 0 {
            return None;
        }
        Some(FdbEntry {
            index: self.index,
            mac: self.mac?,
            dst: self.ip,
            state: self.state,
        })
    }
}

impl Netlink {
    /// Entries with NTF_SELF of one device. Devices other than vxlan list the group addresses that they listen to: no `dst`.
    pub fn fdb(&mut self, index: u32) -> Result<Vec<FdbEntry>> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = index;
        let what = format!("list FDB of link {index}");
        let request = Request::new(RTM_GETNEIGH, Mode::Dump, &message, what);
        self.client.dump(&request, |kind, payload| {
            if kind != RTM_NEWNEIGH {
                return Ok(None);
            }
            let entry = Entry::read(payload)?.fdb();
            Ok(entry.filter(|entry| entry.index == index))
        })
    }
}
