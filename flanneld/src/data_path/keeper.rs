//! A process that outlives every container of flanneld: `flanneld data-path -keep FOLDER`, the only
//! program of a container of its own. It takes over each process that moves packets, which then
//! ends with that container, and no longer with flanneld's.

use super::{
    build,
    client::Client,
    message::PROTOCOL,
    socket::{PREFIX, SUFFIX},
};
use crate::best_effort::best_effort;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tracing::{info, warn};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// The processes that it has started, by their sockets.
#[derive(Debug, Default)]
struct Keeper {
    children: BTreeMap<PathBuf, Child>,
    /// Processes that it cannot talk to, which the log has.
    foreign: BTreeSet<PathBuf>,
}

/// Keeps the processes with sockets in the folder until SIGTERM or SIGINT. The end of the container
/// ends them.
pub(super) fn run(folder: &Path) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut keeper = Keeper::default();
        info!("keeping the processes with sockets in {}", folder.display());
        loop {
            keeper.look(folder);
            tokio::select! {
                _ = terminated.recv() => return Ok(()),
                _ = interrupted.recv() => return Ok(()),
                () = sleep(INTERVAL) => {}
            }
        }
    })
}

impl Keeper {
    fn look(&mut self, folder: &Path) {
        for child in self.children.values_mut() {
            best_effort(child.try_wait(), "it has ended before");
        }
        for socket in sockets(folder) {
            // one that does not answer is the daemon's to replace
            let asked = Client::connect(&socket).and_then(|client| client.status());
            let Some(status) = best_effort(asked, "no process, or one that hangs") else {
                continue;
            };
            if status.kept {
                continue;
            }
            if status.protocol != PROTOCOL {
                if self.foreign.insert(socket.clone()) {
                    warn!(
                        "the process of {} is of another version: it stays in the container of flanneld until \
                         this one is updated",
                        socket.display()
                    );
                }
                continue;
            }
            self.foreign.remove(&socket);
            match build::command(&socket).arg("-kept").spawn() {
                Ok(child) => self.started(socket, child),
                Err(error) => warn!("{}: cannot start a process: {error}", socket.display()),
            }
        }
    }

    /// An earlier process of that socket has ended, or hangs and was replaced.
    fn started(&mut self, socket: PathBuf, child: Child) {
        info!(
            "process {} takes over that of {}",
            child.id(),
            socket.display()
        );
        if let Some(mut earlier) = self.children.insert(socket, child) {
            best_effort(earlier.kill(), "it has ended");
            best_effort(earlier.wait(), "it has ended");
        }
    }
}

/// The sockets of processes in a folder; none while there is no such folder.
fn sockets(folder: &Path) -> Vec<PathBuf> {
    let Some(entries) = best_effort(fs::read_dir(folder), "flanneld has not started yet") else {
        return Vec::new();
    };
    let is_socket = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(is_socket).collect()
}
