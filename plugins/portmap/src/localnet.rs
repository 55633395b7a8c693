//! `route_localnet`: lets packets from 127.0.0.1 leave through the interface behind which the container is.
use cni_conf::Error;
use linux_net::{Netlink, sysctl};
use std::net::IpAddr;

/// Switches it on for the host's interface that routes to the container; where no route leads there, there is none to switch.
pub(crate) fn route(container: IpAddr) -> Result<(), Error> {
    let Some(interface) = towards(container) else {
        return Ok(());
    };
    sysctl::set(&format!("net/ipv4/conf/{interface}/route_localnet"), "1")
        .map_err(|error| Error::internal(format!("unable to enable route_localnet: {error}")))
}

fn towards(container: IpAddr) -> Option<String> {
    let mut net = Netlink::open().ok()?;
    let index = net.route_to(container).ok()?.oif?;
    Some(net.link_by_index(index).ok()??.name)
}
