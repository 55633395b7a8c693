//! The VLANs of a pod's port on the bridge.

use super::Vlans;
use crate::{
    Error,
    device::Device,
    error::{Context, ensure},
};
use linux_net::{
    Netlink,
    bridge_vlan::{self, PortVlan},
    link::Link,
};
use std::collections::BTreeMap;

/// The VLAN of each new port (`vlan_default_pvid`), also of a trunk's untagged frames.
const DEFAULT_VLAN: u16 = 1;

/// Adds the port to its VLANs and removes it from those that the bridge gave it, unless
/// `preserveDefaultVlan` is set.
pub(crate) fn configure_port(
    host: &mut Netlink,
    port: &Device,
    vlans: &Vlans,
) -> Result<(), Error> {
    if !vlans.any() {
        return Ok(());
    }
    let mut requests = Vec::new();
    if !vlans.preserve_default {
        let present = host
            .bridge_vlans(port.index)
            .context(format!("failed to list the vlans of {:?}", port.name))?;
        let removals = present.into_iter();
        requests.extend(removals.map(|vlan| bridge_vlan::delete(port.index, vlan)));
    }
    let additions = wanted(vlans).into_iter();
    requests.extend(additions.map(|vlan| bridge_vlan::add(port.index, vlan)));
    host.batch(&requests)
        .into_iter()
        .collect::<linux_net::Result<()>>()
        .context(format!(
            "failed to setup vlan tag on interface {:?}",
            port.name
        ))
}

/// CHECK: the port is in its VLANs, and in no others unless `preserveDefaultVlan` is set.
pub(crate) fn check_port(host: &mut Netlink, port: &Link, vlans: &Vlans) -> Result<(), Error> {
    if !vlans.any() {
        return Ok(());
    }
    let present = host
        .bridge_vlans(port.index)
        .context(format!("failed to list the vlans of {:?}", port.name))?;
    ensure!(
        matches(&present, vlans),
        "Bridge port {} is not in the configured VLANs (see: bridge vlan show dev {})",
        port.name,
        port.name
    );
    Ok(())
}

/// The port's VLANs in the order of addition: a later entry overrides an earlier one.
fn wanted(vlans: &Vlans) -> Vec<PortVlan> {
    let mut wanted: Vec<PortVlan> = vlans.access.map(PortVlan::access).into_iter().collect();
    for &id in &vlans.trunk {
        match wanted.last_mut() {
            Some(range) if !range.pvid && range.last + 1 == id => range.last = id,
            _ => wanted.push(PortVlan::tagged(id)),
        }
    }
    if vlans.access.is_none() && vlans.any() {
        wanted.push(PortVlan::access(DEFAULT_VLAN));
    }
    wanted
}

fn matches(present: &[PortVlan], vlans: &Vlans) -> bool {
    let (present, wanted) = (by_id(present), by_id(&wanted(vlans)));
    let complete = wanted
        .iter()
        .all(|(id, flags)| present.get(id) == Some(flags));
    complete && (vlans.preserve_default || present.len() == wanted.len())
}

/// The flags (pvid, untagged) of each ID.
fn by_id(vlans: &[PortVlan]) -> BTreeMap<u16, (bool, bool)> {
    vlans
        .iter()
        .flat_map(|vlan| (vlan.first..=vlan.last).map(|id| (id, (vlan.pvid, vlan.untagged))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vlans(access: Option<u16>, trunk: &[u16], preserve_default: bool) -> Vlans {
        Vlans {
            access,
            trunk: trunk.to_vec(),
            preserve_default,
        }
    }

    fn range(first: u16, last: u16) -> PortVlan {
        PortVlan {
            last,
            ..PortVlan::tagged(first)
        }
    }

    #[test]
    fn adjacent_ids_are_merged_into_one_range() {
        assert_eq!(
            wanted(&vlans(Some(100), &[101, 102, 200, 4094], false)),
            [
                PortVlan::access(100),
                range(101, 102),
                range(200, 200),
                range(4094, 4094)
            ]
        );
    }

    #[test]
    fn trunk_without_access_vlan_keeps_the_default_vlan() {
        assert_eq!(
            wanted(&vlans(None, &[5, 6], false)),
            [range(5, 6), PortVlan::access(1)]
        );
        assert!(wanted(&vlans(None, &[], false)).is_empty());
    }

    #[test]
    fn other_vlans_are_a_mismatch_unless_the_default_is_preserved() {
        let present = [PortVlan::access(100), range(5, 7)];
        assert!(matches(&present, &vlans(Some(100), &[5, 6, 7], false)));
        assert!(!matches(&present, &vlans(Some(100), &[5, 6], false)));
        assert!(matches(&present, &vlans(Some(100), &[5, 6], true)));
        assert!(!matches(&present, &vlans(Some(100), &[5, 8], true)));
        assert!(!matches(&present, &vlans(Some(5), &[], true)));
    }

    proptest! {
        /// The ranges hold exactly the configured IDs.
        #[test]
        fn ranges_hold_exactly_the_configured_ids(
            access in prop::option::of(1u16..=4094),
            ids in prop::collection::btree_set(1u16..=4094, 0..60),
        ) {
            let trunk: Vec<u16> = ids.iter().copied().collect();
            let vlans = vlans(access, &trunk, false);
            let tagged = ids.iter().map(|&id| (id, (false, false)));
            let mut expected: BTreeMap<u16, (bool, bool)> = tagged.collect();
            match access {
                Some(id) => drop(expected.entry(id).or_insert((true, true))),
                None if !ids.is_empty() => drop(expected.insert(DEFAULT_VLAN, (true, true))),
                None => {}
            }
            prop_assert_eq!(by_id(&wanted(&vlans)), expected);
        }
    }
}
