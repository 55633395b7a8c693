//! Which devices, routes and bridge of a host are proved to be ours.
use crate::{backend::peers::Ours, reconcile::ownership::Scope, underlay::HostNetwork};
use ipnetwork::IpNetwork;
use linux_net::{
    address::Address,
    link::{Kind, Link},
    route::Route,
};
use std::net::IpAddr;
use subnet_env::Previous;

/// The bridge that the plugins make.
pub(super) const BRIDGE: &str = "cni0";

/// Why a bridge of that name is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotOurs {
    /// The link is of another kind.
    #[error("it is no bridge")]
    NotABridge,
    /// No address proves that the plugins made it.
    #[error("it has no address of the subnet in subnet.env, so it may be somebody else's")]
    NoGatewayAddress,
}

/// True for a device that a backend makes: name, kind and VNI agree.
pub(super) fn is_our_device(link: &Link) -> bool {
    match &link.kind {
        Kind::Vxlan(vxlan) => ["flannel", "flannel-v6"]
            .iter()
            .any(|prefix| link.name == format!("{prefix}.{}", vxlan.vni)),
        Kind::Other(kind) => matches!(
            (link.name.as_str(), kind.as_str()),
            ("flannel-wg" | "flannel-wg-v6", "wireguard") | ("flannel.ipip", "ipip")
        ),
        _ => false,
    }
}

/// True for a route over the underlay to the subnet of a peer, by the networks in subnet.env.
pub(super) fn is_host_route(route: &Route, env: &Previous) -> bool {
    let family = |network: Option<IpNetwork>, subnet: Option<IpNetwork>| {
        let (network, subnet) = network.zip(subnet)?;
        Some(Ours {
            network,
            subnet,
            public_ip: IpAddr::from([0, 0, 0, 0]),
        })
    };
    let v4 = family(env.network, env.subnet);
    let v6 = family(env.ipv6_network, env.ipv6_subnet);
    let scope = Scope {
        families: v4.into_iter().chain(v6).collect(),
        host_routes_over: Some("underlay".into()),
        ..Scope::default()
    };
    scope.route(route, |_| Some("underlay".into())).is_some()
}

/// How many interfaces are attached to the bridge; it is ours if it has this node's gateway address.
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
