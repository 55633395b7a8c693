//! One pass: read the host, plan what it should be, change what differs. Synchronous; the loop in
//! `event_loop` decides when.

mod host;
mod leftovers;
mod planning;
mod underlay;

use super::{
    apply::IndexesByName, backoff::Backoff, event_filter::EventFilter, host_changes::HostChanges,
    kernel::Kernel, log, observe::Dump, outcome::Outcome, ownership::Ownership, pod_mtu,
    transition::Transition, tx_checksum::TxChecksum,
};
use crate::{
    backend::{Backend, Plan, PlannedPeer, SkippedLease},
    data_path::{Failure, Supervisor},
    files::{node_state::NodeState, subnet_env},
    model::{
        Family,
        host_state::{DeviceName, HostState},
        lease::{Lease, Leases},
        network_config::NetworkConfig,
        node_record::NodeRecord,
        tx_checksum::TxChecksumOffload,
    },
    rules::{RuleNames, RulePlace, RuleSettings, stale_rules::StaleRules},
    underlay::{Obstacle, RouteDependencies, Selector, Tracker, Underlay},
};
use ipnetwork::IpNetwork;
use linux_net::address::Address;
use packet_filter::Flavour;
use planning::Planned;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::debug;
use underlay::Reselect;

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
    /// Has what earlier configurations made, and whether this node has made direct routes, now or
    /// in an earlier run: stale ones are ours to remove.
    pub(crate) node: NodeState,
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
    /// What their rules are called if this daemon was the second one of the host.
    pub(crate) rules: Vec<RuleNames>,
}

impl Earlier {
    /// The latest backend that negotiates keys.
    pub(crate) fn negotiator(&self) -> Option<Arc<dyn Backend>> {
        let mut backends = self.backends.iter();
        backends.rfind(|other| other.negotiates_keys()).cloned()
    }
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
        let dump = self.current_host(changes, own)?;
        let underlay_retry = self.track_underlay(&dump);
        let ownership = self.ownership(own);
        let routes = dump.underlay_routes(&ownership);
        let Planned {
            at: planned_at,
            mut plan,
            conflicts,
            in_conflict,
            changes,
            handshakes,
        } = self.plan_changes(own, snapshot, &dump, &ownership, &routes)?;
        // before routes lead to a peer
        let data_path_failure = snapshot.and_then(|_| self.tell_data_path(&plan));
        let dependencies = self.route_dependencies(&plan, &routes);
        let read_and_planned = start.elapsed();
        let (applied, indexes) = self.change_host(changes, handshakes, &dump, &ownership);
        debug!(
            "pass: {read_and_planned:?} to read and plan, {:?} to change the host",
            start.elapsed() - read_and_planned
        );
        log::changes(&applied, &self.backoff, &plan.peers);
        let setup_in_place = !self.backoff.affects_node_setup();
        if setup_in_place {
            self.remove_stale_rules();
            self.remove_earlier_devices();
        }
        let subnet_env = self.keep_files(own, setup_in_place);
        let data_path_works = data_path_failure.is_none();
        let obstacles = self.obstacles(&dependencies, data_path_failure);
        let mtu = self.settings.backend.pod_mtu(&self.underlay.current);
        let pod_mtu = pod_mtu::excess(&dump.host, &ownership.families, mtu);
        let commands = plan.commands.take().map(|mut commands| {
            commands.peers.take_if(|_| snapshot.is_none());
            Arc::new(commands)
        });
        let (nodes, skipped) = self.count_leases(&plan.peers, snapshot.map(|_| plan.skipped));
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
                // what came due during the pass, too
                let transition = self.transition.next(planned_at);
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
            subnet_env_error: self.logged.subnet_env_error.clone(),
        })
    }

    /// The numbers of leases that are reached, and of those that are left out. `skipped` is None
    /// without a snapshot: those of the last one still are.
    fn count_leases(
        &mut self,
        peers: &[PlannedPeer],
        skipped: Option<Vec<SkippedLease>>,
    ) -> (usize, usize) {
        let families = peers.iter();
        let families = families.map(|peer| (peer.subnet, Some(peer.public_ip)));
        let nodes = self.transition.count(families);
        if let Some(skipped) = skipped {
            self.logged.leases(skipped, nodes);
        }
        let skipped = self.logged.skipped();
        let skipped = skipped.iter().map(|lease| (lease.subnet, lease.node));
        (nodes, self.transition.count(skipped))
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

    /// Writes subnet.env once the node is set up, and again if it is missing or altered, and the
    /// node's state if the disk had no room for it. Returns the content of subnet.env if that is in
    /// place.
    fn keep_files(&mut self, own: &Lease, setup_in_place: bool) -> Option<String> {
        self.settings.node.keep();
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
            awaits_keys: self.transition.awaits_keys(),
        }
    }
}
