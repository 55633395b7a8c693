//! How the host reaches other nodes. The answers come from the dumped routes and equal those of
//! `ip route get`, without one kernel request for each peer.

use ipnetwork::IpNetwork;
use linux_net::{
    monitor::RouteChange,
    route::{MAIN_TABLE, Route, RouteType},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

/// Routes of the main table that are not ours.
#[derive(Debug, Clone, Default)]
pub(crate) struct UnderlayRoutes {
    /// By family and by length, the longest first, as the kernel looks them up.
    lengths: BTreeMap<(bool, Reverse<u8>), HashMap<IpAddr, Ways>>,
}

/// The routes to one destination.
#[derive(Debug, Clone)]
struct Ways {
    /// The one that packets take: that with the lowest metric, the first of equal ones.
    best: Way,
    /// The others, in no order.
    others: Vec<Way>,
}

/// A route, as far as it tells where packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    metric: u32,
    tos: u8,
    leads: Leads,
    /// Notifications do not say which of several next hops, or of several gateways, they are about.
    several: bool,
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
        self.insert(route, false);
    }

    /// Adds a route, behind or in front of those with the same metric.
    fn insert(&mut self, route: &Route, in_front: bool) {
        let Some(mut new) = Way::of(route) else {
            return;
        };
        let length = (route.dst.is_ipv6(), Reverse(route.dst.prefix()));
        let of_length = self.lengths.entry(length).or_default();
        let Some(ways) = of_length.get_mut(&route.dst.network()) else {
            let ways = Ways {
                best: new,
                others: Vec::new(),
            };
            of_length.insert(route.dst.network(), ways);
            return;
        };
        if let Some(same) = ways.all_mut().find(|way| way.is_same(&new)) {
            same.several = true;
            new.several = true;
        }
        let precedes = new.metric < ways.best.metric
            || in_front && new.metric == ways.best.metric && new.tos == ways.best.tos;
        if precedes {
            std::mem::swap(&mut new, &mut ways.best);
        }
        ways.others.push(new);
    }

    /// Follows a change of a route that is not ours. False if the notification does not say enough:
    /// the routes have to be read.
    pub(crate) fn follow(&mut self, route: &Route, change: RouteChange) -> bool {
        let is_next_hop = route.dst.is_ipv6()
            && (change == RouteChange::Appended || Way::of(route).is_some_and(|way| way.several));
        if route.table != MAIN_TABLE {
            return true;
        }
        let way = Way::of(route);
        let known = self.with_key(route);
        let same = known
            .iter()
            .find(|known| way.is_some_and(|way| known.is_same(&way)));
        let is_clear = !is_next_hop && known.iter().all(|known| !known.several);
        match change {
            _ if !is_clear => return false,
            RouteChange::Replaced if known.len() > 1 => return false,
            RouteChange::Replaced => {
                self.remove(route, |_| true);
                self.add(route);
            }
            RouteChange::Deleted => self.remove(route, |way| same == Some(way)),
            // one more by another gateway, or this one
            RouteChange::Added | RouteChange::Appended if same.is_some() => {
                return matches!(way, Some(way) if matches!(way.leads, Leads::OnLink(_)));
            }
            RouteChange::Added => self.insert(route, route.dst.is_ipv4()),
            RouteChange::Appended => self.add(route),
        }
        true
    }

    /// Those with the destination, metric and type of service of a route.
    fn with_key(&self, route: &Route) -> Vec<Way> {
        let length = (route.dst.is_ipv6(), Reverse(route.dst.prefix()));
        let of_length = self.lengths.get(&length);
        let Some(ways) = of_length.and_then(|of_length| of_length.get(&route.dst.network())) else {
            return Vec::new();
        };
        let all = std::iter::once(&ways.best).chain(&ways.others);
        let same = all.filter(|way| way.has_key_of(route));
        same.copied().collect()
    }

    /// Removes those of them that are meant.
    fn remove(&mut self, route: &Route, is_meant: impl Fn(&Way) -> bool) {
        let length = (route.dst.is_ipv6(), Reverse(route.dst.prefix()));
        let Some(of_length) = self.lengths.get_mut(&length) else {
            return;
        };
        let Some(ways) = of_length.get_mut(&route.dst.network()) else {
            return;
        };
        let goes = |way: &Way| way.has_key_of(route) && is_meant(way);
        ways.others.retain(|way| !goes(way));
        if !goes(&ways.best) {
            return;
        }
        let next = (0..ways.others.len()).min_by_key(|at| ways.others[*at].metric);
        match next {
            Some(at) => ways.best = ways.others.remove(at),
            None => drop(of_length.remove(&route.dst.network())),
        }
    }

    fn lookup(&self, ip: IpAddr) -> Option<Leads> {
        let mut lengths = self
            .lengths
            .iter()
            .filter(|((ipv6, _), _)| *ipv6 == ip.is_ipv6());
        lengths.find_map(|((_, Reverse(length)), routes)| {
            let network = IpNetwork::new(ip, *length).ok()?.network();
            routes.get(&network).map(|ways| ways.best.leads)
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

impl Ways {
    fn all_mut(&mut self) -> impl Iterator<Item = &mut Way> {
        std::iter::once(&mut self.best).chain(&mut self.others)
    }
}

impl Way {
    fn is_same(&self, other: &Way) -> bool {
        (self.metric, self.tos, self.leads) == (other.metric, other.tos, other.leads)
    }

    fn has_key_of(&self, route: &Route) -> bool {
        (self.metric, self.tos) == (route.priority, route.tos)
    }

    /// None if the lookup goes on at the next shorter route.
    fn of(route: &Route) -> Option<Way> {
        let leads = match (&route.kind, route.gateway, route.oif) {
            (RouteType::Throw, ..) => return None,
            (RouteType::Unicast, None, Some(oif)) => Leads::OnLink(oif),
            (RouteType::Unicast, ..) => Leads::Onwards,
            _ => Leads::Nowhere,
        };
        Some(Way {
            metric: route.priority,
            tos: route.tos,
            leads,
            // next hops of IPv6 come and go one by one
            several: leads == Leads::Onwards && route.gateway.is_none() && route.dst.is_ipv6(),
        })
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
    fn routes_follow_their_notifications() {
        let (default, connected) = ("0.0.0.0/0", "172.31.0.0/24");
        let by_gateway = route(default, Some("172.31.0.254"));
        let on_link = route(connected, None);
        let mut routes = UnderlayRoutes::new([&by_gateway, &on_link], |_| false);
        let (near, far) = (ip("172.31.0.7"), ip("192.0.2.1"));
        let reached = |routes: &UnderlayRoutes| {
            let on_link = routes.is_on_link(near, 2);
            (on_link, routes.reaches(near), routes.reaches(far))
        };
        assert_eq!(reached(&routes), (true, true, true));
        assert!(routes.follow(&on_link, RouteChange::Deleted));
        assert_eq!(reached(&routes), (false, true, true));
        assert!(routes.follow(&on_link, RouteChange::Deleted), "once more");
        assert!(routes.follow(&by_gateway, RouteChange::Deleted));
        assert_eq!(reached(&routes), (false, false, false));
        assert!(routes.follow(&on_link, RouteChange::Added));
        let mut worse = route(connected, Some("172.31.0.9"));
        worse.priority = 9;
        assert!(routes.follow(&worse, RouteChange::Appended));
        assert_eq!(reached(&routes), (true, true, false));
        assert!(routes.follow(&on_link, RouteChange::Deleted));
        assert_eq!(reached(&routes), (false, true, false));
        let mut refused = worse.clone();
        refused.kind = RouteType::BlackHole;
        assert!(routes.follow(&refused, RouteChange::Replaced));
        assert_eq!(reached(&routes), (false, false, false));
        let mut other_table = route(connected, None);
        other_table.table = 100;
        assert!(routes.follow(&other_table, RouteChange::Added));
        assert_eq!(reached(&routes), (false, false, false));
    }

    /// Every link has a route to fe80::/64, with one metric.
    #[test]
    fn routes_over_other_interfaces_are_told_apart() {
        let over = |oif: u32, dst: &str| {
            let mut route = route(dst, None);
            route.oif = Some(oif);
            route
        };
        let (dst, peer) = ("fe80::/64", ip("fe80::7"));
        let mut routes = UnderlayRoutes::new([&over(2, dst), &over(3, dst)], |_| false);
        for veth in 10..20 {
            assert!(routes.follow(&over(veth, dst), RouteChange::Added));
            assert!(routes.follow(&over(veth, dst), RouteChange::Added), "known");
        }
        assert!(routes.is_on_link(peer, 2));
        assert!(routes.follow(&over(2, dst), RouteChange::Deleted));
        assert!(routes.is_on_link(peer, 3));
        for gone in (10..20).chain([3]) {
            assert!(routes.follow(&over(gone, dst), RouteChange::Deleted));
        }
        assert!(!routes.reaches(peer));
        // IPv4: the last one comes in front, or behind if it is appended
        let (dst, peer) = ("172.31.0.0/24", ip("172.31.0.7"));
        assert!(routes.follow(&over(2, dst), RouteChange::Added));
        assert!(routes.follow(&over(3, dst), RouteChange::Appended));
        assert!(routes.is_on_link(peer, 2));
        assert!(routes.follow(&over(4, dst), RouteChange::Added));
        assert!(routes.is_on_link(peer, 4));
        assert!(
            !routes.follow(&over(5, dst), RouteChange::Replaced),
            "which one"
        );
    }

    #[test]
    fn notification_that_says_too_little_is_not_followed() {
        let first = route("192.0.2.0/24", Some("172.31.0.8"));
        let second = route("192.0.2.0/24", Some("172.31.0.9"));
        let mut one = UnderlayRoutes::new([&first], |_| false);
        assert!(!one.follow(&second, RouteChange::Added), "in front of it");
        let mut two = UnderlayRoutes::new([&first, &second], |_| false);
        assert!(!two.follow(&first, RouteChange::Deleted));
        assert!(two.reaches(ip("192.0.2.1")));
        let mut next_hops = route("2001:db8::/32", None);
        next_hops.oif = None;
        let mut several = UnderlayRoutes::new([&next_hops], |_| false);
        let hop = route("2001:db8::/32", Some("fd31::7"));
        for change in [RouteChange::Appended, RouteChange::Deleted] {
            assert!(!several.follow(&hop, change), "{change:?}");
        }
        assert!(several.reaches(ip("2001:db8::1")));
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
