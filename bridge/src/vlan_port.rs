//! VLANs on the bridge: the pod's port, and the interface that is the gateway inside one VLAN.
use crate::{
    Error,
    bridge::Device,
    conf::{Settings, Vlans},
};
use linux_net::Netlink;

/// Puts the port into its VLANs.
pub fn configure(_host: &mut Netlink, _port: &Device, vlans: &Vlans) -> Result<(), Error> {
    if vlans.any() {
        return Err(unsupported());
    }
    Ok(())
}

/// The interface `BRIDGE.VLAN` that has the gateway address in the bridge's place.
pub fn gateway(
    _host: &mut Netlink,
    _bridge: &Device,
    settings: &Settings,
    _own: &mut Vec<u32>,
) -> Result<Option<Device>, Error> {
    match settings.vlans.access {
        None => Ok(None),
        Some(_) => Err(unsupported()),
    }
}

fn unsupported() -> Error {
    cni_conf::Error::new(
        cni_conf::Code::UnsupportedField,
        "vlan and vlanTrunk are not supported by this build",
    )
    .into()
}

/// The port is in its VLANs.
pub fn check(_host: &mut Netlink, _port: u32, vlans: &Vlans) -> Result<(), Error> {
    if vlans.any() {
        Err(unsupported())
    } else {
        Ok(())
    }
}

/// `cni0.100`
pub fn gateway_name(bridge: &str, vlan: u16) -> String {
    format!("{bridge}.{vlan}")
}
