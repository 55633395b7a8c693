//! The gateway addresses of the bridge, and forwarding.

use crate::{Error, device::Device, error::Context};
use ipnetwork::IpNetwork;
use linux_net::{
    Netlink, address,
    link::{self, Change},
    sysctl,
};

const SET_ADDRESS: &str = "failed to set bridge addr";

/// Adds the gateway addresses to `device` and deletes conflicting ones. Err: an address conflicts,
/// `force` is false and the bridge has ports other than `own_ports`, which may use that address.
pub(crate) fn ensure_addresses(
    host: &mut Netlink,
    device: &Device,
    bridge: u32,
    gateways: &[IpNetwork],
    own_ports: &[u32],
    force: bool,
) -> Result<(), Error> {
    let present = host.addresses(Some(device.index)).context(SET_ADDRESS)?;
    let present: Vec<IpNetwork> = present.into_iter().map(|address| address.net).collect();
    let missing: Vec<(IpNetwork, Vec<IpNetwork>)> = gateways
        .iter()
        .filter_map(|&wanted| Some((wanted, conflicts(wanted, gateways, &present)?)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut conflicting = missing
        .iter()
        .flat_map(|(wanted, present)| present.iter().map(|&present| (*wanted, present)));
    if let Some((wanted, present)) = conflicting.next()
        && !force
    {
        let ports = ports(host, bridge, own_ports)?;
        if !ports.is_empty() {
            return Err(Error::OtherAddress {
                device: device.name.clone(),
                wanted,
                present,
                ports,
            });
        }
    }
    replace(host, device, &missing).context(SET_ADDRESS)
}

/// Deletes the conflicting addresses and adds the missing ones. A concurrent ADD may do the same.
fn replace(
    host: &mut Netlink,
    device: &Device,
    missing: &[(IpNetwork, Vec<IpNetwork>)],
) -> linux_net::Result<()> {
    let index = device.index;
    let conflicting = missing.iter().flat_map(|(_, conflicting)| conflicting);
    let removals: Vec<_> = conflicting
        .map(|&net| address::delete(index, net))
        .collect();
    let wanted = missing.iter().map(|(wanted, _)| *wanted);
    let mut additions: Vec<_> = wanted.map(|net| address::add(index, net, true)).collect();
    // fixes the MAC of a bridge that another program created: until it is set, it follows the ports
    additions.extend(device.mac.map(|mac| {
        let change = Change {
            mac: Some(mac),
            ..Change::default()
        };
        link::change(index, &change)
    }));
    ignoring(host.batch(&removals), linux_net::Error::is_absent)?;
    ignoring(host.batch(&additions), linux_net::Error::is_exists)
}

/// The present addresses that exclude `wanted`: each IPv4 address, and each IPv6 address whose
/// subnet overlaps. The other gateways of the pod never do. None: `wanted` itself is present.
fn conflicts(
    wanted: IpNetwork,
    gateways: &[IpNetwork],
    present: &[IpNetwork],
) -> Option<Vec<IpNetwork>> {
    if present.contains(&wanted) {
        return None;
    }
    let excludes = |other: &&IpNetwork| {
        !gateways.contains(other)
            && match (wanted, **other) {
                (IpNetwork::V4(_), IpNetwork::V4(_)) => true,
                (IpNetwork::V6(a), IpNetwork::V6(b)) => {
                    !b.ip().is_unicast_link_local() && (a.contains(b.ip()) || b.contains(a.ip()))
                }
                _ => false,
            }
    };
    Some(present.iter().filter(excludes).copied().collect())
}

/// The first error that is not harmless.
fn ignoring(
    answers: Vec<linux_net::Result<()>>,
    harmless: fn(&linux_net::Error) -> bool,
) -> linux_net::Result<()> {
    answers
        .into_iter()
        .find(|answer| answer.as_ref().is_err_and(|error| !harmless(error)))
        .unwrap_or(Ok(()))
}

/// The names of the bridge's ports other than `own`.
fn ports(host: &mut Netlink, bridge: u32, own: &[u32]) -> Result<Vec<String>, Error> {
    let links = host.links().context("failed to list links")?;
    Ok(links
        .into_iter()
        .filter(|link| link.master == Some(bridge) && !own.contains(&link.index))
        .map(|link| link.name)
        .collect())
}

/// The sysctl that makes the node forward packets of the address's family.
pub(crate) fn forwarding_key(address: IpNetwork) -> &'static str {
    match address {
        IpNetwork::V4(_) => "net/ipv4/ip_forward",
        IpNetwork::V6(_) => "net/ipv6/conf/all/forwarding",
    }
}

pub(crate) fn enable_forwarding(gateways: &[IpNetwork]) -> Result<(), Error> {
    let mut keys: Vec<_> = gateways.iter().copied().map(forwarding_key).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .try_for_each(|key| sysctl::set(key, "1").context("failed to enable forwarding"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNetwork> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn conflicting(wanted: &str, present: &[&str]) -> Option<Vec<IpNetwork>> {
        let wanted: IpNetwork = wanted.parse().unwrap();
        conflicts(wanted, &[wanted], &nets(present))
    }

    #[test]
    fn present_address_has_no_conflicts() {
        assert_eq!(
            conflicting("10.1.0.1/24", &["10.9.0.1/24", "10.1.0.1/24"]),
            None
        );
    }

    #[test]
    fn another_ipv4_address_conflicts() {
        assert_eq!(
            conflicting("10.1.0.1/24", &["10.9.0.1/24", "fd00::1/64"]),
            Some(nets(&["10.9.0.1/24"]))
        );
        // the same address with another prefix length is another address
        assert_eq!(
            conflicting("10.1.0.1/24", &["10.1.0.1/16"]),
            Some(nets(&["10.1.0.1/16"]))
        );
    }

    #[test]
    fn only_overlapping_ipv6_addresses_conflict() {
        let present = ["fe80::1/64", "fd00:9::1/64", "fd00:1::9/48", "10.1.0.1/24"];
        assert_eq!(
            conflicting("fd00:1::1/64", &present),
            Some(nets(&["fd00:1::9/48"]))
        );
    }

    #[test]
    fn gateways_of_one_pod_do_not_conflict() {
        let gateways = nets(&["10.1.0.1/24", "10.2.0.1/24"]);
        assert_eq!(
            conflicts(gateways[1], &gateways, &gateways[..1]),
            Some(Vec::new())
        );
    }
}
