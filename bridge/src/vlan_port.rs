//! VLANs on the bridge: the pod's port, and the interface that is the gateway inside one VLAN.
use crate::{
    Error,
    bridge::Device,
    conf::{Settings, Vlans},
    error::Step,
    names::veth_name,
};
use linux_net::{
    Netlink, Request,
    bridge_vlan::{self, PortVlan},
    link::{self, Change, Link},
};
use std::collections::BTreeMap;

/// What the bridge gives each new port (`vlan_default_pvid`), and what a trunk's untagged frames belong to.
const DEFAULT: u16 = 1;

/// Puts the port into its VLANs; those that the bridge gave it go, unless `preserveDefaultVlan` says that they stay.
pub fn configure(host: &mut Netlink, port: &Device, vlans: &Vlans) -> Result<(), Error> {
    if !vlans.any() {
        return Ok(());
    }
    let mut requests = Vec::new();
    if !vlans.preserve_default {
        let present = host
            .bridge_vlans(port.index)
            .step(format!("failed to list the vlans of {:?}", port.name))?;
        let removals = present
            .into_iter()
            .map(|vlan| bridge_vlan::delete(port.index, vlan));
        requests.extend(removals);
    }
    let additions = wanted(vlans)
        .into_iter()
        .map(|vlan| bridge_vlan::add(port.index, vlan));
    requests.extend(additions);
    send(host, &requests).step(format!(
        "failed to setup vlan tag on interface {:?}",
        port.name
    ))
}

fn send(host: &mut Netlink, requests: &[Request]) -> linux_net::Result<()> {
    host.batch(requests).into_iter().collect()
}

/// In the order in which they are to be added: a later one changes what an earlier one said of the same id.
fn wanted(vlans: &Vlans) -> Vec<PortVlan> {
    let mut wanted: Vec<PortVlan> = vlans.access.map(PortVlan::access).into_iter().collect();
    for &id in &vlans.trunk {
        match wanted.last_mut() {
            Some(range) if !range.pvid && range.last + 1 == id => range.last = id,
            _ => wanted.push(PortVlan::tagged(id)),
        }
    }
    if vlans.access.is_none() && vlans.any() {
        wanted.push(PortVlan::access(DEFAULT));
    }
    wanted
}

/// Each id with whether it is the port's own and whether its frames go out untagged.
fn by_id(vlans: &[PortVlan]) -> BTreeMap<u16, (bool, bool)> {
    vlans
        .iter()
        .flat_map(|vlan| (vlan.first..=vlan.last).map(|id| (id, (vlan.pvid, vlan.untagged))))
        .collect()
}

/// The port is in its VLANs, and in no others unless `preserveDefaultVlan` says so.
pub fn check(host: &mut Netlink, port: &Link, vlans: &Vlans) -> Result<(), Error> {
    if !vlans.any() {
        return Ok(());
    }
    let present = host
        .bridge_vlans(port.index)
        .step(format!("failed to list the vlans of {:?}", port.name))?;
    if matches(&present, vlans) {
        return Ok(());
    }
    Err(Error::Check(format!(
        "Bridge port {} is not in the configured VLANs (see: bridge vlan show dev {})",
        port.name, port.name
    )))
}

fn matches(present: &[PortVlan], vlans: &Vlans) -> bool {
    let (present, wanted) = (by_id(present), by_id(&wanted(vlans)));
    let complete = wanted.iter().all(|(id, how)| present.get(id) == Some(how));
    complete && (vlans.preserve_default || present.len() == wanted.len())
}

/// `cni0.100`
pub fn gateway_name(bridge: &str, vlan: u16) -> String {
    format!("{bridge}.{vlan}")
}

/// The interface `BRIDGE.VLAN` that has the gateway address in the bridge's place: one end of a veth pair whose other end is a
/// port of the bridge in that VLAN. It stays when pods go, as the bridge does. The port's index is put into `own`.
pub fn gateway(
    host: &mut Netlink,
    bridge: &Device,
    settings: &Settings,
    own: &mut Vec<u32>,
) -> Result<Option<Device>, Error> {
    let Some(vlan) = settings.vlans.access else {
        return Ok(None);
    };
    let name = gateway_name(&bridge.name, vlan);
    let failed = format!("failed to create vlan gateway {name:?}");
    let link = match host.link_by_name(&name).step(failed.as_str())? {
        Some(link) => link,
        None => {
            let request = link::create_veth_here(&name, &veth_name(&name), Some(bridge.mtu));
            match host.request(&request) {
                // another ADD made it in this moment
                Err(error) if error.is_exists() => {}
                other => other.step(failed.as_str())?,
            }
            let link = host.link_by_name(&name).step(failed.as_str())?;
            link.ok_or_else(|| cni_conf::Error::internal(&failed))?
        }
    };
    let not_ours = || cni_conf::Error::internal(format!("{failed}: {name:?} is not a veth"));
    let port = link.lower.ok_or_else(not_ours)?;
    let port = host.link_by_index(port).step(failed.as_str())?;
    let port = port.ok_or_else(not_ours)?;
    own.push(port.index);
    if port.master != Some(bridge.index) || !link.up {
        connect(host, &link, port, bridge, vlan, settings)?;
    }
    Ok(Some(link.into()))
}

/// Coming up is the last step, so that a gateway that is not up is an unfinished one.
fn connect(
    host: &mut Netlink,
    gateway: &Link,
    port: Link,
    bridge: &Device,
    vlan: u16,
    settings: &Settings,
) -> Result<(), Error> {
    let failed = format!("failed to up {:?}", gateway.name);
    let up = Change {
        up: Some(true),
        ..Change::default()
    };
    let enslave = Change {
        master: Some(bridge.index),
        ..up.clone()
    };
    host.request(&link::change(port.index, &enslave))
        .step(failed.as_str())?;
    let vlans = Vlans {
        access: Some(vlan),
        trunk: Vec::new(),
        preserve_default: settings.vlans.preserve_default,
    };
    configure(host, &port.into(), &vlans)?;
    host.request(&link::change(gateway.index, &up)).step(failed)
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
    fn neighbouring_ids_make_one_range() {
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
    fn a_trunk_alone_keeps_a_vlan_for_untagged_frames() {
        assert_eq!(
            wanted(&vlans(None, &[5, 6], false)),
            [range(5, 6), PortVlan::access(1)]
        );
        assert!(wanted(&vlans(None, &[], false)).is_empty());
    }

    #[test]
    fn check_wants_exactly_these_unless_the_default_stays() {
        let present = [PortVlan::access(100), range(5, 7)];
        assert!(matches(&present, &vlans(Some(100), &[5, 6, 7], false)));
        assert!(!matches(&present, &vlans(Some(100), &[5, 6], false)));
        assert!(matches(&present, &vlans(Some(100), &[5, 6], true)));
        assert!(!matches(&present, &vlans(Some(100), &[5, 8], true)));
        assert!(!matches(&present, &vlans(Some(5), &[], true)));
    }

    proptest! {
        /// Ranges say exactly the ids that were asked for.
        #[test]
        fn nothing_is_lost_in_ranges(
            access in prop::option::of(1u16..=4094),
            ids in prop::collection::btree_set(1u16..=4094, 0..60),
        ) {
            let trunk: Vec<u16> = ids.iter().copied().collect();
            let vlans = vlans(access, &trunk, false);
            let tagged = ids.iter().map(|&id| (id, (false, false)));
            let mut expected: BTreeMap<u16, (bool, bool)> = tagged.collect();
            match access {
                Some(id) => drop(expected.entry(id).or_insert((true, true))),
                None if !ids.is_empty() => drop(expected.insert(DEFAULT, (true, true))),
                None => {}
            }
            prop_assert_eq!(by_id(&wanted(&vlans)), expected);
        }
    }
}
