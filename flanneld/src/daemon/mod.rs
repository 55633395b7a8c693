//! The daemon: runs until a signal or an error ends it.

mod admin;
mod at_end;
mod config_changes;
mod config_source;
mod duplicates;
mod earlier;
mod error;
mod instance;
mod lease_keeper;
mod privilege;
mod published;
mod rule_place;
mod service_manager;
mod start_up;
mod status;
mod subnet_manager;
mod tasks;

pub(crate) use config_source::{Error as ConfigError, read_once as read_config};
pub(crate) use instance::{InstanceError, InstanceLock, Resource, process};
pub(crate) use privilege::{Error as PrivilegeError, check as check_privilege};
pub(crate) use subnet_manager::{Error as ManagerError, archive};

use crate::{
    cli::{self, options::Options},
    open_files,
};
use at_end::AtEnd;
use error::Error;
use status::Status;
use std::{process::ExitCode, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing::{error, info, warn};

/// How long the daemon waits at its end for a file that is being written.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs the daemon until a signal or an error ends it.
pub(crate) fn run(options: &Options) -> ExitCode {
    info!(
        "flanneld v{} {}",
        env!("CARGO_PKG_VERSION"),
        options.given.join(" ")
    );
    open_files::raise_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = runtime.map_err(Error::Runtime).and_then(|runtime| {
        let ended = runtime.block_on(until_signal(options));
        runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            cli::failure(error.is_usage())
        }
    }
}

/// Runs until SIGTERM or SIGINT. The pods' network stays.
async fn until_signal(options: &Options) -> Result<(), Error> {
    privilege::check()??;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(Error::Signals)?;
    let without_file = async {
        loop {
            hangup.recv().await;
            if options.leases.listen.is_empty() {
                info!(
                    "SIGHUP: nothing to read again; the machine with the lease store reads the network configuration"
                );
            }
        }
    };
    let at_end = AtEnd::default();
    let signal = tokio::select! {
        () = without_file => return Ok(()),
        ended = with_admin_endpoint(options, &at_end) => {
            service_manager::stopping().await;
            return ended;
        }
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    service_manager::stopping().await;
    info!("{signal}: stopping; pods keep their network");
    tokio::select! {
        () = at_end.run() => {}
        _ = terminate.recv() => warn!("SIGTERM again: ShutdownCommand is killed"),
        _ = interrupt.recv() => warn!("SIGINT again: ShutdownCommand is killed"),
    }
    Ok(())
}

async fn with_admin_endpoint(options: &Options, at_end: &AtEnd) -> Result<(), Error> {
    let (status, watched) = watch::channel(Status::default());
    let run = async {
        tokio::select! {
            ended = start_up::run(options, at_end, &status) => ended,
            never = service_manager::follow(status.subscribe()) => match never {},
        }
    };
    if options.node.healthz_port == 0 {
        return run.await;
    }
    // the port is bound before anything slow, so that a probe finds it
    let listener = admin::listen(&options.node.healthz_ip, options.node.healthz_port).await?;
    tokio::select! {
        ended = run => ended,
        () = admin::serve(listener, watched) => Err(Error::AdminClosed),
    }
}
