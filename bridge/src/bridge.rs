//! The bridge device.

use crate::{Error, conf::Settings, device::Device, error::Context};
use linux_net::{
    Mac, Netlink,
    link::{self, Change, Kind, Link},
    sysctl,
};
use nix::errno::Errno;
use plugin::best_effort;

/// Ensures that the bridge exists and is up. MTU and VLAN filtering of an existing one stay.
pub(crate) fn ensure(host: &mut Netlink, settings: &Settings) -> Result<Device, Error> {
    let name = &settings.bridge;
    let link = match find(host, name)? {
        Some(link) => link,
        None => {
            create(host, settings)?;
            find(host, name)?.ok_or_else(|| Error::LinkNotFound(name.clone()))?
        }
    };
    if !matches!(link.kind, Kind::Bridge { .. }) {
        return Err(Error::NotABridge(name.clone()));
    }
    // the bridge must not follow router advertisements of the pods
    let accept_ra = sysctl::set(&format!("net/ipv6/conf/{name}/accept_ra"), "0");
    best_effort(accept_ra, "a kernel without IPv6 has no such key");
    let promisc = settings.promisc && !link.promisc;
    if promisc || !link.up {
        let change = Change {
            up: Some(true),
            promisc: promisc.then_some(true),
            ..Change::default()
        };
        host.request(&link::change(link.index, &change))
            .context(format!("failed to create bridge {name:?}"))?;
    }
    Ok(link.into())
}

fn find(host: &mut Netlink, name: &str) -> Result<Option<Link>, Error> {
    host.link_by_name(name).context(format!(
        "failed to create bridge {name:?}: could not lookup {name:?}"
    ))
}

/// Creates the bridge with a MAC of its own; otherwise its MAC would be the lowest of its ports',
/// and change with them.
fn create(host: &mut Netlink, settings: &Settings) -> Result<(), Error> {
    let name = &settings.bridge;
    let filtering = settings.vlans.any();
    let failed = || format!("failed to create bridge {name:?}: could not add {name:?}");
    let mac = Mac::random().context(failed())?;
    match host.request(&link::create_bridge(
        name,
        settings.mtu,
        filtering,
        Some(mac),
    )) {
        // a concurrent ADD has created it
        Err(error) if error.is_exists() => Ok(()),
        Err(source) if filtering && source.errno() == Some(Errno::EOPNOTSUPP) => {
            Err(Error::NoVlanFiltering {
                bridge: name.clone(),
                source,
            })
        }
        other => other.context(failed()),
    }
}
