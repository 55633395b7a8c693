//! One pass: read the host, plan what it should be, change what differs. Synchronous; the loop in
//! `event_loop` decides when.

use super::{
    apply::{self, Applied, IndexesByName},
    backoff::Backoff,
    conflict::{self, RouteConflict},
    diff::{Change, diff},
    event_filter::EventFilter,
    host_changes::HostChanges,
    kernel::Kernel,
    log,
    observe::Dump,
    outcome::Outcome,
    ownership::Ownership,
    pod_mtu,
    transition::{self, Transition},
    tx_checksum::TxChecksum,
};
use crate::{
    backend::{self, Backend, Plan, SkippedLease},
    data_path::{Failure, Supervisor},
    files::{node_state::NodeState, subnet_env},
    model::{
        Family,
        entry::Entry,
        host_state::{Blackhole, DeviceName, HostState, ROUTE_PROTOCOL},
        lease::{Lease, Leases},
        network_config::NetworkConfig,
        node_record::NodeRecord,
        tx_checksum::TxChecksumOffload,
    },
    rules::{PacketFilter, RulePlace, RuleSettings, iptables, nftables, stale_rules::StaleRules},
    underlay::{
        Observation, Obstacle, RouteDependencies, Selector, Tracker, Underlay, UnderlayRoutes,
    },
};
use ipnetwork::IpNetwork;
use linux_net::{address::Address, link, route::RouteType};
use packet_filter::Flavour;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{debug, info, warn};

/// Peers to which the kernel is asked for a route if the main table has none: enough to find that
/// the host routes by other tables.
const CONFIRMED_PEERS: usize = 16;

/// What stays the same while the daemon runs.
pub(crate) struct Settings {
    pub(crate) config: NetworkConfig,
    pub(crate) backend: Arc<dyn Backend>,
    /// Which interface is the underlay, by the options.
    pub(crate) selector: Selector,
    pub(crate) rules: RuleSettings,
    pub(crate) place: RulePlace,
    /// How often rules are read that no notification is about.
    pub(crate) rules_interval: Duration,
    /// `-ip-blackhole-route`
    pub(crate) blackhole_routes: bool,
    pub(crate) tx_checksum: TxChecksumOffload,
    pub(crate) subnet_file: PathBuf,
    /// Has what earlier configurations made.
    pub(crate) state_file: PathBuf,
    /// This node has made direct routes, now or in an earlier run: stale ones are ours to remove.
    pub(crate) had_direct_routes: bool,
    pub(crate) earlier: Earlier,
    /// Of the processes that move packets, for backends whose packets the kernel does not move.
    pub(crate) data_path: BTreeMap<DeviceName, Supervisor>,
}

/// What is left of this daemon's earlier configurations. The first pass whose own devices are in
/// place removes it.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    pub(crate) devices: Vec<DeviceName>,
    /// Their networks: addresses and routes of those on our devices are ours.
    pub(crate) families: Vec<Family>,
    /// Their backends: other nodes may use them still.
    pub(crate) backends: Vec<Arc<dyn Backend>>,
}

/// The state between passes.
pub(crate) struct Reconciler {
    settings: Settings,
    kernel: Kernel,
    /// Which interface is the underlay, by the options and this node's record.
    selector: Selector,
    /// The selector changed, and no underlay was selected by it yet.
    reselect: Option<Reselect>,
    underlay: Tracker,
    backoff: Backoff,
    transition: Transition,
    tx_checksum: TxChecksum,
    /// The host after the last pass.
    last: Option<Dump>,
    /// The ifindexes that our devices had: one that another program renames is found by it.
    former_indexes: IndexesByName,
    logged: log::Logged,
    /// Rules elsewhere than where the configuration has them.
    stale_rules: StaleRules,
}

/// What a pass is to do.
struct Planned {
    plan: Plan,
    conflicts: Vec<RouteConflict>,
    /// The subnets that `conflicts` are about.
    in_conflict: BTreeSet<IpNetwork>,
    changes: Vec<Change>,
}

/// What was logged of a selection that fails.
#[derive(Debug, Default)]
struct Reselect {
    logged: Option<String>,
}

impl Reconciler {
    /// Uses the sockets of `kernel`, and so their network namespace.
    pub(crate) fn new(
        settings: Settings,
        record: &NodeRecord,
        kernel: Kernel,
        underlay: Underlay,
    ) -> Reconciler {
        Reconciler {
            selector: settings.selector.with_record(record),
            reselect: None,
            transition: Transition::new(settings.backend.clone(), &settings.earlier.backends),
            tx_checksum: TxChecksum::new(settings.tx_checksum),
            settings,
            kernel,
            underlay: Tracker::new(underlay),
            backoff: Backoff::default(),
            last: None,
            former_indexes: IndexesByName::new(),
            logged: log::Logged::default(),
            stale_rules: StaleRules::default(),
        }
    }

    /// The time between passes without any notification.
    pub(crate) fn look_interval(&self) -> Duration {
        self.transition.look_interval()
    }

    /// How often the rules are to be read: None if notifications say when they change.
    pub(crate) fn rules_interval(&self) -> Option<Duration> {
        let is_silent = self.kernel.iptables_flavour() == Some(Flavour::Legacy);
        is_silent.then_some(self.settings.rules_interval)
    }

    pub(crate) fn subnet_file(&self) -> &std::path::Path {
        &self.settings.subnet_file
    }

    /// Follows this node's record: the next pass selects the underlay by it.
    pub(crate) fn set_record(&mut self, record: &NodeRecord) {
        let selector = self.settings.selector.with_record(record);
        let addresses = |selector: &Selector| (selector.public_ip, selector.public_ipv6);
        if addresses(&selector) != addresses(&self.selector) {
            self.selector = selector;
            self.reselect = Some(Reselect::default());
        }
    }

    /// Makes the host what it should be. Without a snapshot of the leases the pass sets the node up
    /// and leaves every peer's entries as they are. Of the host it reads what may have changed
    /// since the last pass. Fails if it cannot be read.
    pub(crate) fn pass(
        &mut self,
        own: &Lease,
        snapshot: Option<&Leases>,
        changes: &HostChanges,
    ) -> linux_net::Result<Outcome> {
        let start = Instant::now();
        self.leave_unused_backends();
        let last = self.last.take().filter(|_| !changes.is_everything());
        let dump = match last.and_then(|dump| self.with_changes(dump, changes, own)) {
            Some(dump) => dump,
            None => self.read_host()?,
        };
        let underlay_retry = self.track_underlay(&dump);
        let ownership = self.ownership(own);
        let routes = dump.underlay_routes(&ownership);
        let Planned {
            mut plan,
            conflicts,
            in_conflict,
            changes,
        } = self.plan_changes(own, snapshot, &dump, &ownership, &routes);
        // before routes lead to a peer
        let data_path_failure = snapshot.and_then(|_| self.tell_data_path(&plan));
        let dependencies = self.route_dependencies(&plan, &routes);
        let mut indexes = self.indexes_by_name(&dump);
        let (read_and_planned, count) = (start.elapsed(), changes.len());
        let applied = apply::apply(
            &mut self.kernel,
            changes,
            &mut indexes,
            &self.former_indexes,
            &mut self.backoff,
        );
        let ours = indexes.iter();
        let ours = ours.filter(|(name, _)| ownership.device(name).is_some());
        let ours = ours.map(|(name, index)| (name.clone(), *index));
        self.former_indexes.extend(ours);
        debug!(
            "pass: {read_and_planned:?} to read and plan, {:?} for {count} changes",
            start.elapsed() - read_and_planned
        );
        log::changes(&applied, &self.backoff, &plan.peers);
        let setup_in_place = !self.backoff.affects_node_setup();
        if setup_in_place {
            self.remove_stale_rules();
            self.remove_earlier_devices();
        }
        let subnet_env = self.keep_subnet_env(own, setup_in_place);
        let data_path_works = data_path_failure.is_none();
        let obstacles = self.obstacles(&dependencies, data_path_failure);
        let mtu = self.settings.backend.pod_mtu(&self.underlay.current);
        let pod_mtu = pod_mtu::excess(&dump.host, &ownership.families, mtu);
        let families = plan.peers.iter();
        let nodes = self
            .transition
            .count(families.map(|peer| (peer.subnet, Some(peer.public_ip))));
        let commands = plan.commands.take().map(|mut commands| {
            commands.peers.take_if(|_| snapshot.is_none());
            Arc::new(commands)
        });
        if snapshot.is_some() {
            self.logged.leases(plan.skipped, nodes);
        }
        let skipped = self.logged.skipped();
        let skipped = skipped.iter().map(|lease| (lease.subnet, lease.node));
        let skipped = self.transition.count(skipped);
        let wanted = Arc::new(plan.state);
        let addresses = dump.host.addresses.as_slice().into();
        self.keep_dump(dump, routes, &wanted, &ownership, &applied);
        let set_up = setup_in_place && subnet_env.is_some() && data_path_works;
        Ok(Outcome {
            set_up,
            node_ready: set_up && !obstacles.iter().any(Obstacle::concerns_node),
            peers_known: snapshot.is_some(),
            commands,
            nodes,
            obstacles,
            skipped,
            failing: self.backoff.failures(),
            pod_mtu: self.logged.pod_mtu(pod_mtu),
            conflicts: self.logged.conflicts(conflicts),
            changed: !applied.done.is_empty(),
            retry_at: {
                let transition = self.transition.next(Instant::now());
                let due = [self.backoff.next(), underlay_retry, transition];
                due.into_iter().flatten().min()
            },
            underlay: self.underlay.current.clone(),
            filter: self.event_filter(
                wanted,
                ownership,
                indexes,
                addresses,
                in_conflict,
                dependencies,
            ),
            subnet_env,
        })
    }

    /// Keeps the dump for passes that follow a change of the leases only, if the host is as wanted.
    fn keep_dump(
        &mut self,
        dump: Dump,
        routes: Arc<UnderlayRoutes>,
        wanted: &Arc<HostState>,
        ownership: &Ownership,
        applied: &Applied,
    ) {
        let mut done = applied.done.iter();
        let same_devices = !done.any(|change| matches!(change.entry(), Entry::Device(..)));
        let settled = same_devices && self.backoff.next().is_none() && self.underlay.is_present();
        self.last = settled.then(|| {
            let mut dump = dump.settled(wanted.clone(), routes, ownership);
            dump.follow_own(&applied.done);
            dump
        });
    }

    /// The host after the last pass, with what changed since. None if the whole of it has to be
    /// read.
    fn with_changes(&mut self, mut dump: Dump, changes: &HostChanges, own: &Lease) -> Option<Dump> {
        let ownership = self.ownership(own);
        for (route, change) in changes.routes() {
            if !dump.follow_other(route, *change) {
                debug!("the routes to {} are read again", route.dst);
                return None;
            }
        }
        for event in changes.entries() {
            dump.follow(event, &ownership);
        }
        if changes.has_addresses() {
            dump.read_addresses(&mut self.kernel).ok()?;
        }
        if changes.has_policies() {
            dump.read_policies(&mut self.kernel, &ownership).ok()?;
        }
        if changes.has_rules() {
            dump.read_rules(&mut self.kernel, &self.settings.place);
        }
        Some(dump)
    }

    fn read_host(&mut self) -> linux_net::Result<Dump> {
        let device_names = self.transition.device_names();
        let can_reach = self.selector.can_reach;
        Dump::read(
            &mut self.kernel,
            &device_names,
            &self.settings.place,
            can_reach,
        )
    }

    /// Returns when to look again if the underlay is missing. Until then the data path stays.
    fn track_underlay(&mut self, dump: &Dump) -> Option<Instant> {
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

    fn ownership(&self, own: &Lease) -> Ownership {
        let Settings {
            config,
            had_direct_routes,
            earlier,
            ..
        } = &self.settings;
        let underlay = &self.underlay.current;
        Ownership {
            backends: self.transition.backends(),
            families: {
                let mut families = backend::families(config, own);
                families.extend(&earlier.families);
                families
            },
            earlier_devices: earlier.devices.clone(),
            direct_routes_over: had_direct_routes.then(|| underlay.name.as_str().into()),
        }
    }

    fn plan_changes(
        &mut self,
        own: &Lease,
        snapshot: Option<&Leases>,
        dump: &Dump,
        ownership: &Ownership,
        routes: &UnderlayRoutes,
    ) -> Planned {
        let now = Instant::now();
        if let Some(snapshot) = snapshot {
            self.transition.update(snapshot, now);
        }
        let mut plan = self.plan(own, routes, now);
        let underlay = &self.underlay.current.name;
        self.tx_checksum
            .add_to(&mut plan.state, &self.kernel, underlay);
        let mut observed = dump.interpret(ownership);
        if snapshot.is_none() {
            plan.state.keep_peers_of(&observed);
        } else {
            self.transition.keep(&mut plan, &observed, now);
        }
        if !self.underlay.is_present() || self.refusal().is_some() {
            let off_link = plan.skipped.iter();
            let off_link = off_link.filter(|skipped| skipped.off_link().is_some());
            let kept = off_link.filter_map(|skipped| observed.route_to(skipped.subnet));
            plan.state.routes.extend(kept.cloned());
        }
        if !self.settings.blackhole_routes {
            // nothing proves that one without our protocol number is Go flannel's
            let ours: u8 = ROUTE_PROTOCOL.into();
            observed.blackholes.retain(|route| route.protocol == ours);
        }
        let name_of = |index| dump.name_of(index);
        let conflicts = conflict::find(&plan, &dump.host.routes, ownership, name_of);
        let in_conflict = conflict::leave(&conflicts, &mut plan.state, &mut observed);
        let changes = diff(&plan.state, &observed);
        Planned {
            plan,
            conflicts,
            in_conflict,
            changes,
        }
    }

    fn plan(&mut self, own: &Lease, routes: &UnderlayRoutes, now: Instant) -> Plan {
        let Settings {
            config,
            rules,
            place,
            blackhole_routes,
            ..
        } = &self.settings;
        let host = transition::Host {
            config,
            underlay: &self.underlay.current,
            own,
            routes,
        };
        let mut plan = self.transition.plan(host, now);
        if *blackhole_routes {
            let families = backend::families(config, own).into_iter();
            plan.state.blackholes = families
                .map(|family| Blackhole::new(family.subnet))
                .collect();
        }
        match place.filter {
            PacketFilter::Nftables => {
                let tables = nftables::tables(&place.names.tables, config, own, *rules);
                plan.state.tables.extend(tables);
            }
            PacketFilter::Iptables => {
                plan.state.rule_sets =
                    iptables::rule_sets(&place.names.chains, config, own, *rules);
            }
        }
        plan
    }

    /// Tells the processes that move packets the plan. Another pass follows when one of them works,
    /// or does not any more. The failure is that of the first one that does not work.
    fn tell_data_path(&self, plan: &Plan) -> Option<Failure> {
        let told = plan.data_path.iter().filter_map(|config| {
            let supervisor = self.settings.data_path.get(&*config.device)?;
            supervisor.configure(config).err()
        });
        // each is told, whatever the others do
        told.collect::<Vec<_>>().into_iter().next()
    }

    fn route_dependencies(&self, plan: &Plan, routes: &UnderlayRoutes) -> RouteDependencies {
        let planned = plan.peers.iter().map(|peer| peer.public_ip);
        let off_link = plan.skipped.iter().filter_map(SkippedLease::off_link);
        let peers = planned.chain(off_link).collect();
        RouteDependencies::new(peers, routes, self.transition.makes_direct_routes())
    }

    /// Why packets do not leave this host. The main table is not all that the kernel routes by: a
    /// peer that it does not lead to counts if the kernel confirms it.
    fn obstacles(
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
    fn refusal(&self) -> Option<String> {
        let refused = self.settings.backend.refuses(&self.underlay.current);
        refused.map(|error| error.to_string())
    }

    fn indexes_by_name(&self, dump: &Dump) -> IndexesByName {
        let underlay = &self.underlay.current;
        let mut indexes = dump.indexes_by_name();
        indexes.insert(underlay.name.as_str().into(), underlay.index);
        indexes
    }

    /// Goes on without the earlier backends that no other node uses any more.
    fn leave_unused_backends(&mut self) {
        let unused = self.transition.take_unused(Instant::now());
        if unused.is_empty() {
            return;
        }
        let names = self.transition.device_names();
        for backend in unused {
            info!("no node uses the backend {} any more", backend.name());
            let unused = backend.device_names().iter();
            for name in unused.filter(|name| !names.contains(name)) {
                // the process ends with its device
                self.settings.data_path.remove(name);
                self.settings.earlier.devices.push(name.clone());
            }
        }
        self.last = None;
        let Settings {
            state_file,
            subnet_file,
            ..
        } = &self.settings;
        if !self.transition.has_earlier() {
            let mut node = NodeState::load(state_file);
            node.forget_backends(subnet_file);
            if let Err(error) = node.save() {
                warn!("cannot write {}: {error}", state_file.display());
            }
        }
    }

    /// Removes the devices of earlier configurations, once those of the present one have taken over
    /// the routes. One that cannot be removed is tried again at the next pass.
    fn remove_earlier_devices(&mut self) {
        let netlink = &mut self.kernel.netlink;
        self.settings.earlier.devices.retain(|name| {
            let removed = netlink.link_by_name(name).and_then(|link| {
                if link.is_some_and(|link| backend::owns_device(&link)) {
                    netlink.request(&link::delete_by_name(name))?;
                    info!("deleted device {name} of an earlier configuration");
                }
                Ok(())
            });
            match removed {
                Err(error) if !error.is_absent() => {
                    warn!("cannot delete device {name} of an earlier configuration: {error}");
                    true
                }
                Ok(()) | Err(_) => false,
            }
        });
    }

    /// Removes this daemon's rules from where the configuration does not have them any more, and
    /// Go flanneld's, once the present ones are in place: no packet is without rules.
    fn remove_stale_rules(&mut self) {
        let in_use = self.kernel.iptables_flavour();
        self.stale_rules
            .remove(&self.settings.place, in_use, self.kernel.nft().ok());
    }

    /// Writes subnet.env once the node is set up, and again if it is missing or altered. Returns
    /// its content if the file is in place.
    fn keep_subnet_env(&mut self, own: &Lease, setup_in_place: bool) -> Option<String> {
        let Settings {
            config,
            backend,
            rules,
            subnet_file: path,
            ..
        } = &self.settings;
        let mtu = backend.pod_mtu(&self.underlay.current);
        let content = subnet_env::content(config, own, mtu, rules.masquerade);
        if !setup_in_place && !subnet_env::is_current(path, &content) {
            return None;
        }
        let written = subnet_env::ensure(path, &content);
        self.logged.subnet_env(path, &written);
        written.is_ok().then_some(content)
    }

    fn event_filter(
        &self,
        wanted: Arc<HostState>,
        ownership: Ownership,
        indexes: IndexesByName,
        addresses: Arc<[Address]>,
        in_conflict: BTreeSet<IpNetwork>,
        dependencies: RouteDependencies,
    ) -> EventFilter {
        let underlay = &self.underlay;
        EventFilter {
            wanted,
            indexes: indexes
                .into_iter()
                .filter(|(name, _)| ownership.device(name).is_some())
                .map(|(name, index)| (index, name))
                .collect(),
            ownership,
            conflicts: Arc::new(in_conflict),
            underlay: underlay.is_present().then(|| underlay.current.clone()),
            link_state: underlay.link_state(),
            awaits_better_underlay: underlay.awaits_better(),
            addresses,
            routes: Arc::new(dependencies),
        }
    }
}
