//! The backends side by side: the one that the configuration names, and those of earlier
//! configurations that other nodes still use.
//!
//! While the nodes of a cluster change their backend one after another, a node reaches each peer by
//! the backend that the peer's lease names. A node whose configuration does not have that backend
//! yet keeps to what the peer published before. An earlier backend goes [`LINGER`] after the last
//! peer stopped using it.
//!
//! Packets must not take a way before both of its ends are there, nor one of which an end is gone.
//! A node makes its tunnels, publishes its change, and sets up then what depends on peers; each
//! node learns of the change at another moment: hence the delays below. Where packets need a
//! session first (`sessions`), or keys (`keys`), the earlier way stays until they are there.

mod keys;
mod sessions;

pub(super) use sessions::Handshake;

use crate::{
    backend::{Backend, Input, PeerError, PeerLeases, Plan},
    model::{
        host_state::{DeviceName, HostRoute, HostState},
        lease::{Lease, Leases},
        network_config::NetworkConfig,
    },
    underlay::{Underlay, UnderlayRoutes},
};
use ipnetwork::IpNetwork;
use keys::AwaitedKeys;
use linux_net::xfrm::{Direction, Policy, SecurityAssociation};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a peer that changed its backend is still reached by the earlier one: it publishes the
/// change before its new device knows the peers, and a loaded node needs seconds for that.
const SWITCH_DELAY: Duration = Duration::from_secs(6);

/// How long a node that starts under another backend leaves the ways to its peers as it finds them:
/// they still send by the earlier backend for [`SWITCH_DELAY`] after they see the change, which
/// they see as late as a second after this node.
const HOLD: Duration = Duration::from_secs(7);

/// How long an earlier backend stays after its last peer, and how long a node that starts under
/// another backend keeps what the earlier one has for peers: for as long as a peer may hold, and a
/// while longer, since a loaded peer begins to hold seconds after this node sees its change.
const LINGER: Duration = Duration::from_secs(15);

/// The backends of this node.
#[derive(Debug)]
pub(super) struct Transition {
    current: Part,
    earlier: Vec<EarlierPart>,
    /// When the first snapshot came.
    known_since: Option<Instant>,
    /// Peers that an earlier backend and the current one both reach.
    both: BTreeMap<IpNetwork, Change>,
    /// When a session or keys were last missing.
    awaited: Option<Instant>,
    /// When to look for sessions again.
    next_look: Option<Instant>,
    awaited_keys: AwaitedKeys,
}

/// A peer's change of its backend.
#[derive(Debug, Clone, Copy)]
struct Change {
    /// From this node's current one to an earlier one.
    to_earlier: bool,
    since: Instant,
}

/// What a plan depends on besides the leases.
#[derive(Debug, Clone, Copy)]
pub(super) struct Host<'a> {
    pub(super) config: &'a NetworkConfig,
    pub(super) underlay: &'a Underlay,
    pub(super) own: &'a Lease,
    pub(super) routes: &'a UnderlayRoutes,
}

/// A backend with the leases as it reads them.
#[derive(Debug)]
struct Part {
    backend: Arc<dyn Backend>,
    leases: PeerLeases,
}

#[derive(Debug)]
struct EarlierPart {
    part: Part,
    /// When the last peer stopped using it.
    unused_since: Option<Instant>,
}

impl Part {
    fn new(backend: Arc<dyn Backend>) -> Part {
        Part {
            backend,
            leases: PeerLeases::default(),
        }
    }

    fn plan(&self, host: Host<'_>) -> Plan {
        let Host {
            config,
            underlay,
            own,
            routes,
        } = host;
        self.backend.plan(&Input {
            config,
            underlay,
            own,
            leases: &self.leases,
            routes,
        })
    }
}

impl Transition {
    pub(super) fn new(current: Arc<dyn Backend>, earlier: &[Arc<dyn Backend>]) -> Transition {
        let earlier = earlier.iter().cloned().map(|backend| EarlierPart {
            part: Part::new(backend),
            unused_since: None,
        });
        Transition {
            current: Part::new(current),
            earlier: earlier.collect(),
            known_since: None,
            both: BTreeMap::new(),
            awaited: None,
            next_look: None,
            awaited_keys: AwaitedKeys::default(),
        }
    }

    /// Takes over a snapshot of the leases.
    pub(super) fn update(&mut self, snapshot: &Leases, now: Instant) {
        self.known_since.get_or_insert(now);
        self.current.leases.update(&*self.current.backend, snapshot);
        for EarlierPart { part, unused_since } in &mut self.earlier {
            part.leases.update(&*part.backend, snapshot);
            if part.leases.is_used() || self.awaited_keys.are_awaited() {
                *unused_since = None;
            } else if unused_since.is_none() {
                *unused_since = Some(now);
            }
        }
    }

    /// The current one first.
    pub(super) fn backends(&self) -> Vec<Arc<dyn Backend>> {
        self.parts().map(|part| part.backend.clone()).collect()
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        let earlier = self.earlier.iter().map(|earlier| &earlier.part);
        std::iter::once(&self.current).chain(earlier)
    }

    pub(super) fn device_names(&self) -> Vec<DeviceName> {
        let names = self.parts().flat_map(|part| part.backend.device_names());
        names.cloned().collect()
    }

    /// The shortest time that one of them allows between passes.
    pub(super) fn look_interval(&self) -> Duration {
        let intervals = self
            .earlier
            .iter()
            .map(|earlier| earlier.part.backend.look_interval());
        intervals.fold(self.current.backend.look_interval(), Duration::min)
    }

    /// True if any of them makes routes over the underlay's interface.
    pub(super) fn makes_direct_routes(&self) -> bool {
        self.parts().any(|part| part.backend.makes_direct_routes())
    }

    /// The number of leases of which a family is among these.
    pub(super) fn count(
        &self,
        families: impl Iterator<Item = (IpNetwork, Option<IpAddr>)>,
    ) -> usize {
        self.current.leases.count(families)
    }

    /// What this host should have: each peer by one backend.
    pub(super) fn plan(&mut self, host: Host<'_>, now: Instant) -> Plan {
        let mut plan = self.current.plan(host);
        let mut both = BTreeMap::new();
        let kept = self.current.leases.kept();
        let mut reached = subnets(&plan);
        for earlier in &self.earlier {
            let addition = earlier.part.plan(host);
            let further = subnets(&addition);
            for subnet in further.intersection(&reached) {
                let to_earlier = kept.contains(subnet);
                let before = self.both.get(subnet).copied();
                let before = before.filter(|before| before.to_earlier == to_earlier);
                let since = before.map_or(now, |before| before.since);
                both.insert(*subnet, Change { to_earlier, since });
            }
            // what the peer published last counts once it has had the time to set it up
            let stays = |subnet: &IpNetwork| {
                let change: Option<&Change> = both.get(subnet);
                change
                    .is_some_and(|change| (now >= change.since + SWITCH_DELAY) == change.to_earlier)
            };
            let led = further
                .iter()
                .filter(|subnet| !reached.contains(subnet) || stays(subnet));
            let led: BTreeSet<_> = led.copied().collect();
            add(&mut plan, addition, &reached, &led);
            reached.extend(further);
        }
        self.both = both;
        plan.skipped.retain(|lease| {
            let is_other = matches!(
                lease.reason,
                PeerError::OtherBackend { .. } | PeerError::OtherSetting { .. }
            );
            !(is_other && reached.contains(&lease.subnet))
        });
        plan
    }

    /// For [`HOLD`] the ways to the peers stay as they are, and for [`LINGER`] what the earlier
    /// backends have for them; both for longer where keys are missing among these security
    /// associations.
    pub(super) fn keep(
        &mut self,
        plan: &mut Plan,
        observed: &HostState,
        associations: &[SecurityAssociation],
        now: Instant,
    ) {
        if !self.has_earlier() {
            self.awaited_keys = AwaitedKeys::default();
            return;
        }
        let is_before = |until: Option<Instant>| until.is_some_and(|until| now < until);
        let [hold, _] = self.kept_until();
        if is_before(hold) {
            plan.state.keep_ways_of(observed);
        }
        if self.needs_associations() {
            let keys = &mut self.awaited_keys;
            if keys.keep_ways(&mut plan.state, observed, associations, now) {
                self.awaited = Some(now);
            }
        }
        let [_, linger] = self.kept_until();
        if is_before(linger) {
            let earlier = self.earlier.iter();
            let names = earlier.flat_map(|earlier| earlier.part.backend.device_names());
            let names: Vec<_> = names.collect();
            let is_earlier = |name: &str| names.iter().any(|earlier| ***earlier == *name);
            plan.state
                .keep_entries_of(observed, |name| is_earlier(name));
            for config in &mut plan.data_path {
                if is_earlier(&config.device) {
                    Arc::make_mut(config).keeps_peers = true;
                }
            }
        }
        self.awaited_keys.accept_clear_text(&mut plan.state);
    }

    /// True if the security associations count: the current backend takes the place of another one.
    pub(super) fn needs_associations(&self) -> bool {
        self.has_earlier() && self.current.backend.negotiates_keys()
    }

    /// True while news of keys are news.
    pub(super) fn awaits_keys(&self) -> bool {
        self.awaited_keys.are_awaited()
    }

    /// The ends of both times.
    fn kept_until(&self) -> [Option<Instant>; 2] {
        let since = self.known_since.filter(|_| self.has_earlier());
        let hold = since.map(|since| since + HOLD);
        [hold, since.map(|since| self.lingers_until(since))]
    }

    /// [`LINGER`] after this, and after the last wait for a session or for keys.
    fn lingers_until(&self, since: Instant) -> Instant {
        self.awaited.map_or(since, |awaited| awaited.max(since)) + LINGER
    }

    pub(super) fn has_earlier(&self) -> bool {
        !self.earlier.is_empty()
    }

    /// When the next peer is reached by another backend, or an earlier one goes. `now` is that of
    /// the last plan.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let switches = self.both.values().map(|change| change.since + SWITCH_DELAY);
        let ends = self.earlier.iter();
        let ends = ends.filter_map(|earlier| Some(self.lingers_until(earlier.unused_since?)));
        // a peer that changed is reached by both until the earlier one goes
        let kept = self.kept_until().into_iter().flatten();
        let switches = switches.chain(kept).chain(self.next_look);
        let switches = switches.filter(|at| *at > now);
        switches.chain(ends).chain(self.awaited_keys.next()).min()
    }

    /// Takes out the earlier backends that nobody has used for a while.
    pub(super) fn take_unused(&mut self, now: Instant) -> Vec<Arc<dyn Backend>> {
        let all = mem::take(&mut self.earlier);
        let is_unused = |earlier: &EarlierPart| {
            let since = earlier.unused_since;
            since.is_some_and(|since| now >= self.lingers_until(since))
        };
        let (unused, used) = all.into_iter().partition(is_unused);
        self.earlier = used;
        let unused: Vec<EarlierPart> = unused;
        unused
            .into_iter()
            .map(|earlier| earlier.part.backend)
            .collect()
    }
}

fn subnets(plan: &Plan) -> BTreeSet<IpNetwork> {
    plan.peers.iter().map(|peer| peer.subnet).collect()
}

/// Adds what an earlier backend wants. `reached` are the peers of the plan, `led` those whose
/// packets take the earlier backend's way.
fn add(
    plan: &mut Plan,
    mut addition: Plan,
    reached: &BTreeSet<IpNetwork>,
    led: &BTreeSet<IpNetwork>,
) {
    route_each_peer(&mut addition, led);
    let routes = addition.state.routes.into_iter();
    let routes: Vec<_> = routes.filter(|route| led.contains(&route.dst)).collect();
    // a policy leads packets whatever route there is: the one that follows it is there already
    let replaced: BTreeSet<_> = routes.iter().map(|route| route.dst).collect();
    let planned = &mut plan.state.routes;
    planned.retain(|route| !replaced.contains(&route.dst));
    planned.extend(routes);
    let is_out = |policy: &Policy| policy.direction == Direction::Out;
    let planned = &mut plan.state.policies;
    planned.retain(|policy| !is_out(policy) || !led.contains(&policy.dst));
    let policies = addition.state.policies.into_iter();
    planned.extend(policies.filter(|policy| !is_out(policy) || led.contains(&policy.dst)));
    for (name, device) in addition.state.devices {
        plan.state.devices.entry(name).or_insert(device);
    }
    plan.data_path.append(&mut addition.data_path);
    let peers = addition.peers.into_iter();
    plan.peers
        .extend(peers.filter(|peer| !reached.contains(&peer.subnet)));
}

/// In the place of a route to the whole network, of which the host can have one, makes a route to
/// each of these peers.
fn route_each_peer(addition: &mut Plan, peers: &BTreeSet<IpNetwork>) {
    let routes = &addition.state.routes;
    let contains = |route: &HostRoute, subnet: IpNetwork| {
        route.dst.prefix() < subnet.prefix() && route.dst.contains(subnet.network())
    };
    let without_own = peers
        .iter()
        .filter(|peer| addition.state.route_to(**peer).is_none());
    let further = without_own.filter_map(|peer| {
        let whole = routes.iter().find(|route| contains(route, *peer))?;
        Some(HostRoute {
            dst: *peer,
            ..whole.clone()
        })
    });
    let further: Vec<_> = further.collect();
    addition.state.routes.extend(further);
}

#[cfg(test)]
mod tests;
