//! What runs side by side once this node has a lease: the reconciler, the lease keeper, what the
//! backend needs besides, and the status report. The first one that ends, ends the daemon.

use super::{
    Error,
    config_changes::ConfigChanges,
    duplicates::{self, Duplicate, Kind},
    lease_keeper::LeaseKeeper,
    published,
    status::Status,
};
use crate::{
    backend::{self, Backend, Extension, KeyExchange, Progress, Tunnel, Wanted},
    model::{
        lease::{Lease, Leases},
        network_config::NetworkConfig,
        node_record::NodeRecord,
    },
    reconcile::{EventLoop, Notifications, Outcome, Reconciler},
    subnet::{Session, SubnetManager, Waiting},
    underlay::Underlay,
};
use std::{
    convert::Infallible,
    future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

/// How long this node's own network waits for the leases of the others before systemd goes on
/// without them.
const LEASES_TIMEOUT: Duration = Duration::from_secs(3);

/// What the start has found out.
pub(super) struct Started {
    /// This node's lease.
    pub(super) own: Lease,
    /// What the store said of this node.
    pub(super) record: NodeRecord,
    pub(super) underlay: Underlay,
    /// This node has new keys, because another one published its old ones.
    pub(super) new_keys: bool,
    /// What it goes by.
    pub(super) config: NetworkConfig,
    /// The folder of subnet.env.
    pub(super) run_folder: PathBuf,
    /// An earlier backend whose commands are to be taken back.
    pub(super) left: Option<Arc<dyn Backend>>,
    /// An earlier backend that negotiates keys.
    pub(super) negotiator: Option<Arc<dyn Backend>>,
    /// Told when a process that moves packets works, or does not any more.
    pub(super) data_path_changed: Arc<Notify>,
}

/// Runs until the network configuration changes to another one that this node can apply.
pub(super) async fn run(
    manager: &dyn SubnetManager,
    backend: Arc<dyn Backend>,
    reconciler: Reconciler,
    started: Started,
    waiting: &Waiting,
    status: &watch::Sender<Status>,
) -> Result<NetworkConfig, Error> {
    let Started {
        own,
        record,
        underlay,
        new_keys,
        config,
        run_folder,
        left,
        negotiator,
        data_path_changed,
    } = started;
    let taken_back = take_back(left, config.clone(), own.clone());
    // without a sender the record stays
    let records = manager
        .node_records()
        .unwrap_or_else(|| watch::channel(record).1);
    let own = watch::Sender::new(own);
    let leases = watch::Sender::new(None);
    let node_ready = watch::Sender::new(false);
    let tunnels = watch::Sender::new(None);
    let key_fault = watch::Sender::new(None);
    let (outcome_sender, outcomes) = watch::channel(None);
    let (underlay_sender, underlays) = watch::channel(underlay.clone());
    let event_loop = EventLoop {
        reconciler,
        notifications: Notifications::open()?,
        own: own.subscribe(),
        records,
        leases: leases.subscribe(),
        data_path_changed,
        outcomes: outcome_sender,
        config_changed: match manager.network_configs() {
            Some(configs) => Box::pin(
                ConfigChanges {
                    configs,
                    current: config,
                    own: own.subscribe(),
                    underlay: underlay.clone(),
                    waiting: waiting.another(),
                }
                .applicable(),
            ),
            None => Box::pin(future::pending()),
        },
    };
    let keeper = LeaseKeeper {
        manager,
        backend: backend.clone(),
        underlays,
        told: backend.lease_attrs(&underlay),
    };
    let known = leases.subscribe();
    let commands = watch::Sender::new(None);
    let wanted_commands = commands.subscribe();
    let session = Session {
        own: own.clone(),
        leases,
        node_ready: node_ready.subscribe(),
    };
    let report = Report {
        outcomes,
        own: own.subscribe(),
        underlay: underlay_sender,
        leases: known,
        may_take_new_keys: !new_keys,
        manager,
        backend: backend.clone(),
        node_ready,
        commands,
        progress: backend.commands().map(Extension::progress),
        tunnels: tunnels.clone(),
        key_fault: key_fault.subscribe(),
        waiting: waiting.subscribe(),
        status,
        set_up_at: None,
    };
    let exchange = KeyExchange {
        tunnels: tunnels.subscribe(),
        fault: key_fault,
    };
    let ended: Result<Infallible, Error> = tokio::select! {
        config = event_loop.run() => return Ok(config?),
        ended = keeper.run(session) => ended,
        never = run_commands(&*backend, wanted_commands) => match never {},
        never = taken_back => match never {},
        ended = exchange_keys(&*backend, negotiator, exchange, &run_folder) => ended,
        ended = report.run() => ended,
    };
    ended.map(|never| match never {})
}

async fn run_commands(
    backend: &dyn Backend,
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
) -> Infallible {
    match backend.commands() {
        Some(extension) => extension.run(wanted).await,
        None => future::pending().await,
    }
}

/// Takes back what the commands of an earlier backend did.
async fn take_back(
    left: Option<Arc<dyn Backend>>,
    config: NetworkConfig,
    own: Lease,
) -> Infallible {
    if let Some(extension) = left.as_ref().and_then(|backend| backend.commands()) {
        extension.leave(&config, &own).await;
    }
    future::pending().await
}

/// Negotiates keys for the present backend, or for an earlier one while tunnels need them. Then, or
/// where no backend does, ends the charon that is left.
async fn exchange_keys(
    backend: &dyn Backend,
    earlier: Option<Arc<dyn Backend>>,
    exchange: KeyExchange,
    run_folder: &Path,
) -> Result<Infallible, Error> {
    if backend.negotiates_keys() {
        return Ok(backend.key_exchange(exchange).await?);
    }
    let are_needed = |tunnels: &Option<Arc<[Tunnel]>>| {
        let tunnels = tunnels.as_ref();
        tunnels.is_some_and(|tunnels| !tunnels.is_empty())
    };
    let mut tunnels = exchange.tunnels.clone();
    // once the pass is done that takes policies away
    let mut known = tunnels.wait_for(Option::is_some).await.is_ok();
    while known {
        if let Some(earlier) = &earlier {
            tokio::select! {
                biased;
                _ = tunnels.wait_for(|tunnels| !are_needed(tunnels)) => {}
                never = keep_keys(&**earlier, exchange.clone()) => match never {},
            }
        }
        backend::retire_charon(run_folder).await;
        exchange.fault.send_replace(None);
        known = earlier.is_some() && tunnels.wait_for(are_needed).await.is_ok();
    }
    future::pending().await
}

/// Negotiates keys for an earlier backend. What it lacks ends no daemon.
async fn keep_keys(earlier: &dyn Backend, exchange: KeyExchange) -> Infallible {
    let fault = exchange.fault.clone();
    match earlier.key_exchange(exchange).await {
        Ok(never) => match never {},
        Err(error) => {
            fault.send_replace(Some(error.to_string()));
            future::pending().await
        }
    }
}

/// Passes the outcome of each pass on: to the status, to the subnet manager whether the node's own
/// network is in place, to the lease keeper how this node is reached, and to the backend what it
/// needs for the peers.
struct Report<'a> {
    outcomes: watch::Receiver<Option<Outcome>>,
    own: watch::Receiver<Lease>,
    underlay: watch::Sender<Underlay>,
    leases: watch::Receiver<Option<Leases>>,
    /// The store has not said yet whether another node has this node's keys.
    may_take_new_keys: bool,
    manager: &'a dyn SubnetManager,
    backend: Arc<dyn Backend>,
    node_ready: watch::Sender<bool>,
    commands: watch::Sender<Option<Arc<Wanted>>>,
    /// How far the commands are, for a backend that has them.
    progress: Option<watch::Receiver<Progress>>,
    tunnels: watch::Sender<Option<Arc<[Tunnel]>>>,
    /// why peers get no keys, for a backend that negotiates some
    key_fault: watch::Receiver<Option<String>>,
    /// what the subnet manager waits for
    waiting: watch::Receiver<Option<Arc<str>>>,
    status: &'a watch::Sender<Status>,
    /// When this node's own network was in place first.
    set_up_at: Option<Instant>,
}

impl Report<'_> {
    async fn run(mut self) -> Result<Infallible, Error> {
        loop {
            let due = self.set_up_at.map(|at| at + LEASES_TIMEOUT);
            let due = due.filter(|due| *due > Instant::now() && !self.status.borrow().is_set_up());
            tokio::select! {
                changed = self.outcomes.changed() => changed.map_err(|_| Error::ReconcilerStopped)?,
                Ok(()) = self.waiting.changed() => {}
                Ok(()) = self.key_fault.changed() => {}
                () = changed(&mut self.progress) => {}
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
            let outcome = self.outcomes.borrow_and_update().clone();
            if let Some(outcome) = outcome {
                self.publish(&outcome)?;
            }
        }
    }

    /// Fails if this node was started with keys that another one has.
    fn publish(&mut self, outcome: &Outcome) -> Result<(), Error> {
        // no peer is told an address by which it does not come
        if self.backend.refuses(&outcome.underlay).is_none() {
            replace_if_changed(&self.underlay, outcome.underlay.clone());
        }
        let own = Lease {
            attrs: self.backend.lease_attrs(&self.underlay.borrow()),
            ..self.own.borrow().clone()
        };
        let leases = self.leases.borrow().clone().unwrap_or_default();
        let duplicate = duplicates::find(&own, &leases);
        replace_if_changed(&self.commands, outcome.commands.clone());
        let progress = self
            .progress
            .as_ref()
            .map(|progress| progress.borrow().clone());
        let is_started = progress.as_ref().is_none_or(|progress| progress.is_started);
        replace_if_changed(&self.node_ready, outcome.node_ready && is_started);
        if outcome.peers_known {
            let tunnels = backend::tunnels(&outcome.filter.wanted);
            replace_if_changed(&self.tunnels, Some(tunnels));
        }
        let waiting = self.waiting.borrow().clone();
        let set_up = self.is_set_up(outcome);
        let mut status = Status::of(outcome, self.own.borrow().subnets.cidrs(), waiting);
        if let Status::Running(summary) = &mut status {
            summary.set_up = set_up && is_started;
            if let Some(progress) = &progress {
                summary.follow(progress);
            }
            summary.note = self.backend.note();
            if let Some(fault) = &*self.key_fault.borrow_and_update() {
                summary.ready = false;
                summary.backend_fault = Some(fault.as_str().into());
            }
            let duplicate = duplicate.as_ref().map(Duplicate::to_string);
            let fault =
                duplicate.or_else(|| published::fault(&own, &leases, &self.manager.describe()));
            summary.lease_fault = fault.map(Arc::from);
            summary.ready &= summary.lease_fault.is_none() && !self.manager.is_contended();
        }
        let before = self.status.borrow().clone();
        if replace_if_changed(self.status, status.clone()) {
            status.log_change(&before);
        }
        let is_told = outcome.peers_known && !self.manager.is_away();
        if is_told && std::mem::take(&mut self.may_take_new_keys) {
            let key = duplicate.filter(|duplicate| duplicate.kind == Kind::BackendKey);
            return key.map_or(Ok(()), |key| Err(Error::KeyInUse(key)));
        }
        Ok(())
    }

    /// True if containers may start: this node's own network is in place, and the peers are known,
    /// unless their leases do not come.
    fn is_set_up(&mut self, outcome: &Outcome) -> bool {
        if !outcome.set_up {
            return false;
        }
        let at = *self.set_up_at.get_or_insert_with(Instant::now);
        outcome.peers_known || at.elapsed() >= LEASES_TIMEOUT
    }
}

/// Waits until the commands are further than before.
async fn changed(progress: &mut Option<watch::Receiver<Progress>>) {
    // without a backend that has commands there is nothing to wait for
    let is_further = match progress {
        Some(progress) => progress.changed().await.is_ok(),
        None => false,
    };
    if !is_further {
        future::pending::<()>().await;
    }
}

fn replace_if_changed<T: PartialEq>(sender: &watch::Sender<T>, value: T) -> bool {
    sender.send_if_modified(|current| {
        let changed = *current != value;
        if changed {
            *current = value;
        }
        changed
    })
}
