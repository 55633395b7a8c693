//! The veth pair: one end is a port of the bridge, the other end is the container's interface.

use crate::{
    Error,
    conf::Settings,
    device::{Device, delete, lookup},
    error::Context,
    names,
    sandbox::Sandbox,
};
use linux_net::{
    Mac, Netlink,
    in_use::InUse,
    link::{self, BridgePort, Kind, Link, VethPeer},
};
use plugin::{Attachment, best_effort};
use std::path::{Path, PathBuf};

/// How many names are tried for the host end.
const NAME_ATTEMPTS: u32 = 10;
const CREATE: &str = "failed to make veth pair";

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Veth {
    pub(crate) host: Device,
    pub(crate) container: Device,
}

/// The number of the first name for the host end that no other link has. Deletes a link that this
/// attachment left in a namespace that no longer exists.
pub(crate) fn free_name(host: &mut Netlink, owner: &Attachment) -> Result<u32, Error> {
    for n in 0..NAME_ATTEMPTS {
        if is_available(host, &names::host_veth(owner, n), owner)? {
            return Ok(n);
        }
    }
    Err(Error::NoFreeName)
}

/// Creates the pair; the host end is up, and has the first free name from number `from` on, which
/// [`free_name`] found.
pub(crate) fn create(
    host: &mut Netlink,
    sandbox: &mut Sandbox,
    owner: &Attachment,
    from: u32,
    bridge: &Device,
    settings: &Settings,
) -> Result<Veth, Error> {
    let mac = settings.mac.map_or_else(random_mac, Ok)?;
    for n in from..NAME_ATTEMPTS {
        let name = names::host_veth(owner, n);
        if n != from && !is_available(host, &name, owner)? {
            continue;
        }
        let created = create_named(host, sandbox, owner, &name, mac, bridge, settings)?;
        if let Some(veth) = created {
            return Ok(veth);
        }
    }
    Err(Error::NoFreeName)
}

fn random_mac() -> Result<Mac, Error> {
    Mac::random().context(CREATE)
}

/// True if no link has the name. One that this attachment left is deleted, unless the namespace of
/// its other end exists.
fn is_available(host: &mut Netlink, name: &str, owner: &Attachment) -> Result<bool, Error> {
    match host.link_by_name(name).context(CREATE)? {
        None => Ok(true),
        Some(link) if is_owned(&link, owner) => match namespace_of_peer(host, &link)? {
            Some(path) => Err(Error::AttachedElsewhere {
                owner: owner.clone(),
                path,
            }),
            None => {
                delete(host, name).context(CREATE)?;
                Ok(true)
            }
        },
        Some(_) => Ok(false),
    }
}

/// A path of the namespace that has the other end. None: it no longer exists, and the kernel is
/// about to delete the link.
fn namespace_of_peer(host: &mut Netlink, link: &Link) -> Result<Option<PathBuf>, Error> {
    let namespaces = InUse::read().map_err(Error::Namespaces)?;
    let path = namespaces.peer_of(link, host).context(CREATE)?;
    Ok(path.map(Path::to_owned))
}

/// Creates the pair with `name` for the host end: on the bridge, with hairpin mode, isolation and
/// alias set in the same packet. If the process is killed, either nothing is left or a link that
/// GC recognises. None: a concurrent call has created a link with the name.
fn create_named(
    host: &mut Netlink,
    sandbox: &mut Sandbox,
    owner: &Attachment,
    name: &str,
    mac: Mac,
    bridge: &Device,
    settings: &Settings,
) -> Result<Option<Veth>, Error> {
    let end = |name: &str, mac| VethPeer {
        name: name.to_owned(),
        mac: Some(mac),
    };
    let host_end = end(name, random_mac()?);
    let container_end = end(&owner.ifname, mac);
    let port = BridgePort {
        hairpin: settings.hairpin,
        isolated: settings.isolated,
    };
    let (mtu, master) = (settings.mtu, Some(bridge.index));
    let requests = [
        link::create_veth(&host_end, mtu, master, &container_end, &sandbox.ns),
        link::mark_port(name, &names::alias(owner), port),
    ];
    let answers = host.batch(&requests);
    let created = answers.first().is_some_and(Result::is_ok);
    let answer = answers.into_iter().collect::<linux_net::Result<()>>();
    if created {
        let veth = answer
            .context(CREATE)
            .and_then(|()| inspect(host, sandbox, name, &owner.ifname, mac));
        if veth.is_err() {
            let reason = "the error of the creation is reported, and GC deletes the link";
            best_effort(delete(host, name), reason);
        }
        return veth.map(Some);
    }
    match answer {
        Err(error) if error.is_exists() => {
            let ifname = sandbox.netlink.link_by_name(&owner.ifname);
            match ifname.context(CREATE)? {
                Some(_) => Err(interface_exists(owner)),
                None => Ok(None),
            }
        }
        other => other.context(CREATE).map(|()| None),
    }
}

/// Reads back what the kernel chose.
fn inspect(
    host: &mut Netlink,
    sandbox: &mut Sandbox,
    name: &str,
    ifname: &str,
    mac: Mac,
) -> Result<Veth, Error> {
    let created = |netlink: &mut Netlink, name: &str| {
        lookup(netlink, name)?.ok_or_else(|| Error::LinkNotFound(name.to_owned()))
    };
    let host_end = created(host, name)?;
    // older kernels omit the peer's index if it equals the link's own
    let index = match host_end.lower {
        Some(index) => index,
        None => created(&mut sandbox.netlink, ifname)?.index,
    };
    let container = Device {
        index,
        name: ifname.to_owned(),
        mac: Some(mac),
        mtu: host_end.mtu,
    };
    Ok(Veth {
        host: host_end.into(),
        container,
    })
}

pub(crate) fn interface_exists(owner: &Attachment) -> Error {
    Error::InterfaceExists {
        ifname: owner.ifname.clone(),
        host_end: names::host_veth(owner, 0),
    }
}

fn is_owned(link: &Link, owner: &Attachment) -> bool {
    link.kind == Kind::Veth && link.alias.as_deref() == Some(names::alias(owner).as_str())
}

/// The host end of this attachment, found by name and alias.
pub(crate) fn find_host_end(
    host: &mut Netlink,
    owner: &Attachment,
) -> linux_net::Result<Option<Link>> {
    for n in 0..NAME_ATTEMPTS {
        match host.link_by_name(&names::host_veth(owner, n))? {
            None => return Ok(None),
            Some(link) if is_owned(&link, owner) => return Ok(Some(link)),
            Some(_) => {}
        }
    }
    Ok(None)
}
