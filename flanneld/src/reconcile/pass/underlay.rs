//! The underlay while the daemon runs: which interface it is, and why packets do not leave by it.

use super::Reconciler;
use crate::{
    backend::{Plan, SkippedLease},
    data_path::Failure,
    model::node_record::NodeRecord,
    reconcile::observe::Dump,
    underlay::{Observation, Obstacle, RouteDependencies, Selector, UnderlayRoutes},
};
use linux_net::route::RouteType;
use std::{sync::Arc, time::Instant};
use tracing::{info, warn};

/// Peers to which the kernel is asked for a route if the main table has none: enough to find that
/// the host routes by other tables.
const CONFIRMED_PEERS: usize = 16;

/// What was logged of a selection that fails.
#[derive(Debug, Default)]
pub(super) struct Reselect {
    logged: Option<String>,
}

impl Reconciler {
    /// Follows this node's record: the next pass selects the underlay by it.
    pub(crate) fn set_record(&mut self, record: &NodeRecord) {
        let selector = self.settings.selector.with_record(record);
        let addresses = |selector: &Selector| (selector.public_ip, selector.public_ipv6);
        if addresses(&selector) != addresses(&self.selector) {
            self.selector = selector;
            self.reselect = Some(Reselect::default());
        }
    }

    /// Returns when to look again if the underlay is missing. Until then the data path stays.
    pub(super) fn track_underlay(&mut self, dump: &Dump) -> Option<Instant> {
        self.reselect_underlay(dump);
        let now = Instant::now();
        match self.underlay.update(&self.selector, &dump.host, now) {
            Observation::Unchanged => None,
            Observation::Changed => {
                match self.underlay.obstacle() {
                    None => info!("the underlay is now {}", self.underlay.current),
                    Some(obstacle) => warn!("the underlay {}: {obstacle}", self.underlay.current),
                }
                self.backoff.clear();
                None
            }
            Observation::Missing { first, until } => {
                if first {
                    warn!(
                        "the underlay {} is missing; waiting for it",
                        self.underlay.current
                    );
                }
                Some(until).filter(|until| *until > now)
            }
        }
    }

    /// After a change of the selector. If it selects nothing, the underlay stays, and each pass
    /// tries again.
    fn reselect_underlay(&mut self, dump: &Dump) {
        let Some(reselect) = &mut self.reselect else {
            return;
        };
        match self.underlay.reselect(&self.selector, &dump.host) {
            Ok(changed) => {
                self.reselect = None;
                if changed {
                    info!("the underlay is now {}", self.underlay.current);
                    self.backoff.clear();
                }
            }
            Err(error) => {
                let text = Some(error.to_string());
                if reselect.logged != text {
                    warn!(
                        "the underlay stays {}, because the addresses that this node's record names cannot be used: \
                         {error}",
                        self.underlay.current
                    );
                    reselect.logged = text;
                }
            }
        }
    }

    pub(super) fn route_dependencies(
        &self,
        plan: &Plan,
        routes: &UnderlayRoutes,
    ) -> RouteDependencies {
        let planned = plan.peers.iter().map(|peer| peer.public_ip);
        let off_link = plan.skipped.iter().filter_map(SkippedLease::off_link);
        let peers = planned.chain(off_link).collect();
        RouteDependencies::new(peers, routes, self.transition.makes_direct_routes())
    }

    /// Why packets do not leave this host. The main table is not all that the kernel routes by: a
    /// peer that it does not lead to counts if the kernel confirms it.
    pub(super) fn obstacles(
        &mut self,
        dependencies: &RouteDependencies,
        data_path: Option<Failure>,
    ) -> Arc<[Obstacle]> {
        let without_route = &dependencies.without_route;
        let netlink = &mut self.kernel.netlink;
        let mut asked = without_route.iter().take(CONFIRMED_PEERS);
        let unreachable = asked.find(|peer| {
            let route = netlink.route_to(**peer);
            !route.is_ok_and(|route| route.kind == RouteType::Unicast)
        });
        let no_route = unreachable.map(|peer| Obstacle::NoRoute {
            peer: *peer,
            others: without_route.len() - 1,
        });
        let refused = self.refusal().map(Obstacle::Refused);
        let underlay = self.underlay.obstacle().into_iter();
        let too_small = self.too_small_for_ipv6();
        let data_path = data_path.map(|failure| Obstacle::DataPath(failure.to_string()));
        let node = underlay.chain(refused).chain(too_small).chain(data_path);
        node.chain(no_route).collect()
    }

    fn too_small_for_ipv6(&self) -> Option<Obstacle> {
        let underlay = &self.underlay.current;
        let pod_mtu = self.settings.backend.pod_mtu(underlay);
        let found = Obstacle::of_mtu(&underlay.name, underlay.mtu, pod_mtu);
        found.filter(|_| self.settings.config.enable_ipv6)
    }

    /// Why the backend cannot work on the present underlay.
    pub(super) fn refusal(&self) -> Option<String> {
        let refused = self.settings.backend.refuses(&self.underlay.current);
        refused.map(|error| error.to_string())
    }
}
