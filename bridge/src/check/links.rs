//! CHECK of the links: bridge, host end and container's interface as prevResult claims them.

use crate::{Error, conf::Settings, device::lookup, error::ensure, sandbox::Sandbox};
use cni_conf::{AddResult, Interface};
use linux_net::{
    Mac, Netlink,
    link::{BridgePort, Kind, Link},
};
use plugin::Call;

/// What prevResult claims of this attachment.
#[derive(Debug)]
pub(super) struct Claimed<'a> {
    pub(super) result: &'a AddResult,
    pub(super) bridge: &'a Interface,
    pub(super) container: &'a Interface,
}

impl<'a> Claimed<'a> {
    pub(super) fn new(
        result: &'a AddResult,
        call: &'a Call,
        settings: &'a Settings,
    ) -> Result<Self, Error> {
        let bridge = (named(result, &settings.bridge).find(|i| i.sandbox.is_empty()))
            .or_else(|| named(result, &settings.bridge).next())
            .ok_or_else(|| Error::Mismatch("Interface name missing ".into()))?;
        ensure!(
            bridge.sandbox.is_empty(),
            "Interface {} should not be in sandbox",
            bridge.name
        );
        let container = named(result, &call.ifname).find(|i| i.sandbox == call.netns);
        let container = container.ok_or_else(|| {
            let other = named(result, &call.ifname).next();
            Error::Mismatch(format!(
                "Sandbox in prevResult {} doesn't match configured netns: {}",
                other.map_or("", |interface| &interface.sandbox),
                call.netns
            ))
        })?;
        Ok(Self {
            result,
            bridge,
            container,
        })
    }
}

fn named<'a>(result: &'a AddResult, name: &'a str) -> impl Iterator<Item = &'a Interface> {
    result.interfaces.iter().filter(move |i| i.name == name)
}

pub(super) fn lookup_claimed(netlink: &mut Netlink, name: &str) -> Result<Link, Error> {
    lookup(netlink, name)?
        .ok_or_else(|| Error::Mismatch(format!("Interface name {name} not found")))
}

/// An empty claim matches each MAC.
fn same_mac(claimed: &str, actual: Option<Mac>) -> bool {
    claimed.is_empty() || claimed.parse().ok() == actual
}

pub(super) fn check_bridge(
    host: &mut Netlink,
    claimed: &Interface,
    settings: &Settings,
) -> Result<Link, Error> {
    let Interface { name, mac, .. } = claimed;
    let link = lookup_claimed(host, name)?;
    let Kind::Bridge { vlan_filtering } = link.kind else {
        return Err(Error::Mismatch(format!(
            "Interface {name} does not have link type of bridge"
        )));
    };
    ensure!(
        vlan_filtering || !settings.vlans.any(),
        "Bridge interface {name} does not filter VLANs (ip link set {name} type bridge vlan_filtering 1)"
    );
    ensure!(
        same_mac(mac, link.mac),
        "Bridge interface {name} Mac doesn't match: {mac}"
    );
    ensure!(
        link.promisc == settings.promisc,
        "Bridge interface {name} configured Promisc Mode {} doesn't match current state: {} ",
        settings.promisc,
        link.promisc
    );
    Ok(link)
}

pub(super) fn check_container(sandbox: &mut Sandbox, claimed: &Interface) -> Result<Link, Error> {
    let Interface { name, mac, .. } = claimed;
    let link = lookup_claimed(&mut sandbox.netlink, name)?;
    ensure!(
        !claimed.sandbox.is_empty(),
        "Interface {name} is expected to be in a sandbox"
    );
    ensure!(
        link.kind == Kind::Veth,
        "Error: Container interface {name} not of type veth"
    );
    ensure!(
        same_mac(mac, link.mac),
        "Interface {name} Mac {mac} doesn't match container Mac: {}",
        link.mac.map(|mac| mac.to_string()).unwrap_or_default()
    );
    Ok(link)
}

/// Finds the host end: a veth whose peer is the container's interface and whose master is the
/// bridge.
pub(super) fn find_port(
    host: &mut Netlink,
    claimed: &Claimed<'_>,
    bridge: &Link,
    container: &Link,
) -> Result<Link, Error> {
    let on_host = claimed
        .result
        .interfaces
        .iter()
        .filter(|i| i.sandbox.is_empty() && i.name != claimed.bridge.name);
    for Interface { name, mac, .. } in on_host {
        let Some(link) = lookup(host, name)? else {
            continue;
        };
        let peers = container.lower.is_none_or(|index| index == link.index)
            && link.lower.is_none_or(|index| index == container.index);
        if link.kind != Kind::Veth || link.master != Some(bridge.index) || !peers {
            continue;
        }
        ensure!(
            same_mac(mac, link.mac),
            "Interface {name} Mac doesn't match: {mac} not found"
        );
        return Ok(link);
    }
    Err(Error::Mismatch(format!(
        "CNI veth created for bridge {} was not found",
        bridge.name
    )))
}

/// Hairpin mode and isolation.
pub(super) fn check_port(port: &Link, settings: &Settings) -> Result<(), Error> {
    let BridgePort { hairpin, isolated } = port.port.unwrap_or_default();
    let settings = [
        ("hairpin mode", settings.hairpin, hairpin),
        ("port isolation", settings.isolated, isolated),
    ];
    for (what, wanted, actual) in settings {
        ensure!(
            wanted == actual,
            "Bridge port {} configured {what} {wanted} doesn't match current state: {actual}",
            port.name
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_compared_by_value() {
        let mac = Mac([2, 0, 0, 0, 0, 0xab]);
        assert!(same_mac("02:00:00:00:00:AB", Some(mac)));
        assert!(same_mac("", Some(mac)));
        assert!(!same_mac("02:00:00:00:00:ac", Some(mac)));
        assert!(!same_mac("garbage", Some(mac)));
    }
}
