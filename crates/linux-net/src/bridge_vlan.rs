//! VLANs of a bridge's ports: RTM_SETLINK and RTM_DELLINK with AF_BRIDGE and `struct
//! bridge_vlan_info` (linux/if_bridge.h). A kernel without CONFIG_BRIDGE_VLAN_FILTERING refuses
//! them with EOPNOTSUPP.

use crate::{
    Netlink, Request, Result,
    netlink::{Malformed, Mode, Read, attributes, header},
};
use netlink_packet_route::{
    AddressFamily,
    link::{
        AfSpecBridge, BridgeFlag, BridgeVlanInfo, BridgeVlanInfoFlags, LinkAttribute,
        LinkExtentMask, LinkMessage,
    },
};
use nix::libc::{IFLA_AF_SPEC, RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK, RTM_SETLINK};

// not in libc (linux/if_bridge.h)
const IFLA_BRIDGE_VLAN_INFO: u16 = 2;

/// A range of VLAN ids on one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortVlan {
    /// 1 to 4094
    pub first: u16,
    /// included; equal to `first` for a single VLAN
    pub last: u16,
    /// received frames without a tag belong to it (a single VLAN only)
    pub pvid: bool,
    /// frames are sent without a tag
    pub untagged: bool,
}

impl PortVlan {
    /// One VLAN with tagged frames.
    pub fn tagged(id: u16) -> Self {
        Self {
            first: id,
            last: id,
            pvid: false,
            untagged: false,
        }
    }

    /// The one VLAN of frames without a tag, in both directions.
    pub fn access(id: u16) -> Self {
        Self {
            pvid: true,
            untagged: true,
            ..Self::tagged(id)
        }
    }

    /// For messages: "100 pvid untagged", "200-300".
    fn summary(&self) -> String {
        let mut text = match self.first == self.last {
            true => self.first.to_string(),
            false => format!("{}-{}", self.first, self.last),
        };
        if self.pvid {
            text += " pvid";
        }
        if self.untagged {
            text += " untagged";
        }
        text
    }

    fn info(&self) -> Vec<AfSpecBridge> {
        let mut flags = BridgeVlanInfoFlags::empty();
        flags.set(BridgeVlanInfoFlags::Pvid, self.pvid);
        flags.set(BridgeVlanInfoFlags::Untagged, self.untagged);
        let info = |flags, vid| AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid });
        if self.first == self.last {
            return vec![info(flags, self.first)];
        }
        vec![
            info(flags | BridgeVlanInfoFlags::RangeBegin, self.first),
            info(flags | BridgeVlanInfoFlags::RangeEnd, self.last),
        ]
    }
}

/// Adds a port to VLANs; those that it is in already get these settings.
pub fn add(port: u32, vlan: PortVlan) -> Request {
    let what = format!("add vlan {} to bridge port {port}", vlan.summary());
    Request::new(RTM_SETLINK, Mode::Existing, &message(port, &vlan), what)
}

/// Removes a port from VLANs.
pub fn delete(port: u32, vlan: PortVlan) -> Request {
    let what = format!("delete vlan {} of bridge port {port}", vlan.summary());
    Request::new(RTM_DELLINK, Mode::Existing, &message(port, &vlan), what)
}

fn message(port: u32, vlan: &PortVlan) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.header.index = port;
    let mut parts = vec![AfSpecBridge::Flags(BridgeFlag::Controller)];
    parts.append(&mut vlan.info());
    message.attributes = vec![LinkAttribute::AfSpecBridge(parts)];
    message
}

impl Netlink {
    /// The VLANs of a bridge port; adjacent ids with equal settings are one range.
    pub fn bridge_vlans(&mut self, port: u32) -> Result<Vec<PortVlan>> {
        let mut message = LinkMessage::default();
        message.header.interface_family = AddressFamily::Bridge;
        message.attributes = vec![LinkAttribute::ExtMask(vec![
            LinkExtentMask::BrvlanCompressed,
        ])];
        let what = format!("list vlans of bridge port {port}");
        let request = Request::new(RTM_GETLINK, Mode::Dump, &message, what);
        let found = self.client.dump(&request, |kind, payload| match kind {
            RTM_NEWLINK => read(payload, port),
            _ => Ok(None),
        })?;
        Ok(found.into_iter().flatten().collect())
    }
}

/// The VLANs in a message about `port`; None if it is about another one.
pub(crate) fn read(payload: &[u8], port: u32) -> Read<Option<Vec<PortVlan>>> {
    let (ifinfo, rest) = header::<16>(payload)?;
    let [_, _, _, _, i0, i1, i2, i3, ..] = ifinfo;
    if u32::from_ne_bytes([i0, i1, i2, i3]) != port {
        return Ok(None);
    }
    let mut vlans = Vec::new();
    for attribute in attributes(rest) {
        let attribute = attribute?;
        if attribute.kind != IFLA_AF_SPEC {
            continue;
        }
        let mut begin = None;
        for part in attributes(attribute.value) {
            let part = part?;
            if part.kind == IFLA_BRIDGE_VLAN_INFO {
                let info = BridgeVlanInfo::try_from(part.value)?;
                vlans.extend(range(&mut begin, info)?);
            }
        }
    }
    Ok(Some(vlans))
}

/// Joins the two ends of a range; `begin` holds the first end until the other one comes.
fn range(begin: &mut Option<u16>, info: BridgeVlanInfo) -> Read<Option<PortVlan>> {
    if info.flags.contains(BridgeVlanInfoFlags::RangeBegin) {
        *begin = Some(info.vid);
        return Ok(None);
    }
    let first = match info.flags.contains(BridgeVlanInfoFlags::RangeEnd) {
        true => begin
            .take()
            .ok_or_else(|| Malformed("a range of vlans without its begin".into()))?,
        false => info.vid,
    };
    Ok(Some(PortVlan {
        first,
        last: info.vid,
        pvid: info.flags.contains(BridgeVlanInfoFlags::Pvid),
        untagged: info.flags.contains(BridgeVlanInfoFlags::Untagged),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PORT: [u8; 16] = [7, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    /// As `bridge vlan add dev X vid 100 pvid untagged master` and `... vid 200-300` send it.
    #[test]
    fn requests_are_those_of_iproute2() {
        let access = add(9, PortVlan::access(100));
        assert_eq!(access.what(), "add vlan 100 pvid untagged to bridge port 9");
        let expected = [
            &PORT[..],
            &[20, 0, 26, 0, 6, 0, 0, 0, 1, 0, 0, 0],
            &[8, 0, 2, 0, 6, 0, 100, 0],
        ];
        assert_eq!(access.body(), expected.concat());
        let trunk = PortVlan {
            last: 300,
            ..PortVlan::tagged(200)
        };
        let removed = delete(9, trunk);
        assert_eq!(removed.what(), "delete vlan 200-300 of bridge port 9");
        let expected = [
            &PORT[..],
            &[28, 0, 26, 0, 6, 0, 0, 0, 1, 0, 0, 0],
            &[8, 0, 2, 0, 8, 0, 200, 0, 8, 0, 2, 0, 16, 0, 44, 1],
        ];
        assert_eq!(removed.body(), expected.concat());
    }

    #[test]
    fn sent_vlans_are_read_back() {
        let trunk = PortVlan {
            last: 300,
            ..PortVlan::tagged(200)
        };
        for vlan in [PortVlan::access(1), PortVlan::tagged(4094), trunk] {
            let sent = add(9, vlan);
            assert_eq!(read(sent.body(), 9), Ok(Some(vec![vlan])));
            assert_eq!(read(sent.body(), 8), Ok(None));
        }
        let alone = [&PORT[..], &[12, 0, 26, 0, 8, 0, 2, 0, 16, 0, 44, 1]].concat();
        assert!(read(&alone, 9).is_err());
    }

    proptest! {
        #[test]
        fn no_answer_panics(tail in prop::collection::vec(any::<u8>(), 0..100)) {
            let answer = [&PORT[..], &[104, 0, 26, 0], &tail].concat();
            if let Ok(Some(vlans)) = read(&answer, 9) {
                prop_assert!(vlans.len() <= tail.len() / 8);
            }
        }
    }
}
