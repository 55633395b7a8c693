//! Forwarding entries of a vxlan device (RTM_NEWNEIGH with AF_BRIDGE and NTF_SELF).

use crate::{
    Mac, Netlink, Request, Result,
    family::is_bridge,
    neighbour::{Entry, is_permanent},
    netlink::Mode,
};
use netlink_packet_route::{
    AddressFamily,
    neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
};
use nix::libc::{RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH};
use std::net::IpAddr;

/// An entry of the device itself (`self`): frames for the MAC go to the VTEP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FdbEntry {
    /// ifindex of the vxlan device
    pub index: u32,
    /// NDA_LLADDR
    pub mac: Mac,
    /// NDA_DST: the remote VTEP
    pub dst: Option<IpAddr>,
    /// NUD_*
    pub state: NeighbourState,
    /// read only: frames leave with another port or VNI, or by another link than the device's own
    /// (NDA_PORT, NDA_VNI, NDA_IFINDEX), or by a next-hop object (NDA_NH_ID)
    pub altered: bool,
}

impl FdbEntry {
    /// An entry that does not age.
    pub fn permanent(index: u32, mac: Mac, dst: IpAddr) -> Self {
        Self {
            index,
            mac,
            dst: Some(dst),
            state: NeighbourState::Permanent,
            altered: false,
        }
    }

    /// NUD_PERMANENT is set.
    pub fn is_permanent(&self) -> bool {
        is_permanent(self.state)
    }
}

/// Adds an entry, or replaces that of the same MAC.
pub fn replace(e: &FdbEntry) -> Request {
    let what = format!("replace FDB entry {}", described(e));
    Request::new(RTM_NEWNEIGH, Mode::Replace, &message(e), what)
}

/// Deletes an entry.
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
    message.header.state = e.state;
    message.header.flags = NeighbourFlags::Own;
    message.attributes = vec![NeighbourAttribute::LinkLayerAddress(e.mac.0.to_vec())];
    let dst = e.dst.map(|dst| NeighbourAttribute::Destination(dst.into()));
    message.attributes.extend(dst);
    message
}

impl Entry {
    /// None if it is not the device's own entry: a bridge's entries have no NTF_SELF.
    pub(crate) fn fdb(&self) -> Option<FdbEntry> {
        if !is_bridge(self.family) || !self.flags.contains(NeighbourFlags::Own) {
            return None;
        }
        Some(FdbEntry {
            index: self.index,
            mac: self.mac?,
            dst: self.ip,
            state: self.state,
            altered: self.altered,
        })
    }

    /// The same of a notification. None, too, if it only repeats a request: older kernels send such
    /// a one, without the entry's destination, besides that of the device, which has its times
    /// (`rtnl_fdb_notify` of net/core/rtnetlink.c, `vxlan_fdb_info` of
    /// drivers/net/vxlan/vxlan_core.c).
    pub(crate) fn notified_fdb(&self) -> Option<FdbEntry> {
        self.fdb().filter(|_| self.has_times)
    }
}

impl Netlink {
    /// The entries with NTF_SELF of one device. Devices other than vxlan list the group addresses
    /// that they listen to, without `dst`.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Of link 3 with NUD_PERMANENT and NTF_SELF, for 02:00:00:00:00:09.
    const ENTRY: &[u8] = &[
        7, 0, 0, 0, 3, 0, 0, 0, 0x80, 0, 2, 0, 10, 0, 2, 0, 2, 0, 0, 0, 0, 9, 0, 0,
    ];
    /// NDA_DST 192.0.2.9.
    const DST: &[u8] = &[8, 0, 1, 0, 192, 0, 2, 9];
    /// NDA_CACHEINFO.
    const TIMES: &[u8] = &[20, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    fn notified(parts: &[&[u8]]) -> Option<FdbEntry> {
        Entry::read(&parts.concat()).unwrap().notified_fdb()
    }

    #[test]
    fn notification_that_repeats_a_request_says_nothing_of_the_entry() {
        let whole = notified(&[ENTRY, DST, TIMES]).unwrap();
        let mac = Mac([2, 0, 0, 0, 0, 9]);
        let entry = FdbEntry::permanent(3, mac, [192, 0, 2, 9].into());
        assert_eq!(whole, entry);
        let without_destination = notified(&[ENTRY, TIMES]).unwrap();
        assert_eq!(without_destination, FdbEntry { dst: None, ..entry });
        assert_eq!(notified(&[ENTRY]), None);
    }
}
