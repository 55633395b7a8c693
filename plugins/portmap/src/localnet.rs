//! The sysctl `route_localnet`: lets packets from 127.0.0.1 leave through the interface that leads
//! to the container.

use crate::error::Failure;
use linux_net::{Netlink, sysctl};
use std::net::IpAddr;

/// Sets it on the host's interface that routes to the container. Without such a route this does
/// nothing.
pub(crate) fn enable(container: IpAddr) -> Result<(), Failure> {
    let Some(interface) = interface_to(container) else {
        return Ok(());
    };
    sysctl::set(&format!("net/ipv4/conf/{interface}/route_localnet"), "1")
        .map_err(Failure::RouteLocalnet)
}

/// A failed lookup counts as no route, as upstream.
fn interface_to(container: IpAddr) -> Option<String> {
    let mut net = Netlink::open().ok()?;
    let index = net.route_to(container).ok()?.oif?;
    Some(net.link_by_index(index).ok()??.name)
}
