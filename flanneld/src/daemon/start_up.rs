//! Start-up: the network configuration, the underlay, the backend and the lease, in this order;
//! then the tasks that run side by side.

use super::{
    Error, InstanceError, InstanceLock, Resource,
    at_end::AtEnd,
    earlier,
    rule_place::{self, ChosenPrograms},
    status::Status,
    subnet_manager, tasks,
};
use crate::{
    backend::{self, Backend, NodeIdentity},
    best_effort::best_effort,
    cli::options::{NodeOptions, Options},
    data_path::{self, Supervisor},
    files::{last_leases, node_state::NodeState, subnet_env},
    model::{Subnets, host_state::DeviceName, network_config::NetworkConfig},
    reconcile::{Earlier, Kernel, Reconciler, Settings, Tunnels},
    subnet::{self, LastKnown, SubnetManager, Waiting},
    underlay::{self, Underlay},
};
use std::{collections::BTreeMap, convert::Infallible, fs, future, path::Path, sync::Arc};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

pub(super) async fn run(
    options: &Options,
    at_end: &AtEnd,
    status: &watch::Sender<Status>,
) -> Result<(), Error> {
    let waiting = Waiting::default();
    tokio::select! {
        ended = start(options, at_end, &waiting, status) => ended,
        never = announce_each(waiting.subscribe(), status) => match never {},
    }
}

async fn start(
    options: &Options,
    at_end: &AtEnd,
    waiting: &Waiting,
    status: &watch::Sender<Status>,
) -> Result<(), Error> {
    let NodeOptions {
        subnet_file,
        state_file,
        ..
    } = &options.node;
    for file in [subnet_file, state_file] {
        let folder = file.parent().map(fs::create_dir_all);
        best_effort(folder.transpose(), "writing the file says what is wrong");
    }
    let _files = InstanceLock::acquire([
        Resource::File(subnet_file.clone(), "-subnet-file"),
        Resource::File(state_file.clone(), "-state-file"),
    ])?;
    let chosen = subnet_manager::choose(options, waiting).await?;
    let leases_file = last_leases::path(state_file);
    let manager = LastKnown::new(&*chosen.manager, leases_file, waiting.another());
    info!("leases come from the {}", manager.describe());
    let mut config = network_config(&manager, status).await?;
    let mut new_keys = false;
    let mut programs = ChosenPrograms::default();
    loop {
        let ended = run_under(
            config.clone(),
            (options, at_end),
            &manager,
            (new_keys, &mut programs),
            waiting,
            status,
        );
        match ended.await {
            Ok(changed) => {
                manager.follow_config(&changed);
                config = changed;
            }
            Err(Error::KeyInUse(duplicate)) => {
                warn!("{duplicate}: this node takes new MAC addresses or keys");
                new_keys = true;
            }
            Err(Error::Subnet(
                ref error @ subnet::Error::ConfigChanged {
                    config: ref changed,
                    ..
                },
            )) => {
                warn!("{error}: starting again with the new one");
                manager.start_again(changed);
                config = with_a_family(NetworkConfig::clone(changed))?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Runs under one network configuration, until another one that this node can apply replaces it.
/// What the kernel has stays in between, as at a restart of the daemon.
async fn run_under(
    config: NetworkConfig,
    (options, at_end): (&Options, &AtEnd),
    manager: &dyn SubnetManager,
    (new_keys, programs): (bool, &mut ChosenPrograms),
    waiting: &Waiting,
    status: &watch::Sender<Status>,
) -> Result<NetworkConfig, Error> {
    let NodeOptions {
        subnet_file,
        state_file,
        ..
    } = &options.node;
    let run_folder = subnet_file.parent().unwrap_or(Path::new("/"));
    let source = manager.describe();
    announce_waiting(status, format!("for this node's record in the {source}"));
    let record = manager.node_record().await?;
    let selector = options
        .underlay
        .selector(config.enable_ipv4, config.enable_ipv6)?;
    let mut kernel = Kernel::open()?;
    let host = kernel.host_network(selector.can_reach)?;
    let underlay = underlay::select(&selector.with_record(&record), &host)?;
    info!("the underlay is {underlay}");
    config.check_underlay(underlay.addresses())?;
    let mut node = NodeState::load(state_file);
    if new_keys {
        node.renew_macs();
    }
    let identity = NodeIdentity {
        state: &mut node,
        links: &host.links,
        record: &record,
        run_folder,
    };
    let backend = build_backend(&config, identity, &underlay)?;
    prepare_commands(&*backend, status).await;
    at_end.set(&backend);
    let _own = lock(&config, backend.device_names())?;
    let mut rules = options.rules.settings();
    let (place, _names) =
        rule_place::choose(&config, &*backend, &mut kernel, &mut rules, programs)?;
    announce_waiting(status, format!("for a lease from the {source}"));
    let attrs = backend.lease_attrs(&underlay);
    let previous = subnet_env::previous(subnet_file);
    record_devices(&mut node, &*backend, subnet_file);
    Tunnels {
        links: &host.links,
        backend: &*backend,
        config: &config,
        underlay: &underlay,
        attrs: &attrs,
        previous: &previous,
    }
    .make(&mut kernel);
    let own = manager.acquire(&attrs, Subnets::from(&previous)).await?;
    config.check_lease(&own.subnets)?;
    info!("this node has {}", own.subnets.cidrs());
    let (earlier, left) = earlier::Start {
        node: &mut node,
        subnet_file,
        previous: &previous,
        config: &config,
        backend: &*backend,
        own: &own,
        host: &host,
    }
    .record();
    node.keep();
    let earlier_backends = earlier.backends.iter();
    let _earlier = lock_devices(earlier_backends.flat_map(|other| other.device_names()))?;
    let data_path_changed = Arc::new(Notify::new());
    let data_path = data_paths(&*backend, &earlier, subnet_file, &data_path_changed)?;
    let negotiator = earlier.negotiator();
    let settings = Settings {
        earlier,
        data_path,
        config: config.clone(),
        backend: backend.clone(),
        selector: underlay::Selector {
            pod_networks: config.pod_networks().collect(),
            ..selector
        },
        rules,
        place,
        rules_interval: options.rules.interval(),
        blackhole_routes: options.rules.ip_blackhole_route,
        tx_checksum: options.underlay.tx_checksum_offload,
        subnet_file: subnet_file.clone(),
        node,
    };
    let reconciler = Reconciler::new(settings, &record, kernel, underlay.clone());
    let started = tasks::Started {
        own,
        record,
        underlay,
        new_keys,
        config,
        run_folder: run_folder.to_owned(),
        left,
        negotiator,
        data_path_changed,
    };
    tasks::run(manager, backend, reconciler, started, waiting, status).await
}

/// Another daemon of this host has other networks and other devices.
fn lock(config: &NetworkConfig, devices: &[DeviceName]) -> Result<InstanceLock, InstanceError> {
    let devices = devices.iter();
    let devices = devices.map(|name| Resource::Device(name.to_string()));
    InstanceLock::acquire(config.pod_networks().map(Resource::Network).chain(devices))
}

/// Another daemon of this host has not taken these devices since.
fn lock_devices<'n>(
    names: impl IntoIterator<Item = &'n DeviceName>,
) -> Result<InstanceLock, InstanceError> {
    let names = names.into_iter();
    InstanceLock::acquire(names.map(|name| Resource::Device(name.to_string())))
}

/// Runs what the backend's lease depends on, for one that runs commands.
async fn prepare_commands(backend: &dyn Backend, status: &watch::Sender<Status>) {
    if let Some(extension) = backend.commands() {
        announce_waiting(status, "for PreStartupCommand".to_owned());
        extension.prepare().await;
    }
}

/// Supervises the processes that move packets for the backends of this node.
fn data_paths(
    current: &dyn Backend,
    earlier: &Earlier,
    subnet_file: &Path,
    changed: &Arc<Notify>,
) -> Result<BTreeMap<DeviceName, Supervisor>, Error> {
    let earlier = earlier.backends.iter().map(|backend| &**backend);
    let devices = std::iter::once(current).chain(earlier);
    let devices = devices.flat_map(|backend| backend.data_path_devices());
    let start = |device: &DeviceName| {
        let supervisor = Supervisor::start(data_path::path(subnet_file, device), changed.clone());
        Ok((device.clone(), supervisor.map_err(Error::DataPath)?))
    };
    devices.map(start).collect()
}

async fn network_config(
    manager: &dyn SubnetManager,
    status: &watch::Sender<Status>,
) -> Result<NetworkConfig, Error> {
    let source = manager.describe();
    announce_waiting(
        status,
        format!("for the network configuration from the {source}"),
    );
    with_a_family(manager.network_config().await?)
}

fn with_a_family(config: NetworkConfig) -> Result<NetworkConfig, Error> {
    if config.enable_ipv4 || config.enable_ipv6 {
        Ok(config)
    } else {
        Err(Error::NoFamily)
    }
}

/// Builds the backend and stores what identifies this node before anything is published or made.
fn build_backend(
    config: &NetworkConfig,
    mut identity: NodeIdentity<'_>,
    underlay: &Underlay,
) -> Result<Arc<dyn Backend>, Error> {
    let backend = backend::build(config, &mut identity)?;
    if let Some(refusal) = backend.refuses(underlay) {
        return Err(refusal.into());
    }
    let node = identity.state;
    if backend.makes_direct_routes() {
        node.set_host_routes();
    }
    node.keep();
    Ok(backend)
}

/// Records the devices of the backend before one is made: the daemon may end before it has a lease.
fn record_devices(node: &mut NodeState, backend: &dyn Backend, subnet_file: &Path) {
    node.add_devices(subnet_file, backend.device_names());
    node.keep();
}

fn announce_waiting(status: &watch::Sender<Status>, what: String) {
    let waiting = Status::Waiting(what);
    waiting.log_change(&status.send_replace(waiting.clone()));
}

/// Sets the status to what the subnet manager waits for, until the first pass.
async fn announce_each(
    mut waiting: watch::Receiver<Option<Arc<str>>>,
    status: &watch::Sender<Status>,
) -> Infallible {
    while waiting.changed().await.is_ok() {
        let what = waiting.borrow_and_update().clone();
        let started = matches!(*status.borrow(), Status::Running(_));
        if let Some(what) = what.filter(|_| !started) {
            announce_waiting(status, what.to_string());
        }
    }
    future::pending().await
}
