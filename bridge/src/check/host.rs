//! CHECK of the host: gateway addresses, forwarding, masquerade and spoof check.

use super::{addresses::own_ips, links};
use crate::{
    Error,
    conf::Settings,
    error::{Context, ensure},
    gateway::forwarding_key,
    masquerade, spoof, vlan,
};
use cni_conf::AddResult;
use linux_net::{Netlink, link::Link, sysctl};
use plugin::Call;

pub(super) fn check_gateway(
    host: &mut Netlink,
    settings: &Settings,
    bridge: &Link,
    result: &AddResult,
) -> Result<(), Error> {
    let device = match settings.vlans.access {
        None => bridge.clone(),
        Some(vlan) => {
            let name = vlan::gateway_name(&bridge.name, vlan);
            links::lookup_claimed(host, &name)?
        }
    };
    let present = host
        .addresses(Some(device.index))
        .context(format!("could not list addresses of {:?}", device.name))?;
    for gateway in result.ips.iter().filter_map(|ip| ip.gateway) {
        ensure!(
            present.iter().any(|address| address.net.ip() == gateway),
            "Bridge interface {} does not have the gateway address {gateway}",
            device.name
        );
    }
    Ok(())
}

pub(super) fn check_forwarding(result: &AddResult) -> Result<(), Error> {
    for ip in &result.ips {
        let key = forwarding_key(ip.address);
        let name = key.replace('/', ".");
        ensure!(
            sysctl::get(key).context("failed to read forwarding")? != "0",
            "{name} is 0: the node does not forward what pods send (sysctl -w {name}=1)"
        );
    }
    Ok(())
}

pub(super) fn check_masquerade(
    call: &Call,
    settings: &Settings,
    result: &AddResult,
) -> Result<(), Error> {
    let Some(backend) = settings.masquerade else {
        return Ok(());
    };
    let ips: Vec<_> = own_ips(result, &call.ifname).cloned().collect();
    ensure!(
        ips.is_empty() || masquerade::is_complete(backend, &call.attachment(), &ips)?,
        "masquerade rules of container {} are missing or changed",
        call.container_id
    );
    Ok(())
}

pub(super) fn check_spoof_check(
    call: &Call,
    settings: &Settings,
    port: &Link,
    container: &Link,
) -> Result<(), Error> {
    if settings.spoof_check
        && let Some(mac) = container.mac
    {
        ensure!(
            spoof::is_complete(&call.attachment(), &port.name, mac)?,
            "spoof check rules of container {} are missing or changed",
            call.container_id
        );
    }
    Ok(())
}
