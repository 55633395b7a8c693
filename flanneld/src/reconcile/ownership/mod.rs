//! Decides which observed objects belong to flanneld. Objects that are not ours are never modified.

use crate::{
    backend::{self, Backend, CandidateRoute},
    model::{
        Family,
        host_state::{ALTERED_REMOTE, Blackhole, DeviceName, HostRoute, ROUTE_PROTOCOL},
    },
};
use ipnetwork::IpNetwork;
use linux_net::{
    Mac,
    address::Address,
    fdb::FdbEntry,
    neighbour::Neighbour,
    route::{MAIN_TABLE, Route, RouteProtocol, RouteScope, RouteType},
};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// The metric that the kernel gives an IPv6 route without one (IP6_RT_PRIO_USER, net/ip6_route.h).
pub(super) const IP6_DEFAULT_METRIC: u32 = 1024;

/// What recognises our objects.
#[derive(Debug, Clone)]
pub(crate) struct Ownership {
    /// This node's, the current one first.
    pub(crate) backends: Vec<Arc<dyn Backend>>,
    pub(crate) families: Vec<Family>,
    /// Devices of this daemon's earlier configurations that are not deleted yet.
    pub(crate) earlier_devices: Vec<DeviceName>,
    /// The interface over which direct routes are ours, once this node has made any.
    pub(crate) direct_routes_over: Option<DeviceName>,
}

/// Our devices on the host, by ifindex.
pub(crate) type DeviceIndexes = BTreeMap<u32, DeviceName>;

impl Ownership {
    /// Our name for a device, if the name is one of ours.
    pub(crate) fn device(&self, name: &str) -> Option<&DeviceName> {
        let mut names = self
            .backends
            .iter()
            .flat_map(|backend| backend.device_names());
        names.find(|own| &***own == name)
    }

    /// A route to a peer: one with our protocol number that leads into the network or over a device
    /// of ours; and one of Go flannel or an earlier version, over a device of ours or over the
    /// underlay, with a shape that the backend makes. `name_of` gives the name of an interface.
    pub(crate) fn route(
        &self,
        observed: &Route,
        name_of: impl Fn(u32) -> Option<DeviceName>,
    ) -> Option<HostRoute> {
        let route = host_route(observed, name_of)?;
        let over_own_device =
            self.device(&route.device).is_some() || self.earlier_devices.contains(&route.device);
        if observed.protocol == ROUTE_PROTOCOL {
            let mut families = self.families.iter();
            let inside = families.any(|family| family.contains(route.dst));
            return (inside || over_own_device).then_some(route);
        }
        let over_known_device =
            over_own_device || self.direct_routes_over.as_ref() == Some(&route.device);
        let candidate = CandidateRoute {
            route: &route,
            over_own_device,
            families: &self.families,
        };
        let owns_route = |backend: &Arc<dyn Backend>| backend.owns_route(&candidate);
        (over_known_device && self.backends.iter().any(owns_route)).then_some(route)
    }

    /// A blackhole route to a subnet of this node: one with our protocol number; and one of Go
    /// flannel, which names no protocol of its own, nor a metric.
    pub(crate) fn blackhole(&self, observed: &Route) -> Option<Blackhole> {
        let mut families = self.families.iter();
        let is_ours = match observed.protocol {
            ROUTE_PROTOCOL => families.any(|family| family.contains(observed.dst)),
            RouteProtocol::Boot => {
                has_our_key(observed) && families.any(|family| family.subnet == observed.dst)
            }
            _ => false,
        };
        let is_blackhole = observed.kind == RouteType::BlackHole;
        let is_there = observed.table == MAIN_TABLE && observed.tos == 0;
        (is_ours && is_blackhole && is_there).then(|| Blackhole {
            dst: observed.dst,
            metric: observed.priority,
            protocol: observed.protocol.into(),
        })
    }

    /// True for a route with our protocol number.
    pub(crate) fn is_marked(&self, route: &Route) -> bool {
        route.protocol == ROUTE_PROTOCOL
    }

    /// An address on one of our devices: IPv4 inside the network, IPv6 except link-local.
    pub(crate) fn address(&self, address: &Address) -> Option<IpNetwork> {
        let is_ours = match address.net.ip() {
            IpAddr::V4(_) => self
                .families
                .iter()
                .any(|family| family.contains(address.net)),
            IpAddr::V6(ip) => !ip.is_unicast_link_local(),
        };
        is_ours.then_some(address.net)
    }
}

/// True if Go flannel or an earlier version may have made the route: it has the shape of a direct
/// route to a peer of these families, whichever backend and interface it is of.
pub(crate) fn is_direct_route(observed: &Route, families: &[Family]) -> bool {
    host_route(observed, |_| Some("underlay".into())).is_some_and(|route| {
        observed.protocol == RouteProtocol::Boot
            && backend::is_direct_route(&CandidateRoute {
                route: &route,
                over_own_device: false,
                families,
            })
    })
}

/// A route that any backend might have made, in the form of a plan.
fn host_route(observed: &Route, name_of: impl Fn(u32) -> Option<DeviceName>) -> Option<HostRoute> {
    if !may_be_ours(observed) {
        return None;
    }
    Some(HostRoute {
        dst: observed.dst,
        gateway: observed.gateway,
        device: name_of(observed.oif?)?,
        onlink: observed.onlink,
        encap: observed.encap,
        protocol: observed.protocol.into(),
        altered: is_altered(observed),
    })
}

/// True if the route excludes one of ours to the same destination.
pub(super) fn has_our_key(route: &Route) -> bool {
    let metric = match route.dst.is_ipv6() {
        true => IP6_DEFAULT_METRIC,
        false => 0,
    };
    route.table == MAIN_TABLE && route.tos == 0 && route.priority == metric
}

/// Unicast, in the main table, not a default route, without metric and type of service, made by
/// flanneld or by a program that names no protocol of its own.
fn may_be_ours(route: &Route) -> bool {
    route.table == MAIN_TABLE
        && route.kind == RouteType::Unicast
        && route.dst.prefix() > 0
        && [ROUTE_PROTOCOL, RouteProtocol::Boot].contains(&route.protocol)
        && route.tos == 0
        && (route.priority == 0 || route.dst.is_ipv6() && route.priority == IP6_DEFAULT_METRIC)
}

/// True if a route has attributes that flanneld does not set.
fn is_altered(route: &Route) -> bool {
    route.prefsrc.is_some()
        || (route.mtu, route.advmss) != (0, 0)
        || route.scope != own_scope(route.dst, route.gateway)
        || route.other_attributes
}

/// The scope of a route that flanneld makes: IPv6 has one scope only.
pub(super) fn own_scope(dst: IpNetwork, gateway: Option<IpAddr>) -> RouteScope {
    match gateway {
        None if dst.is_ipv4() => RouteScope::Link,
        None | Some(_) => RouteScope::Universe,
    }
}

/// A neighbour as a backend makes it: permanent.
pub(crate) fn neighbour(entry: &Neighbour) -> Option<(IpAddr, Mac)> {
    Some((entry.ip, entry.mac?)).filter(|_| entry.is_permanent())
}

/// An FDB entry as a backend makes it: permanent, for the MAC of one device (not zero, not a
/// group).
pub(crate) fn fdb(entry: &FdbEntry) -> Option<(Mac, IpAddr)> {
    let unicast = entry.mac.0[0] & 1 == 0 && entry.mac != Mac::default();
    let remote = match entry.altered {
        true => ALTERED_REMOTE,
        false => entry.dst?,
    };
    (unicast && entry.is_permanent()).then_some((entry.mac, remote))
}

#[cfg(test)]
mod tests;
