//! Decides which observed objects belong to flanneld. Objects that are not ours are never modified.

use crate::{
    backend::{self, Backend, CandidateRoute},
    model::{
        Family,
        host_state::{DeviceName, HostRoute},
    },
};
use ipnetwork::IpNetwork;
use linux_net::{
    Mac,
    address::Address,
    fdb::FdbEntry,
    neighbour::Neighbour,
    route::{MAIN_TABLE, Route, RouteProtocol, RouteType},
};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// The metric that the kernel gives an IPv6 route without one (IP6_RT_PRIO_USER, net/ip6_route.h).
const IP6_DEFAULT_METRIC: u32 = 1024;

/// What recognises our objects.
#[derive(Debug, Clone)]
pub(crate) struct Ownership {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) families: Vec<Family>,
    /// The interface over which direct routes are ours, once this node has made any.
    pub(crate) direct_routes_over: Option<DeviceName>,
}

/// Our devices on the host, by ifindex.
pub(crate) type DeviceIndexes = BTreeMap<u32, DeviceName>;

impl Ownership {
    /// Our name for a device, if the name is one of ours.
    pub(crate) fn device(&self, name: &str) -> Option<&DeviceName> {
        let mut names = self.backend.device_names().iter();
        names.find(|own| &***own == name)
    }

    /// A route to a peer: one over a device of ours or over the underlay, with a shape that the
    /// backend makes. `name_of` gives the name of one of these interfaces.
    pub(crate) fn route(
        &self,
        observed: &Route,
        name_of: impl Fn(u32) -> Option<DeviceName>,
    ) -> Option<HostRoute> {
        let route = host_route(observed, name_of)?;
        let over_own_device = self.device(&route.device).is_some();
        let over_known_device =
            over_own_device || self.direct_routes_over.as_ref() == Some(&route.device);
        let candidate = CandidateRoute {
            route: &route,
            observed,
            over_own_device,
            families: &self.families,
        };
        (over_known_device && self.backend.owns_route(&candidate)).then_some(route)
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

/// True if the route has the shape of a direct route to a peer of these families, whichever backend
/// and interface it is of.
pub(crate) fn is_direct_route(observed: &Route, families: &[Family]) -> bool {
    host_route(observed, |_| Some("underlay".into())).is_some_and(|route| {
        backend::is_direct_route(&CandidateRoute {
            route: &route,
            observed,
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
        gateway: observed.gateway?,
        device: name_of(observed.oif?)?,
        onlink: observed.onlink,
    })
}

/// Unicast, in the main table, not a default route, without metric, and not made by the kernel.
fn may_be_ours(route: &Route) -> bool {
    let by_kernel = [
        RouteProtocol::IcmpRedirect,
        RouteProtocol::Kernel,
        RouteProtocol::Ra,
    ];
    route.table == MAIN_TABLE
        && route.kind == RouteType::Unicast
        && route.dst.prefix() > 0
        && !by_kernel.contains(&route.protocol)
        && (route.priority == 0 || route.dst.is_ipv6() && route.priority == IP6_DEFAULT_METRIC)
}

/// A neighbour as a backend makes it: permanent.
pub(crate) fn neighbour(entry: &Neighbour) -> Option<(IpAddr, Mac)> {
    Some((entry.ip, entry.mac?)).filter(|_| entry.is_permanent())
}

/// An FDB entry as a backend makes it: permanent, for the MAC of one device (not zero, not a
/// group).
pub(crate) fn fdb(entry: &FdbEntry) -> Option<(Mac, IpAddr)> {
    let unicast = entry.mac.0[0] & 1 == 0 && entry.mac != Mac::default();
    Some((entry.mac, entry.dst?)).filter(|_| unicast && entry.is_permanent())
}

#[cfg(test)]
mod tests;
