//! The bridge: made if it is not there, up, and with the gateway addresses of the pods behind it.
use crate::{
    Error,
    conf::Settings,
    error::{Step, best_effort},
};
use ipnetwork::IpNetwork;
use linux_net::{
    Mac, Netlink, address,
    link::{self, Change, Kind, Link},
    sysctl,
};
use nix::errno::Errno;

/// The bridge, or the VLAN interface that has the gateway address in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// ifindex
    pub index: u32,
    /// name
    pub name: String,
    /// MAC
    pub mac: Option<Mac>,
    /// bytes
    pub mtu: u32,
}

impl From<Link> for Device {
    fn from(link: Link) -> Self {
        Device {
            index: link.index,
            name: link.name,
            mac: link.mac,
            mtu: link.mtu,
        }
    }
}

/// The bridge of the settings, up. MTU and VLAN filtering of one that is already there are left alone.
pub fn ensure(host: &mut Netlink, settings: &Settings) -> Result<Device, Error> {
    let failed = |reason: String| Error::Bridge {
        name: settings.bridge.clone(),
        reason,
    };
    let link = match find(host, settings)? {
        Some(link) => link,
        None => {
            create(host, settings)?;
            find(host, settings)?.ok_or_else(|| {
                failed(format!(
                    "could not lookup {:?}: Link not found",
                    settings.bridge
                ))
            })?
        }
    };
    if !matches!(link.kind, Kind::Bridge { .. }) {
        return Err(failed(format!(
            "{:?} already exists but is not a bridge",
            settings.bridge
        )));
    }
    // a router's advertisements are not for the bridge of its own pods; without IPv6 there is no such file
    best_effort(sysctl::set(
        &format!("net/ipv6/conf/{}/accept_ra", settings.bridge),
        "0",
    ));
    let promisc = settings.promisc && !link.promisc;
    if promisc || !link.up {
        let change = Change {
            up: Some(true),
            promisc: promisc.then_some(true),
            ..Change::default()
        };
        host.request(&link::change(link.index, &change))
            .map_err(|error| failed(error.to_string()))?;
    }
    Ok(link.into())
}

fn find(host: &mut Netlink, settings: &Settings) -> Result<Option<Link>, Error> {
    host.link_by_name(&settings.bridge)
        .map_err(|error| Error::Bridge {
            name: settings.bridge.clone(),
            reason: format!("could not lookup {:?}: {error}", settings.bridge),
        })
}

/// A MAC given at creation stays: otherwise the bridge would take that of whichever port has the lowest, and change with it.
fn create(host: &mut Netlink, settings: &Settings) -> Result<(), Error> {
    let failed = |reason: String| Error::Bridge {
        name: settings.bridge.clone(),
        reason: format!("could not add {:?}: {reason}", settings.bridge),
    };
    let mac = Mac::random().map_err(|error| failed(error.to_string()))?;
    let request = link::create_bridge(
        &settings.bridge,
        settings.mtu,
        settings.vlans.any(),
        Some(mac),
    );
    match host.request(&request) {
        // another ADD made it in this moment
        Err(error) if error.is_exists() => Ok(()),
        Err(error) if settings.vlans.any() && error.errno() == Some(Errno::EOPNOTSUPP) => {
            let hint = "vlan and vlanTrunk need a kernel with CONFIG_BRIDGE_VLAN_FILTERING";
            Err(failed(format!("{error}; {hint}")))
        }
        other => other.map_err(|error| failed(error.to_string())),
    }
}

/// What an address that should be on the bridge needs.
#[derive(Debug, PartialEq)]
enum Need {
    Nothing,
    /// to be added, after these are removed
    Add(Vec<IpNetwork>),
}

/// IPv4: one address only. IPv6: several, as long as their subnets do not overlap. The other gateways of the same pod never
/// stand in the way.
fn need(wanted: IpNetwork, gateways: &[IpNetwork], present: &[IpNetwork]) -> Need {
    if present.contains(&wanted) {
        return Need::Nothing;
    }
    let in_the_way = |other: &&IpNetwork| {
        !gateways.contains(other)
            && match (wanted, **other) {
                (IpNetwork::V4(_), IpNetwork::V4(_)) => true,
                (IpNetwork::V6(a), IpNetwork::V6(b)) => {
                    !b.ip().is_unicast_link_local() && (a.contains(b.ip()) || b.contains(a.ip()))
                }
                _ => false,
            }
    };
    Need::Add(present.iter().filter(in_the_way).copied().collect())
}

/// Gives `device` the gateway addresses. An address of another subnet is replaced when nothing can be using it (no port but
/// `own`), or when `forceAddress` says so.
pub fn ensure_addresses(
    host: &mut Netlink,
    settings: &Settings,
    device: &Device,
    bridge: &Device,
    gateways: &[IpNetwork],
    own: &[u32],
) -> Result<(), Error> {
    let failed = |error: linux_net::Error| Error::BridgeAddress(error.to_string());
    let present: Vec<IpNetwork> = host
        .addresses(Some(device.index))
        .map_err(failed)?
        .into_iter()
        .map(|address| address.net)
        .collect();
    let (mut removals, mut additions) = (Vec::new(), Vec::new());
    for &wanted in gateways {
        let Need::Add(others) = need(wanted, gateways, &present) else {
            continue;
        };
        if let Some(&other) = others.first()
            && !settings.force_address
        {
            let ports = ports(host, bridge.index, own)?;
            if !ports.is_empty() {
                return Err(Error::OtherAddress {
                    bridge: device.name.clone(),
                    wanted,
                    present: other,
                    ports,
                });
            }
        }
        removals.extend(others.iter().map(|&net| address::delete(device.index, net)));
        additions.push(address::add(device.index, wanted, true));
    }
    if additions.is_empty() {
        return Ok(());
    }
    // a bridge that somebody else made follows its ports' MACs until it is given one
    additions.extend(device.mac.map(|mac| {
        let change = Change {
            mac: Some(mac),
            ..Change::default()
        };
        link::change(device.index, &change)
    }));
    // another ADD may do the same in this moment
    tolerate(host.batch(&removals), linux_net::Error::is_absent)
        .and_then(|()| tolerate(host.batch(&additions), linux_net::Error::is_exists))
        .map_err(failed)
}

fn tolerate(
    answers: Vec<linux_net::Result<()>>,
    harmless: fn(&linux_net::Error) -> bool,
) -> linux_net::Result<()> {
    answers
        .into_iter()
        .find(|answer| answer.as_ref().is_err_and(|error| !harmless(error)))
        .unwrap_or(Ok(()))
}

/// The names of the bridge's ports, but for our own.
fn ports(host: &mut Netlink, bridge: u32, own: &[u32]) -> Result<Vec<String>, Error> {
    let links = host.links().step("failed to list links")?;
    Ok(links
        .into_iter()
        .filter(|link| link.master == Some(bridge) && !own.contains(&link.index))
        .map(|link| link.name)
        .collect())
}

/// Lets the node forward what the pods send.
pub fn enable_forwarding(gateways: &[IpNetwork]) -> Result<(), Error> {
    let keys = [
        (false, "net/ipv4/ip_forward"),
        (true, "net/ipv6/conf/all/forwarding"),
    ];
    for (v6, key) in keys {
        if gateways.iter().any(|gateway| gateway.is_ipv6() == v6) {
            sysctl::set(key, "1").step("failed to enable forwarding")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNetwork> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn needed(wanted: &str, present: &[&str]) -> Need {
        let wanted: IpNetwork = wanted.parse().unwrap();
        need(wanted, &[wanted], &nets(present))
    }

    #[test]
    fn the_address_itself_is_enough() {
        assert_eq!(
            needed("10.1.0.1/24", &["10.9.0.1/24", "10.1.0.1/24"]),
            Need::Nothing
        );
    }

    #[test]
    fn another_ipv4_address_stands_in_the_way() {
        assert_eq!(
            needed("10.1.0.1/24", &["10.9.0.1/24", "fd00::1/64"]),
            Need::Add(nets(&["10.9.0.1/24"]))
        );
        // the same address with another prefix is another address
        assert_eq!(
            needed("10.1.0.1/24", &["10.1.0.1/16"]),
            Need::Add(nets(&["10.1.0.1/16"]))
        );
    }

    #[test]
    fn only_overlapping_ipv6_addresses_stand_in_the_way() {
        let present = ["fe80::1/64", "fd00:9::1/64", "fd00:1::9/48", "10.1.0.1/24"];
        assert_eq!(
            needed("fd00:1::1/64", &present),
            Need::Add(nets(&["fd00:1::9/48"]))
        );
    }

    #[test]
    fn a_pods_own_gateways_live_together() {
        let gateways = nets(&["10.1.0.1/24", "10.2.0.1/24"]);
        assert_eq!(
            need(gateways[1], &gateways, &gateways[..1]),
            Need::Add(Vec::new())
        );
    }
}
