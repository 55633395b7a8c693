//! Which addresses the host reaches without a gateway. The answer comes from the dumped routes and
//! equals that of `ip route get`, without one kernel request for each peer.

use super::host_network::is_main_unicast;
use ipnetwork::IpNetwork;
use linux_net::route::{MAIN_TABLE, Route};
use std::{cmp::Reverse, net::IpAddr};

/// Routes of the main table that are not ours, with whether each has no gateway; in the kernel's
/// order of preference.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DirectRoutes {
    routes: Vec<(IpNetwork, bool)>,
}

impl DirectRoutes {
    /// Takes the main table. A route for which `is_ours` is true is left out: a route through the
    /// overlay is not direct.
    pub(crate) fn new<'a>(
        routes: impl IntoIterator<Item = &'a Route>,
        is_ours: impl Fn(&Route) -> bool,
    ) -> DirectRoutes {
        let mut routes: Vec<_> = routes
            .into_iter()
            .filter(|route| route.table == MAIN_TABLE && !is_ours(route))
            .collect();
        // the kernel takes the longest prefix, then the lowest metric
        routes.sort_by_key(|route| (Reverse(route.dst.prefix()), route.priority));
        let is_direct = |route: &Route| {
            is_main_unicast(route) && route.gateway.is_none() && route.oif.is_some()
        };
        DirectRoutes {
            routes: routes
                .into_iter()
                .map(|route| (route.dst, is_direct(route)))
                .collect(),
        }
    }

    /// True if the best route to the address has no gateway.
    pub(crate) fn is_on_link(&self, ip: IpAddr) -> bool {
        let best = self.routes.iter().find(|(dst, _)| dst.contains(ip));
        best.is_some_and(|(_, direct)| *direct)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(dst: &str, gateway: Option<&str>) -> Route {
        let mut route = Route::new(dst.parse().unwrap());
        route.gateway = gateway.map(|ip| ip.parse().unwrap());
        route.oif = Some(2);
        route
    }

    #[test]
    fn longest_prefix_decides() {
        let routes = [
            route("0.0.0.0/0", Some("172.31.0.254")),
            route("172.31.0.0/24", None),
            route("172.31.0.128/25", Some("172.31.0.1")),
        ];
        let direct = DirectRoutes::new(&routes, |_| false);
        assert!(direct.is_on_link("172.31.0.7".parse().unwrap()));
        assert!(
            !direct.is_on_link("172.31.0.200".parse().unwrap()),
            "behind a gateway"
        );
        assert!(
            !direct.is_on_link("192.0.2.1".parse().unwrap()),
            "by the default route"
        );
        assert!(
            !direct.is_on_link("fd31::1".parse().unwrap()),
            "no route at all"
        );
    }

    #[test]
    fn route_through_the_overlay_is_not_direct() {
        let routes = [route("10.0.0.0/8", None)];
        assert!(!DirectRoutes::new(&routes, |_| true).is_on_link("10.1.1.1".parse().unwrap()));
    }
}
