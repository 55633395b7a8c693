//! Routes of other programs that lead to a peer's subnet in the place of ours. They are reported
//! and left.

use super::ownership::{IP6_DEFAULT_METRIC, Ownership};
use crate::{
    backend::Plan,
    model::host_state::{DeviceName, HostState},
};
use ipnetwork::IpNetwork;
use linux_net::route::{MAIN_TABLE, Route, RouteProtocol, RouteType};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

/// Another program's route to exactly a peer's subnet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RouteConflict {
    pub(crate) subnet: IpNetwork,
    /// The peer's.
    pub(crate) public_ip: IpAddr,
    /// As `ip route` shows it.
    route: String,
    /// The kernel would replace it by ours. False: it precedes ours by its metric.
    replaceable: bool,
}

impl fmt::Display for RouteConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.route)
    }
}

/// The conflicts between a plan and the routes of the main table, in the kernel's order. `name_of`
/// gives the name of an interface.
pub(super) fn find(
    plan: &Plan,
    routes: &[Route],
    ownership: &Ownership,
    name_of: impl Fn(u32) -> Option<DeviceName>,
) -> Vec<RouteConflict> {
    let is_whole = |dst: &IpNetwork| ownership.families.iter().any(|own| own.network == *dst);
    let destinations = plan.state.routes.iter().map(|route| route.dst);
    let whole: Vec<_> = destinations.filter(is_whole).collect();
    let has_route = |subnet: IpNetwork| {
        let mut whole = whole.iter();
        plan.state.route_to(subnet).is_some() || whole.any(|net| net.contains(subnet.network()))
    };
    let peers: BTreeMap<_, _> = plan
        .peers
        .iter()
        .filter(|peer| has_route(peer.subnet))
        .map(|peer| (peer.subnet, peer.public_ip))
        .collect();
    let mut in_place = BTreeSet::new();
    let mut conflicts = Vec::new();
    for route in routes {
        let Some(&public_ip) = peers.get(&route.dst).filter(|_| takes_packets(route)) else {
            continue;
        };
        if ownership.route(route, &name_of).is_some() || leads_to_peer(route, public_ip) {
            in_place.insert(route.dst);
        } else if !in_place.contains(&route.dst) {
            conflicts.push(RouteConflict {
                subnet: route.dst,
                public_ip,
                route: describe(route, &name_of),
                replaceable: route.dst.is_ipv4() || route.priority == IP6_DEFAULT_METRIC,
            });
        }
    }
    conflicts
}

/// Takes the routes that conflicts stand for out of both states, so that nothing is changed.
pub(super) fn leave(
    conflicts: &[RouteConflict],
    wanted: &mut HostState,
    observed: &mut HostState,
) -> BTreeSet<IpNetwork> {
    let replaceable = conflicts.iter().filter(|conflict| conflict.replaceable);
    let left: BTreeSet<_> = replaceable.map(|conflict| conflict.subnet).collect();
    if !left.is_empty() {
        wanted.routes.retain(|route| !left.contains(&route.dst));
        observed.routes.retain(|route| !left.contains(&route.dst));
    }
    conflicts.iter().map(|conflict| conflict.subnet).collect()
}

/// True if packets take this route rather than one of ours to the same destination.
fn takes_packets(route: &Route) -> bool {
    let metric = match route.dst.is_ipv6() {
        true => IP6_DEFAULT_METRIC,
        false => 0,
    };
    route.table == MAIN_TABLE && route.tos == 0 && route.priority <= metric
}

/// True for a route that Go flannel's host-gw or DirectRouting made: it leads to the peer itself.
fn leads_to_peer(route: &Route, public_ip: IpAddr) -> bool {
    route.protocol == RouteProtocol::Boot
        && route.kind == RouteType::Unicast
        && route.gateway == Some(public_ip)
}

fn describe(route: &Route, name_of: impl Fn(u32) -> Option<DeviceName>) -> String {
    let mut text = match route.kind {
        RouteType::Unicast => route.dst.to_string(),
        kind => format!("{} {}", format!("{kind:?}").to_lowercase(), route.dst),
    };
    if let Some(gateway) = route.gateway {
        text += &format!(" via {gateway}");
    }
    if let Some(name) = route.oif.and_then(name_of) {
        text += &format!(" dev {name}");
    }
    text + &match route.protocol {
        RouteProtocol::Other(number) => format!(" proto {number}"),
        named => format!(" proto {}", format!("{named:?}").to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::{PlannedPeer, fixtures},
        model::{Family, host_state::HostRoute},
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    fn ownership() -> Ownership {
        Ownership {
            backends: vec![fixtures::vxlan()],
            families: vec![
                Family {
                    network: net("10.244.0.0/16"),
                    subnet: net("10.244.1.0/24"),
                },
                Family {
                    network: net("fd00:10:244::/48"),
                    subnet: net("fd00:10:244:1::/64"),
                },
            ],
            earlier_devices: Vec::new(),
            direct_routes_over: None,
        }
    }

    fn plan() -> Plan {
        let mut plan = Plan::default();
        for (subnet, public_ip, device) in [
            ("10.244.2.0/24", "172.31.0.2", "flannel.1"),
            ("fd00:10:244:2::/64", "fd31::2", "flannel-v6.1"),
        ] {
            let subnet = net(subnet);
            plan.state.routes.insert(HostRoute {
                onlink: true,
                ..HostRoute::new(subnet, subnet.network(), device.into())
            });
            plan.peers.push(PlannedPeer {
                subnet,
                public_ip: ip(public_ip),
            });
        }
        plan
    }

    fn name_of(index: u32) -> Option<DeviceName> {
        let names = ["eth0", "flannel.1", "flannel-v6.1"];
        let position = usize::try_from(index).unwrap().checked_sub(2)?;
        names.get(position).map(|name| (*name).into())
    }

    fn found(routes: &[Route]) -> Vec<String> {
        let conflicts = find(&plan(), routes, &ownership(), name_of);
        conflicts.iter().map(RouteConflict::to_string).collect()
    }

    fn route(gateway: &str, oif: u32) -> Route {
        Route {
            gateway: Some(ip(gateway)),
            oif: Some(oif),
            ..Route::new(net("10.244.2.0/24"))
        }
    }

    #[test]
    fn foreign_route_to_a_peers_subnet_is_a_conflict() {
        let blackhole = Route {
            kind: RouteType::BlackHole,
            protocol: RouteProtocol::Static,
            ..Route::new(net("10.244.2.0/24"))
        };
        assert_eq!(
            found(std::slice::from_ref(&blackhole)),
            ["blackhole 10.244.2.0/24 proto static"]
        );
        assert_eq!(
            found(&[route("172.31.0.3", 2)]),
            ["10.244.2.0/24 via 172.31.0.3 dev eth0 proto boot"]
        );
        let bird = Route {
            protocol: RouteProtocol::Other(77),
            onlink: true,
            ..route("10.244.2.0", 3)
        };
        assert_eq!(
            found(&[bird]),
            ["10.244.2.0/24 via 10.244.2.0 dev flannel.1 proto 77"]
        );
        let v6 = Route {
            priority: 50,
            ..Route::new(net("fd00:10:244:2::/64"))
        };
        assert_eq!(found(&[v6]), ["fd00:10:244:2::/64 proto boot"]);
    }

    #[test]
    fn routes_of_flannel_and_those_behind_ours_are_no_conflicts() {
        let ours = Route {
            onlink: true,
            ..route("10.244.2.0", 3)
        };
        let behind = Route {
            protocol: RouteProtocol::Bird,
            ..route("172.31.0.3", 2)
        };
        assert_eq!(found(&[ours, behind.clone()]), [""; 0]);
        assert_eq!(found(&[route("172.31.0.2", 2)]), [""; 0], "Go's host-gw");
        for elsewhere in [
            Route {
                priority: 50,
                ..behind.clone()
            },
            Route {
                table: 100,
                ..behind.clone()
            },
            Route {
                tos: 16,
                ..behind.clone()
            },
            Route {
                dst: net("10.244.2.0/25"),
                ..behind
            },
        ] {
            assert_eq!(found(std::slice::from_ref(&elsewhere)), [""; 0]);
        }
    }

    #[test]
    fn foreign_route_beside_one_to_the_whole_network_is_a_conflict() {
        let mut plan = plan();
        plan.state.routes.clear();
        let routes = [route("172.31.0.3", 2)];
        let found = |plan: &Plan| find(plan, &routes, &ownership(), name_of).len();
        assert_eq!(found(&plan), 0, "no route of ours is in its place");
        let network = HostRoute::on_link(net("10.244.0.0/16"), "flannel-wg".into());
        plan.state.routes.insert(network);
        assert_eq!(found(&plan), 1);
        let mut observed = plan.state.clone();
        let conflicts = find(&plan, &routes, &ownership(), name_of);
        leave(&conflicts, &mut plan.state, &mut observed);
        assert_eq!(plan.state.routes.len(), 1, "the others need it");
    }

    #[test]
    fn conflict_takes_its_route_out_of_both_states() {
        let mut plan = plan();
        let mut observed = plan.state.clone();
        let conflicts = find(&plan, &[route("172.31.0.3", 2)], &ownership(), name_of);
        let subnets = leave(&conflicts, &mut plan.state, &mut observed);
        assert_eq!(subnets, [net("10.244.2.0/24")].into());
        assert_eq!((plan.state.routes.len(), observed.routes.len()), (1, 1));
    }
}
