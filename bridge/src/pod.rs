//! The veth pair: its host end on the bridge, its other end inside the container with addresses and routes.
use crate::{
    Error,
    bridge::Device,
    conf::Settings,
    error::{Step, best_effort},
    names::Owner,
    plan::Plan,
};
use go_compat::cidr;
use linux_net::{
    Mac, NetNs, Netlink, Request, address,
    link::{self, BridgePort, Change, Kind, Link, VethPeer},
    route, sysctl,
};
use std::path::Path;

/// How many names are tried for the host end.
const NAMES: u32 = 10;

/// A container's network namespace, with a socket inside.
#[derive(Debug)]
pub struct Sandbox {
    /// the namespace
    pub ns: NetNs,
    /// in it
    pub netlink: Netlink,
}

impl Sandbox {
    /// Opens CNI_NETNS.
    pub fn open(path: &str) -> Result<Sandbox, Error> {
        let failed = |source| Error::Namespace {
            path: path.to_owned(),
            source,
        };
        let ns = NetNs::open(Path::new(path)).map_err(failed)?;
        let netlink = Netlink::open_in(&ns).map_err(failed)?;
        Ok(Sandbox { ns, netlink })
    }
}

/// The pair, as it was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Veth {
    /// the host end
    pub host: Device,
    /// the container's end; its MAC is the one that was asked for
    pub container: Device,
}

/// Makes the pair: host end up, on the bridge, hairpin and isolation set, and marked as ours, all in one packet, so that a
/// process that is killed leaves either nothing or what GC recognises.
pub fn create(
    host: &mut Netlink,
    sandbox: &mut Sandbox,
    owner: &Owner,
    ifname: &str,
    bridge: &Device,
    settings: &Settings,
) -> Result<Veth, Error> {
    let failed = "failed to make veth pair";
    let random =
        || Mac::random().map_err(|error| cni_conf::Error::internal(format!("{failed}: {error}")));
    let mac = match settings.mac {
        Some(mac) => mac,
        None => random()?,
    };
    let peer = VethPeer {
        name: ifname.to_owned(),
        mac: Some(mac),
    };
    let port = BridgePort {
        hairpin: settings.hairpin,
        isolated: settings.isolated,
    };
    for n in 0..NAMES {
        let name = owner.host_veth(n);
        if !free(host, &name, owner)? {
            continue;
        }
        let end = VethPeer {
            name: name.clone(),
            mac: Some(random()?),
        };
        let requests = [
            link::create_veth(&end, settings.mtu, Some(bridge.index), &peer, &sandbox.ns),
            link::mark_port(&name, &owner.alias(), port),
        ];
        let answers = host.batch(&requests);
        let made = answers.first().is_some_and(Result::is_ok);
        match answers.into_iter().collect::<linux_net::Result<()>>() {
            Ok(()) => {
                let veth = look(host, sandbox, &name, ifname, mac);
                return or_remove(veth, host, &name);
            }
            Err(error) if error.is_exists() && !made => {
                let taken = sandbox.netlink.link_by_name(ifname).step(failed)?;
                if taken.is_some() {
                    return Err(interface_exists(owner, ifname));
                }
            }
            Err(error) if made => return or_remove(Err(error).step(failed), host, &name),
            Err(error) => return Err(error).step(failed),
        }
    }
    Err(cni_conf::Error::internal(format!("{failed}: no free name for the host end")).into())
}

/// A pair that nobody can use goes at once.
fn or_remove<T>(result: Result<T, Error>, host: &mut Netlink, name: &str) -> Result<T, Error> {
    if result.is_err() {
        best_effort(remove(host, name));
    }
    result
}

/// What CNI says when the interface name is in use.
pub fn interface_exists(owner: &Owner, ifname: &str) -> Error {
    Error::InterfaceExists {
        ifname: ifname.to_owned(),
        host: owner.host_veth(0),
    }
}

/// No link has the name. One that this very attachment left in an earlier namespace is removed.
fn free(host: &mut Netlink, name: &str, owner: &Owner) -> Result<bool, Error> {
    let failed = "failed to make veth pair";
    match host.link_by_name(name).step(failed)? {
        None => Ok(true),
        Some(link) if is_of(&link, owner) => {
            remove(host, name).step(failed)?;
            Ok(true)
        }
        Some(_) => Ok(false),
    }
}

/// Ours, and this attachment's.
pub fn is_of(link: &Link, owner: &Owner) -> bool {
    link.kind == Kind::Veth && link.alias.as_deref() == Some(owner.alias().as_str())
}

/// Deletes a link; one that is gone is no error.
pub fn remove(netlink: &mut Netlink, name: &str) -> linux_net::Result<()> {
    match netlink.request(&link::delete_by_name(name)) {
        Err(error) if error.is_absent() => Ok(()),
        other => other,
    }
}

/// The host end of this attachment, found by its name and its mark.
pub fn host_end(host: &mut Netlink, owner: &Owner) -> linux_net::Result<Option<Link>> {
    for n in 0..NAMES {
        match host.link_by_name(&owner.host_veth(n))? {
            None => return Ok(None),
            Some(link) if is_of(&link, owner) => return Ok(Some(link)),
            Some(_) => {}
        }
    }
    Ok(None)
}

fn look(
    host: &mut Netlink,
    sandbox: &mut Sandbox,
    name: &str,
    ifname: &str,
    mac: Mac,
) -> Result<Veth, Error> {
    let gone = |name: &str| {
        cni_conf::Error::internal(format!("failed to lookup {name:?}: Link not found"))
    };
    let end = host
        .link_by_name(name)
        .step(format!("failed to lookup {name:?}"))?
        .ok_or_else(|| gone(name))?;
    // older kernels leave the peer's index out when it happens to be the same on both sides
    let index = match end.lower {
        Some(index) => index,
        None => {
            let link = sandbox.netlink.link_by_name(ifname);
            let link = link.step(format!("failed to lookup {ifname:?}"))?;
            link.ok_or_else(|| gone(ifname))?.index
        }
    };
    let container = Device {
        index,
        name: ifname.to_owned(),
        mac: Some(mac),
        mtu: end.mtu,
    };
    Ok(Veth {
        host: end.into(),
        container,
    })
}

/// Sets the container's interface up without addresses.
pub fn bring_up(sandbox: &mut Sandbox, container: &Device) -> Result<(), Error> {
    sandbox
        .netlink
        .request(&up(container.index))
        .step(format!("failed to set {:?} up", container.name))
}

fn up(index: u32) -> Request {
    let change = Change {
        up: Some(true),
        ..Change::default()
    };
    link::change(index, &change)
}

/// What the kernel has to know before the interface comes up: whether to look for duplicates (which delays IPv6 by a second or
/// two), and that it announces its IPv4 address (the gratuitous ARP that updates the neighbours' caches).
pub fn prepare(
    sandbox: &Sandbox,
    ifname: &str,
    settings: &Settings,
    ipv6: bool,
) -> Result<(), Error> {
    let write = || {
        let key =
            |family: &str, ifname: &str, key: &str| format!("net/{family}/conf/{ifname}/{key}");
        if settings.dad {
            best_effort(sysctl::set(&key("ipv6", ifname, "enhanced_dad"), "1"));
        }
        let dad = if settings.dad { "1" } else { "0" };
        best_effort(sysctl::set(&key("ipv6", ifname, "accept_dad"), dad));
        best_effort(sysctl::set(&key("ipv4", ifname, "arp_notify"), "1"));
        if ipv6 {
            for interface in ["lo", ifname] {
                sysctl::set(&key("ipv6", interface, "disable_ipv6"), "0")
                    .step(format!("failed to enable IPv6 for interface {interface:?}"))?;
            }
            sysctl::set(&key("ipv6", ifname, "keep_addr_on_down"), "1").step(format!(
                "failed to enable keep_addr_on_down for interface {ifname:?}"
            ))?;
        }
        Ok(())
    };
    sandbox
        .ns
        .run(write)
        .step("failed to enter the container's network namespace")?
}

/// Addresses, up: in one packet, and with the routes too unless duplicate address detection has to end before them.
pub fn configure(
    sandbox: &mut Sandbox,
    container: &Device,
    plan: &Plan,
    settings: &Settings,
) -> Result<(), Error> {
    let mut steps: Vec<(Request, String)> = Vec::new();
    for ip in &plan.ips {
        steps.push((
            address::add(container.index, ip.address, !settings.dad),
            format!(
                "failed to add IP addr {} to {:?}",
                ip.address, container.name
            ),
        ));
    }
    steps.push((
        up(container.index),
        format!("failed to set {:?} UP", container.name),
    ));
    if settings.dad && plan.has_ipv6_gateway() {
        send(sandbox, steps)?;
        crate::wait::addresses_settled(sandbox, container)?;
        steps = Vec::new();
    }
    for wanted in &plan.routes {
        let gateway = plan.next_hop(wanted);
        let route = kernel_route(wanted, gateway, container.index);
        let message = format!(
            "failed to add route '{} via {} dev {} metric {} (Scope: {}, Table: {})'",
            wanted.dst,
            gateway.map_or("<nil>".into(), |ip| ip.to_string()),
            container.name,
            wanted.priority,
            scope_name(route.scope),
            wanted.table.unwrap_or(0),
        );
        steps.push((route::append(&route), message));
    }
    send(sandbox, steps)
}

fn send(sandbox: &mut Sandbox, steps: Vec<(Request, String)>) -> Result<(), Error> {
    let (requests, messages): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
    let answers = sandbox.netlink.batch(&requests);
    answers
        .into_iter()
        .zip(messages)
        .try_for_each(|(answer, message)| answer.step(message))
}

/// The route as the kernel takes it: without host bits. Unlike upstream, `mtu` and `advmss` are not forgotten.
pub fn kernel_route(
    wanted: &cni_conf::Route,
    gateway: Option<std::net::IpAddr>,
    index: u32,
) -> route::Route {
    let mut route = route::Route::new(cidr::masked(wanted.dst));
    route.gateway = gateway;
    route.oif = Some(index);
    route.priority = wanted.priority;
    route.mtu = wanted.mtu;
    route.advmss = wanted.advmss;
    route.table = wanted
        .table
        .filter(|&table| table != 0)
        .unwrap_or(route.table);
    route.scope = wanted.scope.unwrap_or(route.scope);
    route
}

fn scope_name(scope: u8) -> &'static str {
    match scope {
        0 => "universe",
        200 => "site",
        253 => "link",
        254 => "host",
        255 => "nowhere",
        _ => "unknown",
    }
}
