//! What a host has to prove that its routes and bridge are ours: subnet.env. Of devices, the
//! backends know which are theirs.

use crate::{
    backend,
    model::{Family, host_state::ROUTE_PROTOCOL},
    reconcile,
    underlay::HostNetwork,
};
use ipnetwork::IpNetwork;
use linux_net::{
    address::Address,
    link::{Kind, Link},
    route::{Route, RouteType},
};
use subnet_env::Previous;

/// The bridge that the plugins make.
pub(super) const BRIDGE: &str = "cni0";

/// Why a bridge of that name is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotOurs {
    /// The link is of another kind.
    #[error("it is not a bridge")]
    NotABridge,
    /// No address proves that the plugins made it.
    #[error("it has no address of the subnet in subnet.env, so another program may own it")]
    NoGatewayAddress,
}

/// Whose a route is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RouteOwner {
    /// Flanneld made it, or Go flannel.
    Flanneld,
    /// It looks like one that Go flannel makes, and nothing proves that it did.
    Unknown,
    Other,
}

/// A route over the underlay has our protocol number; or it is one of Go flannel or of an earlier
/// version, over the interface to which a device of ours is bound, on a node that had such routes.
pub(super) fn route_owner(
    route: &Route,
    families: &[Family],
    had_direct_routes: bool,
    host: &HostNetwork,
) -> RouteOwner {
    let is_own_device = |link: &&Link| backend::owns_device(link);
    let mut own_devices = host.links.iter().filter(is_own_device);
    if route.oif.is_some()
        && own_devices
            .clone()
            .any(|link| Some(link.index) == route.oif)
    {
        // it goes with the device
        return RouteOwner::Other;
    }
    if route.protocol == ROUTE_PROTOCOL
        && [RouteType::Unicast, RouteType::BlackHole].contains(&route.kind)
    {
        return RouteOwner::Flanneld;
    }
    if !had_direct_routes || !reconcile::is_direct_route(route, families) {
        return RouteOwner::Other;
    }
    let lower = |link: &Link| match &link.kind {
        Kind::Vxlan(vxlan) => vxlan.lower,
        _ => link.lower,
    };
    match own_devices.any(|link| lower(link) == route.oif) {
        true => RouteOwner::Flanneld,
        false => RouteOwner::Unknown,
    }
}

/// The families that subnet.env names.
pub(super) fn families(env: &Previous) -> Vec<Family> {
    let family = |network: Option<IpNetwork>, subnet: Option<IpNetwork>| {
        let (network, subnet) = network.zip(subnet)?;
        Some(Family { network, subnet })
    };
    let v4 = family(env.network, env.subnet);
    let v6 = family(env.ipv6_network, env.ipv6_subnet);
    v4.into_iter().chain(v6).collect()
}

/// How many interfaces are attached to the bridge; it is ours if it has this node's gateway
/// address.
pub(super) fn attached_interfaces(
    bridge: &Link,
    host: &HostNetwork,
    env: &Previous,
) -> Result<usize, NotOurs> {
    if !matches!(bridge.kind, Kind::Bridge { .. }) {
        return Err(NotOurs::NotABridge);
    }
    let is_gateway = |address: &Address| {
        let net = address.net;
        let is_in =
            |subnet: &IpNetwork| net.prefix() == subnet.prefix() && subnet.contains(net.ip());
        [env.subnet, env.ipv6_subnet].iter().flatten().any(is_in)
    };
    if !host.addresses_of(bridge).any(is_gateway) {
        return Err(NotOurs::NoGatewayAddress);
    }
    let is_attached = |link: &&Link| link.master == Some(bridge.index);
    Ok(host.links.iter().filter(is_attached).count())
}
