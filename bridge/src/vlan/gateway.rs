//! The interface `BRIDGE.VLAN`, which has the gateway address of a VLAN.

use super::{Vlans, configure_port};
use crate::{
    Error,
    device::{Device, up},
    error::Context,
    names::veth_name,
};
use linux_net::{
    Netlink,
    link::{self, Change, Link},
};

/// `cni0.100`
pub(crate) fn gateway_name(bridge: &str, vlan: u16) -> String {
    format!("{bridge}.{vlan}")
}

/// Ensures that the VLAN's gateway interface exists: one end of a veth pair whose other end is a
/// port of the bridge in that VLAN. It stays when pods go, as the bridge does. Returns the
/// interface and the ifindex of the port.
pub(crate) fn ensure_gateway(
    host: &mut Netlink,
    bridge: &Device,
    vlan: u16,
    preserve_default: bool,
) -> Result<(Device, u32), Error> {
    let name = gateway_name(&bridge.name, vlan);
    let failed = || format!("failed to create vlan gateway {name:?}");
    let gateway = match host.link_by_name(&name).context(failed())? {
        Some(gateway) => gateway,
        None => {
            let request = link::create_veth_here(&name, &veth_name(&name), Some(bridge.mtu));
            match host.request(&request) {
                // a concurrent ADD has created it
                Err(error) if error.is_exists() => {}
                other => other.context(failed())?,
            }
            let created = host.link_by_name(&name).context(failed())?;
            created.ok_or_else(|| Error::LinkNotFound(name.clone()))?
        }
    };
    let port = match gateway.lower {
        Some(index) => host.link_by_index(index).context(failed())?,
        None => None,
    };
    let port = port.ok_or_else(|| Error::GatewayNotAVeth(name.clone()))?;
    let index = port.index;
    // coming up is the last step: a gateway that is down is unfinished
    if port.master != Some(bridge.index) || !gateway.up {
        let vlans = Vlans {
            access: Some(vlan),
            trunk: Vec::new(),
            preserve_default,
        };
        connect(host, &gateway, port, bridge, &vlans)?;
    }
    Ok((gateway.into(), index))
}

fn connect(
    host: &mut Netlink,
    gateway: &Link,
    port: Link,
    bridge: &Device,
    vlans: &Vlans,
) -> Result<(), Error> {
    let failed = || format!("failed to up {:?}", gateway.name);
    let enslave = Change {
        master: Some(bridge.index),
        up: Some(true),
        ..Change::default()
    };
    host.request(&link::change(port.index, &enslave))
        .context(failed())?;
    configure_port(host, &port.into(), vlans)?;
    host.request(&up(gateway.index)).context(failed())
}
