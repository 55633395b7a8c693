//! CHECK: what ADD did is still there. Beyond upstream, also hairpin and isolation of the port, the bridge's gateway
//! addresses, forwarding, masquerade and the spoof check; and a bridge without IPAM can be checked.
use crate::{
    Error,
    check_addresses::{addresses_are_right, own_ips},
    conf::Settings,
    error::Step,
    masquerade,
    names::Owner,
    pod::Sandbox,
    spoof, vlan_port,
};
use cni_conf::{AddResult, Interface};
use ipnetwork::IpNetwork;
use linux_net::{
    Mac, Netlink,
    link::{BridgePort, Kind, Link},
    sysctl,
};
use plugin::{Call, Verb, delegate};

/// The whole verb.
pub fn check(call: &Call) -> Result<(), Error> {
    let settings = Settings::of(call)?;
    if settings.layer3 {
        delegate::ipam(call, Verb::Check)?;
    }
    let claimed = Claimed::of(call.prev_result()?, call, &settings)?;
    let mut host = Netlink::open().step("failed to open a netlink socket")?;
    let mut sandbox = Sandbox::open(&call.netns)?;

    let lookup = |name: &str| format!("failed to lookup {name:?}");
    let bridge = host
        .link_by_name(&claimed.bridge.name)
        .step(lookup(&claimed.bridge.name))?;
    let bridge = bridge_is_right(bridge, claimed.bridge, &settings)?;
    let container = sandbox
        .netlink
        .link_by_name(&claimed.container.name)
        .step(lookup(&claimed.container.name))?;
    let container = container_is_right(container, claimed.container)?;
    let port = find_port(&mut host, &claimed, &bridge, &container)?;
    port_is_right(&port, &settings)?;
    vlan_port::check(&mut host, &port, &settings.vlans)?;
    if settings.layer3 {
        addresses_are_right(&mut sandbox, &container, claimed.result)?;
        gateway_is_right(&mut host, &settings, &bridge, claimed.result)?;
    }
    filters_are_right(call, &settings, &port, &container, claimed.result)
}

pub(crate) fn wrong(text: impl Into<String>) -> Error {
    Error::Check(text.into())
}

/// What prevResult says of this attachment.
#[derive(Debug)]
struct Claimed<'a> {
    result: &'a AddResult,
    bridge: &'a Interface,
    container: &'a Interface,
}

impl<'a> Claimed<'a> {
    fn of(result: &'a AddResult, call: &'a Call, settings: &'a Settings) -> Result<Self, Error> {
        let bridge = (named(result, &settings.bridge).find(|i| i.sandbox.is_empty()))
            .or_else(|| named(result, &settings.bridge).next())
            .ok_or_else(|| wrong("Interface name missing "))?;
        if !bridge.sandbox.is_empty() {
            return Err(wrong(format!(
                "Interface {} should not be in sandbox",
                bridge.name
            )));
        }
        let container = named(result, &call.ifname)
            .find(|i| i.sandbox == call.netns)
            .ok_or_else(|| {
                let sandbox = named(result, &call.ifname)
                    .next()
                    .map_or("", |i| &i.sandbox);
                wrong(format!(
                    "Sandbox in prevResult {sandbox} doesn't match configured netns: {}",
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

fn same_mac(claimed: &str, actual: Option<Mac>) -> bool {
    claimed.is_empty() || claimed.parse().ok() == actual
}

fn bridge_is_right(
    link: Option<Link>,
    claimed: &Interface,
    settings: &Settings,
) -> Result<Link, Error> {
    let name = &claimed.name;
    let link = link.ok_or_else(|| wrong(format!("Interface name {name} not found")))?;
    let Kind::Bridge { vlan_filtering } = link.kind else {
        return Err(wrong(format!(
            "Interface {name} does not have link type of bridge"
        )));
    };
    if settings.vlans.any() && !vlan_filtering {
        return Err(wrong(format!(
            "Bridge interface {name} does not filter VLANs (ip link set {name} type bridge vlan_filtering 1)"
        )));
    }
    if !same_mac(&claimed.mac, link.mac) {
        let mac = &claimed.mac;
        return Err(wrong(format!(
            "Bridge interface {name} Mac doesn't match: {mac}"
        )));
    }
    if link.promisc != settings.promisc {
        return Err(wrong(format!(
            "Bridge interface {name} configured Promisc Mode {} doesn't match current state: {} ",
            settings.promisc, link.promisc
        )));
    }
    Ok(link)
}

fn container_is_right(link: Option<Link>, claimed: &Interface) -> Result<Link, Error> {
    let name = &claimed.name;
    let link = link.ok_or_else(|| wrong(format!("Interface name {name} not found")))?;
    if claimed.sandbox.is_empty() {
        return Err(wrong(format!(
            "Interface {name} is expected to be in a sandbox"
        )));
    }
    if link.kind != Kind::Veth {
        return Err(wrong(format!(
            "Error: Container interface {name} not of type veth"
        )));
    }
    if !same_mac(&claimed.mac, link.mac) {
        let mac = &claimed.mac;
        return Err(wrong(format!(
            "Interface {name} Mac {mac} doesn't match container Mac: {}",
            link.mac.map(|mac| mac.to_string()).unwrap_or_default()
        )));
    }
    Ok(link)
}

/// The host end: a veth whose peer is the container's interface and whose master is the bridge.
fn find_port(
    host: &mut Netlink,
    claimed: &Claimed,
    bridge: &Link,
    container: &Link,
) -> Result<Link, Error> {
    let candidates =
        claimed.result.interfaces.iter().filter(|interface| {
            interface.sandbox.is_empty() && interface.name != claimed.bridge.name
        });
    for interface in candidates {
        let link = host
            .link_by_name(&interface.name)
            .step(format!("failed to lookup {:?}", interface.name))?;
        let Some(link) = link else { continue };
        let peers = container.lower.is_none_or(|index| index == link.index)
            && link.lower.is_none_or(|index| index == container.index);
        if link.kind != Kind::Veth || link.master != Some(bridge.index) || !peers {
            continue;
        }
        if !same_mac(&interface.mac, link.mac) {
            return Err(wrong(format!(
                "Interface {} Mac doesn't match: {} not found",
                interface.name, interface.mac
            )));
        }
        return Ok(link);
    }
    Err(wrong(format!(
        "CNI veth created for bridge {} was not found",
        bridge.name
    )))
}

fn port_is_right(port: &Link, settings: &Settings) -> Result<(), Error> {
    let wanted = BridgePort {
        hairpin: settings.hairpin,
        isolated: settings.isolated,
    };
    let actual = port.port.unwrap_or_default();
    let pairs = [
        ("hairpin mode", wanted.hairpin, actual.hairpin),
        ("port isolation", wanted.isolated, actual.isolated),
    ];
    for (what, wanted, actual) in pairs {
        if wanted != actual {
            return Err(wrong(format!(
                "Bridge port {} configured {what} {wanted} doesn't match current state: {actual}",
                port.name
            )));
        }
    }
    Ok(())
}

/// The bridge answers as the pods' gateway, and the node forwards.
fn gateway_is_right(
    host: &mut Netlink,
    settings: &Settings,
    bridge: &Link,
    result: &AddResult,
) -> Result<(), Error> {
    if !settings.gateway {
        return Ok(());
    }
    let device = match settings.vlans.access {
        None => bridge.clone(),
        Some(vlan) => {
            let name = vlan_port::gateway_name(&bridge.name, vlan);
            host.link_by_name(&name)
                .step(format!("failed to lookup {name:?}"))?
                .ok_or_else(|| wrong(format!("Interface name {name} not found")))?
        }
    };
    let present = host
        .addresses(Some(device.index))
        .step(format!("could not list addresses of {:?}", device.name))?;
    for ip in &result.ips {
        let Some(gateway) = ip.gateway else { continue };
        if !present.iter().any(|address| address.net.ip() == gateway) {
            return Err(wrong(format!(
                "Bridge interface {} does not have the gateway address {gateway}",
                device.name
            )));
        }
    }
    forwarding_is_on(result.ips.iter().map(|ip| ip.address))
}

fn forwarding_is_on(addresses: impl Iterator<Item = IpNetwork>) -> Result<(), Error> {
    for address in addresses {
        let key = if address.is_ipv4() {
            "net/ipv4/ip_forward"
        } else {
            "net/ipv6/conf/all/forwarding"
        };
        if sysctl::get(key).step("failed to read forwarding")? == "0" {
            return Err(wrong(format!(
                "{} is 0: the node does not forward what pods send (sysctl -w {}=1)",
                key.replace('/', "."),
                key.replace('/', ".")
            )));
        }
    }
    Ok(())
}

/// Masquerade and spoof check.
fn filters_are_right(
    call: &Call,
    settings: &Settings,
    port: &Link,
    container: &Link,
    result: &AddResult,
) -> Result<(), Error> {
    let owner = Owner::of_call(call);
    if let Some(backend) = settings.masquerade {
        let ips: Vec<_> = own_ips(result, &call.ifname).cloned().collect();
        if !ips.is_empty() && !masquerade::is_complete(backend, &owner, &ips)? {
            return Err(wrong(format!(
                "masquerade rules of container {} are missing or changed",
                call.container_id
            )));
        }
    }
    if settings.spoof_check
        && let Some(mac) = container.mac
        && !spoof::is_complete(&owner, &port.name, mac)?
    {
        return Err(wrong(format!(
            "spoof check rules of container {} are missing or changed",
            call.container_id
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_compared_as_macs() {
        let mac = Mac([2, 0, 0, 0, 0, 0xab]);
        assert!(same_mac("02:00:00:00:00:AB", Some(mac)));
        assert!(same_mac("", Some(mac)));
        assert!(!same_mac("02:00:00:00:00:ac", Some(mac)));
        assert!(!same_mac("garbage", Some(mac)));
    }
}
