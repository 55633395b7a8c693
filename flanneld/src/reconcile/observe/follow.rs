//! Follows what notifications say of single entries, and what a pass changed itself, in the state
//! that the last pass left. The next pass needs no other look at the host.

use super::{Dump, names};
use crate::{
    model::entry::Entry,
    reconcile::{
        apply::kernel_route,
        diff::Change,
        kernel::Kernel,
        ownership::{self, IP6_DEFAULT_METRIC, Ownership},
        policies,
    },
    rules::RulePlace,
};
use linux_net::{
    monitor::{Event, RouteChange},
    route::Route,
};
use std::sync::Arc;

impl Dump {
    /// Follows a change of an entry since the last pass settled the host.
    pub(crate) fn follow(&mut self, event: &Event, ownership: &Ownership) {
        let Some(settled) = &mut self.settled else {
            return;
        };
        let own = Arc::make_mut(&mut settled.own);
        let name_of = |index| self.names.get(&index).cloned();
        match event {
            Event::Route(route, change) => {
                if *change == RouteChange::Replaced && ownership::has_our_key(route) {
                    own.routes.retain(|old| old.dst != route.dst);
                }
                if let Some(ours) = ownership.route(route, name_of) {
                    match change.is_addition() {
                        true => own.routes.insert(ours),
                        false => own.routes.remove(&ours),
                    };
                }
                if *change == RouteChange::Replaced {
                    own.blackholes
                        .retain(|old| (old.dst, old.metric) != (route.dst, route.priority));
                }
                if let Some(ours) = ownership.blackhole(route) {
                    match change.is_addition() {
                        true => own.blackholes.insert(ours),
                        false => own.blackholes.remove(&ours),
                    };
                }
                follow_route(&mut self.host.routes, route, *change);
            }
            Event::Neighbour(entry, added) => {
                let device = name_of(entry.index).and_then(|name| own.devices.get_mut(&name));
                if let Some(device) = device {
                    device.neighbours.retain(|(ip, _)| *ip != entry.ip);
                    let pair = ownership::neighbour(entry).filter(|_| *added);
                    device.neighbours.extend(pair);
                }
            }
            Event::Fdb(entry, added) => {
                let device = name_of(entry.index).and_then(|name| own.devices.get_mut(&name));
                if let Some(device) = device {
                    device.fdb.retain(|(mac, _)| *mac != entry.mac);
                    let pair = ownership::fdb(entry).filter(|_| *added);
                    device.fdb.extend(pair);
                }
            }
            _ => {}
        }
    }

    /// Follows a change of another program's route outside of the pod network. False if the host
    /// has to be read.
    pub(crate) fn follow_other(&mut self, route: &Route, change: RouteChange) -> bool {
        let Some(settled) = &mut self.settled else {
            return false;
        };
        if route.dst.prefix() == 0 {
            follow_route(&mut self.host.routes, route, change);
        }
        Arc::make_mut(&mut settled.underlay_routes).follow(route, change)
    }

    /// Reads links and addresses again.
    pub(crate) fn read_addresses(&mut self, kernel: &mut Kernel) -> linux_net::Result<()> {
        self.host.links = kernel.netlink.links()?;
        self.host.addresses = kernel.netlink.addresses(None)?;
        self.names = names(&self.host.links);
        Ok(())
    }

    /// Follows the changes of a pass to our routes: what precedes what counts for conflicts.
    pub(crate) fn follow_own(&mut self, done: &[Change]) {
        let indexes = self.indexes_by_name();
        for change in done {
            let Entry::Route(ours) = change.entry() else {
                continue;
            };
            let Some(index) = indexes.get(&ours.device) else {
                continue;
            };
            let mut route = kernel_route(ours, *index);
            if route.dst.is_ipv6() {
                route.priority = IP6_DEFAULT_METRIC;
            }
            let became = match change {
                Change::Put(_) => RouteChange::Replaced,
                Change::Delete(_) => RouteChange::Deleted,
            };
            follow_route(&mut self.host.routes, &route, became);
        }
    }

    /// Reads the policies of IPsec again.
    pub(crate) fn read_policies(
        &mut self,
        kernel: &mut Kernel,
        ownership: &Ownership,
    ) -> linux_net::Result<()> {
        if let Some(settled) = &mut self.settled {
            let policies = policies::ours(&policies::read(kernel)?, ownership);
            Arc::make_mut(&mut settled.own).policies = policies;
        }
        Ok(())
    }

    /// Reads the rules again.
    pub(crate) fn read_rules(&mut self, kernel: &mut Kernel, place: &RulePlace) {
        if let Some(settled) = &mut self.settled {
            let state = Arc::make_mut(&mut settled.own);
            *state = kernel.rules(place).into_state(std::mem::take(state));
        }
    }
}

/// Follows a notified change in a list of routes that has the kernel's order among those with the
/// same destination, type of service and metric.
fn follow_route(routes: &mut Vec<Route>, route: &Route, change: RouteChange) {
    let key = |route: &Route| (route.table, route.dst, route.tos, route.priority);
    let is_same = |other: &Route| {
        let hop = |route: &Route| (route.kind, route.gateway, route.oif, route.protocol);
        key(other) == key(route) && hop(other) == hop(route)
    };
    match change {
        RouteChange::Deleted => routes.retain(|other| !is_same(other)),
        RouteChange::Replaced => {
            routes.retain(|other| !is_same(other));
            if let Some(old) = routes.iter().position(|other| key(other) == key(route)) {
                routes.remove(old);
            }
            routes.insert(0, route.clone());
        }
        RouteChange::Added if !routes.iter().any(is_same) => routes.insert(0, route.clone()),
        RouteChange::Appended if !routes.iter().any(is_same) => routes.push(route.clone()),
        RouteChange::Added | RouteChange::Appended => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Settled, *};
    use crate::{
        backend::fixtures,
        model::{
            Family,
            host_state::{Device, HostRoute, HostState},
        },
        reconcile::{kernel::Rules, observe::device_link},
        underlay::fixtures as host,
    };
    use linux_net::{Mac, fdb::FdbEntry, neighbour::Neighbour, route::RouteType};
    use std::net::IpAddr;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 8]);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn ours(dst: &str) -> HostRoute {
        let dst: ipnetwork::IpNetwork = dst.parse().unwrap();
        HostRoute {
            onlink: true,
            ..HostRoute::new(dst, dst.network(), "flannel.1".into())
        }
    }

    fn via(dst: &str, gateway: &str) -> Route {
        Route {
            gateway: Some(ip(gateway)),
            oif: Some(2),
            ..Route::new(dst.parse().unwrap())
        }
    }

    fn ownership() -> Ownership {
        let family = |network: &str, subnet: &str| Family {
            network: network.parse().unwrap(),
            subnet: subnet.parse().unwrap(),
        };
        Ownership {
            backends: vec![fixtures::vxlan()],
            families: vec![
                family("10.244.0.0/16", "10.244.1.0/24"),
                family("fd00:10:244::/48", "fd00:10:244:1::/64"),
            ],
            earlier_devices: Vec::new(),
            direct_routes_over: None,
        }
    }

    /// A settled host with a route, a neighbour and an FDB entry to one peer.
    fn dump() -> Dump {
        let link = device_link(&host::link(3, "flannel.1"));
        let device = Device {
            neighbours: [(ip("10.244.2.0"), MAC)].into(),
            fdb: [(MAC, ip("172.31.0.2"))].into(),
            ..Device::bare(link)
        };
        let own = HostState {
            devices: [("flannel.1".into(), device)].into(),
            routes: [ours("10.244.2.0/24"), ours("fd00:10:244:2::/64")].into(),
            ..HostState::default()
        };
        let mut dump = Dump {
            host: host::host(),
            names: [(2, "eth0".into()), (3, "flannel.1".into())].into(),
            neighbours: Vec::new(),
            fdb: Vec::new(),
            tx_checksums: Default::default(),
            wireguard: Default::default(),
            policies: Vec::new(),
            rules: Rules::default(),
            settled: Some(Settled {
                own: Arc::new(own.clone()),
                underlay_routes: Arc::default(),
            }),
        };
        dump.host.routes.clear();
        let routes = own.routes.iter().cloned();
        let put: Vec<_> = routes
            .map(|route| Change::Put(Entry::Route(route)))
            .collect();
        dump.follow_own(&put);
        dump
    }

    fn own_routes(dump: &Dump) -> usize {
        dump.interpret(&ownership()).routes.len()
    }

    #[test]
    fn route_that_takes_the_place_of_ours_ends_it_and_one_behind_it_does_not() {
        let ownership = ownership();
        for (dst, gateway) in [
            ("10.244.2.0/24", "172.31.0.9"),
            ("fd00:10:244:2::/64", "fd31::9"),
        ] {
            let metric = if dst.contains(':') { 1024 } else { 0 };
            let other = Route {
                priority: metric,
                ..via(dst, gateway)
            };
            let position = |dump: &Dump, route: &Route| {
                let mut routes = dump.host.routes.iter();
                routes.position(|found| found == route)
            };
            let mut replaced = dump();
            replaced.follow(
                &Event::Route(other.clone(), RouteChange::Replaced),
                &ownership,
            );
            assert_eq!(own_routes(&replaced), 1, "{dst}");
            let at: Vec<_> = replaced.host.routes.iter().map(|route| route.dst).collect();
            assert_eq!(at.len(), 2, "{at:?}");
            replaced.follow(
                &Event::Route(other.clone(), RouteChange::Deleted),
                &ownership,
            );
            assert_eq!(replaced.host.routes.len(), 1);

            let mut behind = dump();
            behind.follow(
                &Event::Route(other.clone(), RouteChange::Appended),
                &ownership,
            );
            assert_eq!(
                (own_routes(&behind), position(&behind, &other)),
                (2, Some(2))
            );
            let mut before = dump();
            before.follow(&Event::Route(other.clone(), RouteChange::Added), &ownership);
            assert_eq!(
                (own_routes(&before), position(&before, &other)),
                (2, Some(0))
            );
            // a notification that the dump has seen already
            before.follow(&Event::Route(other.clone(), RouteChange::Added), &ownership);
            assert_eq!(before.host.routes.len(), 3);

            // another metric takes nothing's place
            let mut worse = dump();
            let other = Route {
                priority: 5000,
                kind: RouteType::BlackHole,
                ..other
            };
            worse.follow(&Event::Route(other, RouteChange::Replaced), &ownership);
            assert_eq!((own_routes(&worse), worse.host.routes.len()), (2, 3));
        }
    }

    #[test]
    fn entries_follow_their_notifications() {
        let ownership = ownership();
        let mut dump = dump();
        let kernel = kernel_route(&ours("10.244.2.0/24"), 3);
        dump.follow(
            &Event::Route(kernel.clone(), RouteChange::Deleted),
            &ownership,
        );
        assert_eq!((own_routes(&dump), dump.host.routes.len()), (1, 1));
        dump.follow(&Event::Route(kernel, RouteChange::Added), &ownership);
        assert_eq!((own_routes(&dump), dump.host.routes.len()), (2, 2));

        let peer = ip("10.244.2.0");
        let device = |dump: &Dump| dump.interpret(&ownership).devices["flannel.1"].clone();
        let changed = Neighbour::permanent(3, peer, OTHER);
        dump.follow(&Event::Neighbour(changed, true), &ownership);
        assert_eq!(device(&dump).neighbours, [(peer, OTHER)].into());
        let gone = Neighbour::permanent(3, peer, OTHER);
        dump.follow(&Event::Neighbour(gone, false), &ownership);
        assert!(device(&dump).neighbours.is_empty());

        let moved = FdbEntry::permanent(3, MAC, ip("172.31.0.9"));
        dump.follow(&Event::Fdb(moved.clone(), true), &ownership);
        assert_eq!(device(&dump).fdb, [(MAC, ip("172.31.0.9"))].into());
        dump.follow(&Event::Fdb(moved, false), &ownership);
        assert!(device(&dump).fdb.is_empty());
        // a device that is not ours
        let other = Neighbour::permanent(2, peer, OTHER);
        dump.follow(&Event::Neighbour(other, true), &ownership);
        assert!(device(&dump).neighbours.is_empty());
    }
}
