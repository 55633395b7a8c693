//! Which addresses this host reaches without a gateway, from its own routes: what `ip route get` would say, without asking
//! the kernel once for each peer.
use ipnetwork::IpNetwork;
use linux_net::route::Route;
use std::net::IpAddr;

/// Routes of the main table that are not of our making, longest prefix first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    routes: Vec<(IpNetwork, bool)>,
}

impl Reach {
    /// From the main table. `ours` tells which routes are our own: a way through the overlay is no direct one.
    pub fn new<'a>(
        routes: impl IntoIterator<Item = &'a Route>,
        ours: impl Fn(&Route) -> bool,
    ) -> Reach {
        let mut routes: Vec<_> = routes
            .into_iter()
            .filter(|route| route.table == 254 && !ours(route))
            .map(|route| {
                let direct = route.kind == 1 && route.gateway.is_none() && route.oif.is_some();
                (route.priority, route.dst, direct)
            })
            .collect();
        // the kernel takes the longest prefix, then the lowest metric
        routes.sort_by_key(|(priority, dst, _)| (std::cmp::Reverse(dst.prefix()), *priority));
        Reach {
            routes: routes
                .into_iter()
                .map(|(_, dst, direct)| (dst, direct))
                .collect(),
        }
    }

    /// True if the best route to it has no gateway.
    pub fn is_neighbour(&self, ip: IpAddr) -> bool {
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
    fn the_longest_prefix_decides() {
        let routes = [
            route("0.0.0.0/0", Some("172.31.0.254")),
            route("172.31.0.0/24", None),
            route("172.31.0.128/25", Some("172.31.0.1")),
        ];
        let reach = Reach::new(&routes, |_| false);
        assert!(reach.is_neighbour("172.31.0.7".parse().unwrap()));
        assert!(
            !reach.is_neighbour("172.31.0.200".parse().unwrap()),
            "behind a gateway"
        );
        assert!(
            !reach.is_neighbour("192.0.2.1".parse().unwrap()),
            "by the default route"
        );
        assert!(
            !reach.is_neighbour("fd31::1".parse().unwrap()),
            "no route at all"
        );
    }

    #[test]
    fn a_way_through_the_overlay_is_not_direct() {
        let routes = [route("10.0.0.0/8", None)];
        assert!(!Reach::new(&routes, |_| true).is_neighbour("10.1.1.1".parse().unwrap()));
    }
}
