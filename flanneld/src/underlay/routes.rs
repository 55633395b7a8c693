//! How the host reaches other nodes. The answers come from the dumped routes and equal those of
//! `ip route get`, without one kernel request for each peer.

use ipnetwork::IpNetwork;
use linux_net::route::{MAIN_TABLE, Route, RouteType};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

/// Routes of the main table that are not ours.
#[derive(Debug, Clone, Default)]
pub(crate) struct UnderlayRoutes {
    /// By family and by length, the longest first, as the kernel looks them up.
    lengths: BTreeMap<(bool, Reverse<u8>), HashMap<IpAddr, Best>>,
}

/// The route to a destination with the lowest metric.
#[derive(Debug, Clone, Copy)]
struct Best {
    metric: u32,
    leads: Leads,
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leads {
    /// Without a gateway, over the interface with this index.
    OnLink(u32),
    /// By a gateway or by several next hops.
    Onwards,
    /// The kernel refuses the packet.
    Nowhere,
}

impl UnderlayRoutes {
    /// Takes the main table. A route for which `is_ours` is true is left out: a route through the
    /// overlay leads to no node.
    pub(crate) fn new<'a>(
        routes: impl IntoIterator<Item = &'a Route>,
        is_ours: impl Fn(&Route) -> bool,
    ) -> UnderlayRoutes {
        let mut table = UnderlayRoutes::default();
        for route in routes {
            if route.table == MAIN_TABLE && !is_ours(route) {
                table.add(route);
            }
        }
        table
    }

    fn add(&mut self, route: &Route) {
        let leads = match (&route.kind, route.gateway, route.oif) {
            // the lookup goes on at the next shorter route
            (RouteType::Throw, ..) => return,
            (RouteType::Unicast, None, Some(oif)) => Leads::OnLink(oif),
            (RouteType::Unicast, ..) => Leads::Onwards,
            _ => Leads::Nowhere,
        };
        let new = Best {
            metric: route.priority,
            leads,
        };
        let length = (route.dst.is_ipv6(), Reverse(route.dst.prefix()));
        let of_length = self.lengths.entry(length).or_default();
        let best = of_length.entry(route.dst.network()).or_insert(new);
        if new.metric < best.metric {
            *best = new;
        }
    }

    fn lookup(&self, ip: IpAddr) -> Option<Leads> {
        let mut lengths = self
            .lengths
            .iter()
            .filter(|((ipv6, _), _)| *ipv6 == ip.is_ipv6());
        lengths.find_map(|((_, Reverse(length)), routes)| {
            let network = IpNetwork::new(ip, *length).ok()?.network();
            routes.get(&network).map(|best| best.leads)
        })
    }

    /// True if the best route to the address goes over this interface and has no gateway.
    pub(crate) fn is_on_link(&self, ip: IpAddr, interface: u32) -> bool {
        self.lookup(ip) == Some(Leads::OnLink(interface))
    }

    /// True if a route leads to the address.
    pub(crate) fn reaches(&self, ip: IpAddr) -> bool {
        self.lookup(ip).is_some_and(|leads| leads != Leads::Nowhere)
    }
}

/// Which changes of the host's own routes alter how peers are reached.
#[derive(Debug, Clone, Default)]
pub(crate) struct RouteDependencies {
    /// The public addresses of all peers.
    pub(crate) peers: BTreeSet<IpAddr>,
    /// Those to which there is no route.
    pub(crate) without_route: BTreeSet<IpAddr>,
    /// The plan depends on which peers are on-link.
    pub(crate) on_link: bool,
}

impl RouteDependencies {
    /// `on_link`: the plan depends on which peers are on-link.
    pub(crate) fn new(
        peers: BTreeSet<IpAddr>,
        routes: &UnderlayRoutes,
        on_link: bool,
    ) -> RouteDependencies {
        let without_route = peers.iter().filter(|ip| !routes.reaches(**ip));
        RouteDependencies {
            without_route: without_route.copied().collect(),
            peers,
            on_link,
        }
    }

    /// True if another plan, or another readiness, may follow from a route of the main table that
    /// is not ours.
    pub(crate) fn concern(&self, route: &Route, added: bool) -> bool {
        let only_adds_a_way = added && !self.on_link && route.kind == RouteType::Unicast;
        let concerned = if only_adds_a_way {
            &self.without_route
        } else {
            &self.peers
        };
        let destination = route.dst.network()..=route.dst.broadcast();
        route.table == MAIN_TABLE && concerned.range(destination).next().is_some()
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

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn longest_prefix_decides() {
        let routes = [
            route("0.0.0.0/0", Some("172.31.0.254")),
            route("172.31.0.0/24", None),
            route("172.31.0.128/25", Some("172.31.0.1")),
        ];
        let routes = UnderlayRoutes::new(&routes, |_| false);
        assert!(routes.is_on_link(ip("172.31.0.7"), 2));
        assert!(
            !routes.is_on_link(ip("172.31.0.7"), 3),
            "over another interface"
        );
        assert!(
            !routes.is_on_link(ip("172.31.0.200"), 2),
            "behind a gateway"
        );
        assert!(
            !routes.is_on_link(ip("192.0.2.1"), 2),
            "by the default route"
        );
        assert!(!routes.is_on_link(ip("fd31::1"), 2), "no route at all");
        for (reached, to) in [
            (true, "192.0.2.1"),
            (true, "172.31.0.7"),
            (false, "fd31::1"),
        ] {
            assert_eq!(routes.reaches(ip(to)), reached, "{to}");
        }
    }

    #[test]
    fn route_through_the_overlay_reaches_no_node() {
        let routes = UnderlayRoutes::new(&[route("10.0.0.0/8", None)], |_| true);
        assert!(!routes.is_on_link(ip("10.1.1.1"), 2));
        assert!(!routes.reaches(ip("10.1.1.1")));
    }

    #[test]
    fn lowest_metric_decides_and_a_refusal_is_no_way() {
        let mut refused = route("172.31.0.0/24", None);
        refused.kind = RouteType::Unreachable;
        refused.priority = 5;
        let mut on_link = route("172.31.0.0/24", None);
        on_link.priority = 7;
        let mut passed_over = route("172.31.0.0/28", None);
        passed_over.kind = RouteType::Throw;
        let routes = [passed_over, on_link.clone(), refused.clone()];
        assert!(!UnderlayRoutes::new(&routes, |_| false).reaches(ip("172.31.0.7")));
        refused.priority = 9;
        let routes = UnderlayRoutes::new(&[refused, on_link], |_| false);
        assert!(routes.is_on_link(ip("172.31.0.7"), 2));
    }

    #[test]
    fn routes_to_peers_concern_the_plan_and_others_do_not() {
        let mut dependencies = RouteDependencies {
            peers: [ip("172.31.0.7"), ip("192.0.2.9")].into(),
            without_route: [ip("192.0.2.9")].into(),
            on_link: false,
        };
        let concern = |dependencies: &RouteDependencies, dst: &str, added| {
            dependencies.concern(&route(dst, None), added)
        };
        assert!(concern(&dependencies, "172.31.0.0/24", false));
        assert!(!concern(&dependencies, "172.31.0.0/24", true), "one more");
        assert!(concern(&dependencies, "0.0.0.0/0", true));
        assert!(concern(&dependencies, "192.0.2.9/32", true));
        for other in ["172.31.1.0/24", "10.9.0.0/16", "fd00::/8"] {
            assert!(!concern(&dependencies, other, false), "{other}");
        }
        let mut refused = route("172.31.0.0/24", None);
        refused.kind = RouteType::BlackHole;
        assert!(dependencies.concern(&refused, true));
        refused.table = 100;
        assert!(!dependencies.concern(&refused, true));
        dependencies.on_link = true;
        assert!(concern(&dependencies, "172.31.0.0/24", true));
    }
}
