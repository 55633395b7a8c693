//! The daemon from start to end: what is waited for in which order, what runs side by side, and how it ends.
mod admin;
mod lease_keeper;
mod status;
mod subnet_manager;

use self::{lease_keeper::LeaseKeeper, status::Status};
use crate::{
    backend::{self, Backend},
    cli::options::Options,
    files::node_state::NodeState,
    files::subnet_env,
    model::Subnets,
    model::lease::Lease,
    reconcile::observe::Kernel,
    reconcile::pass::{Engine, Outcome, Settings},
    reconcile::{Reconciler, Wake},
    subnet::{Session, SubnetManager},
    underlay::{self, Underlay},
};
use linux_net::link::{Kind, Link};
use std::{process::ExitCode, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing::{error, info, warn};

/// How long the end waits for a pass that is under way.
const END: Duration = Duration::from_millis(500);

/// Runs the daemon until a signal or an error ends it.
pub(crate) fn run(options: &Options) -> ExitCode {
    info!(
        "flanneld v{} {}",
        env!("CARGO_PKG_VERSION"),
        options.given.join(" ")
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(until_signal(options));
            runtime.shutdown_timeout(END);
            ended
        }
        Err(error) => Err(format!("cannot start: {error}")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs until SIGTERM or SIGINT. What was built for the pods stays.
async fn until_signal(options: &Options) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot listen for signals: {error}");
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let name = tokio::select! {
        ended = daemon(options) => {
            status::stopping();
            return ended;
        }
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    status::stopping();
    info!("{name}: stopping; pods keep their network");
    Ok(())
}

async fn daemon(options: &Options) -> Result<(), String> {
    let (status, watched) = watch::channel(Status::default());
    if options.node.healthz_port == 0 {
        return network(options, &status).await;
    }
    // the port is bound before anything slow, so that a probe finds it
    let listener = admin::listen(&options.node.healthz_ip, options.node.healthz_port)
        .await
        .map_err(|error| error.to_string())?;
    tokio::select! {
        ended = network(options, &status) => ended,
        () = admin::serve(listener, watched) => Err("the health port was closed".to_owned()),
    }
}

/// Everything that comes before the loop, then the loop.
async fn network(options: &Options, status: &watch::Sender<Status>) -> Result<(), String> {
    let chosen = subnet_manager::choose(options)
        .await
        .map_err(|error| error.to_string())?;
    let manager = &*chosen.manager;
    info!("leases come from the {}", manager.describe());
    let wait = |what: String| {
        let waiting = Status::Waiting(what);
        waiting.announce(&status.send_replace(waiting.clone()));
    };
    wait(format!(
        "for the network configuration from the {}",
        manager.describe()
    ));
    let config = manager
        .network_config()
        .await
        .map_err(|error| error.to_string())?;
    if !config.enable_ipv4 && !config.enable_ipv6 {
        return Err(
            "none defined stack: the network configuration enables neither IPv4 nor IPv6"
                .to_owned(),
        );
    }
    let selector = options
        .underlay
        .selector(config.enable_ipv4, config.enable_ipv6)
        .map_err(|error| error.to_string())?;
    let mut kernel = Kernel::open().map_err(|error| error.to_string())?;
    let host = kernel
        .host(selector.can_reach)
        .map_err(|error| error.to_string())?;
    let underlay = underlay::select(&selector, &host).map_err(|error| error.to_string())?;
    info!("the underlay is {underlay}");
    let mut node = NodeState::load(&options.node.state_file);
    let backend = backend::from_config(&config, |name| node.mac(name, mac_of(&host.links, name)))?;
    if backend.makes_host_routes() {
        node.set_host_routes();
    }
    if let Err(error) = node.save() {
        warn!(
            "cannot write {}: {error}; after a reboot peers see new MAC addresses",
            options.node.state_file.display()
        );
    }
    wait(format!("for a lease from the {}", manager.describe()));
    let attrs = backend.lease_attrs(&underlay);
    let previous = Subnets::from(&subnet_env::previous(&options.node.subnet_file));
    let own = manager
        .acquire(&attrs, previous)
        .await
        .map_err(|error| error.to_string())?;
    info!("this node has {}", own.subnets.cidrs());
    let settings = Settings {
        config,
        backend: backend.clone(),
        selector,
        rules: options.rules.settings(),
        subnet_file: options.node.subnet_file.clone(),
        host_routes: node.host_routes(),
    };
    let engine = Engine::new(settings, kernel, underlay.clone());
    serve_lease(manager, backend, engine, own, underlay, status).await
}

/// Runs the reconciler, the lease keeper and the status report side by side.
async fn serve_lease(
    manager: &dyn SubnetManager,
    backend: Arc<dyn Backend>,
    engine: Engine,
    own: Lease,
    underlay: Underlay,
    status: &watch::Sender<Status>,
) -> Result<(), String> {
    let (own, own_receiver) = watch::channel(own);
    let (leases, leases_receiver) = watch::channel(None);
    let (node_ready, node_ready_receiver) = watch::channel(false);
    let (outcome_sender, outcomes) = watch::channel(None);
    let reconciler = Reconciler {
        engine,
        wake: Wake::open()?,
        own: own_receiver.clone(),
        leases: leases_receiver,
        outcomes: outcome_sender,
    };
    let keeper = LeaseKeeper {
        manager,
        backend,
        underlay,
        own: own.clone(),
        outcomes: outcomes.clone(),
    };
    let session = Session {
        own,
        leases,
        node_ready: node_ready_receiver,
    };
    tokio::select! {
        ended = reconciler.run() => ended,
        ended = keeper.run(session) => ended,
        ended = report(outcomes, own_receiver, node_ready, status) => ended,
    }
}

/// Publishes the status after each pass, and tells the subnet manager whether the node's own network
/// is in place.
async fn report(
    mut outcomes: watch::Receiver<Option<Outcome>>,
    own: watch::Receiver<Lease>,
    node_ready: watch::Sender<bool>,
    status: &watch::Sender<Status>,
) -> Result<(), String> {
    loop {
        outcomes
            .changed()
            .await
            .map_err(|_| "the reconciler stopped".to_owned())?;
        let now = {
            let outcome = outcomes.borrow_and_update();
            let ready = outcome.as_ref().is_some_and(|outcome| outcome.foundation);
            node_ready.send_if_modified(|node_ready| std::mem::replace(node_ready, ready) != ready);
            outcome
                .as_ref()
                .map(|outcome| Status::of(outcome, own.borrow().subnets.cidrs()))
        };
        if let Some(now) = now.filter(|now| *status.borrow() != *now) {
            let before = status.send_replace(now.clone());
            now.announce(&before);
        }
    }
}

/// The MAC of the vxlan device with that name, if there is one: peers know it already.
fn mac_of(links: &[Link], name: &str) -> Option<linux_net::Mac> {
    let link = links.iter().find(|link| link.name == name)?;
    link.mac.filter(|_| matches!(link.kind, Kind::Vxlan(_)))
}
