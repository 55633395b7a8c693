//! The daemon's side: finds the process or starts it, starts it again when it ends, and tells it
//! what to do. A thread of its own, since the reconciler waits for the process.

use super::{
    build::{self, Build},
    engine::Config,
    message::{self, Reply, Request},
    socket,
};
use crate::{best_effort::best_effort, retry::ExponentialBackoff};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    io::{self, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream, unix::process::CommandExt},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// How long the process may take to start, or to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long [`Supervisor::configure`] waits.
const CONFIGURE_TIMEOUT: Duration = Duration::from_millis(500);
/// How often a process that starts is looked for.
const START_INTERVAL: Duration = Duration::from_millis(2);
/// A process that ends again and again is started ever later.
const BACKOFF: ExponentialBackoff = ExponentialBackoff {
    first: Duration::from_millis(20),
    longest: Duration::from_secs(5),
};
/// A process that lives this long is no failure.
const PROVING_TIME: Duration = Duration::from_secs(5);

/// Keeps the process running and configured until it is dropped. The process then goes on.
#[derive(Debug)]
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    wake: UnixStream,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The state changed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    wanted: Option<Arc<Config>>,
    /// Increases with each configuration.
    version: u64,
    /// The version that the process goes by; 0: none.
    applied: u64,
    /// Why the process does not go by the latest one.
    failure: Option<Arc<str>>,
    stop: bool,
}

/// Why the process does not go by what it is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the data path does not work: {0}")]
pub(crate) struct Failure(Arc<str>);

impl Supervisor {
    /// Starts the supervision of the process with the socket at this path.
    pub(crate) fn start(socket: PathBuf) -> io::Result<Supervisor> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let thread = Thread {
            shared: shared.clone(),
            socket,
            woken,
            build: Build::own()?,
        };
        thread::Builder::new()
            .name("data-path".to_owned())
            .spawn(move || thread.run())?;
        Ok(Supervisor { shared, wake })
    }

    /// Tells the process what to do, and waits a moment until it does. What it does not do now it
    /// does as soon as it can; ask again with the same configuration whether it did.
    pub(crate) fn configure(&self, config: Arc<Config>) -> Result<(), Failure> {
        let mut state = self.shared.lock();
        if state.wanted.as_ref() != Some(&config) {
            state.wanted = Some(config);
            state.version += 1;
            state.failure = None;
            self.wake();
        }
        let deadline = Instant::now() + CONFIGURE_TIMEOUT;
        loop {
            if state.applied == state.version {
                return Ok(());
            }
            if let Some(failure) = &state.failure {
                return Err(Failure(failure.clone()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure("its process does not answer".into()));
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn wake(&self) {
        // a full socket wakes as well
        best_effort((&self.wake).write(&[0]), "the thread is woken already");
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.wake();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread.
struct Thread {
    shared: Arc<Shared>,
    socket: PathBuf,
    woken: UnixStream,
    build: Build,
}

impl Thread {
    fn run(mut self) {
        let mut attempt = 0;
        while !self.shared.lock().stop {
            let since = Instant::now();
            let ended = self.connect_or_start().and_then(|connection| {
                attempt = 0;
                self.follow(connection)
            });
            if self.shared.lock().stop {
                return;
            }
            let reason = match ended {
                Ok(()) => "its process ended".to_owned(),
                Err(error) => error.to_string(),
            };
            if since.elapsed() < PROVING_TIME {
                attempt += 1;
            }
            warn!("the data path: {reason}; it is started again");
            self.failed(reason);
            if attempt > 1 {
                self.sleep(BACKOFF.delay(attempt - 1));
            }
        }
    }

    fn failed(&self, reason: String) {
        let mut state = self.shared.lock();
        state.applied = 0;
        state.failure = Some(reason.into());
        self.shared.changed.notify_all();
    }

    /// Until the time is over or there is something to do.
    fn sleep(&mut self, time: Duration) {
        let milliseconds = u16::try_from(time.as_millis()).unwrap_or(u16::MAX);
        let mut woken = [PollFd::new(self.woken.as_fd(), PollFlags::POLLIN)];
        best_effort(
            poll(&mut woken, PollTimeout::from(milliseconds)),
            "the wait is shorter",
        );
        self.drain();
    }

    fn drain(&mut self) {
        let readable = |stream: &UnixStream| {
            let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
        };
        if readable(&self.woken) {
            best_effort(self.woken.read(&mut [0; 64]), "the next round reads it");
        }
    }

    /// A connection to a process of this build.
    fn connect_or_start(&self) -> io::Result<UnixStream> {
        if let Ok(connection) = self.connect() {
            match self.is_of_this_build(&connection) {
                Ok(true) => {
                    info!("the data path of an earlier daemon goes on");
                    return Ok(connection);
                }
                Ok(false) => info!("the data path is of another build: a new process takes over"),
                Err(error) => warn!("the process of the data path is replaced: {error}"),
            }
        }
        self.spawn()?;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let connection = self.connect();
            let connection = connection.and_then(|connection| {
                let ready = self.is_of_this_build(&connection)?;
                Ok(ready.then_some(connection))
            });
            match connection {
                Ok(Some(connection)) => return Ok(connection),
                Ok(None) | Err(_) if Instant::now() < deadline => thread::sleep(START_INTERVAL),
                Ok(None) => {
                    return Err(io::Error::other("the earlier process does not hand over"));
                }
                Err(error) => {
                    let path = self.socket.display();
                    return Err(io::Error::other(format!(
                        "its process does not start: {path}: {error}"
                    )));
                }
            }
        }
    }

    fn connect(&self) -> io::Result<UnixStream> {
        let connection = socket::connect(&self.socket)?;
        connection.set_read_timeout(Some(TIMEOUT))?;
        connection.set_write_timeout(Some(TIMEOUT))?;
        Ok(connection)
    }

    fn is_of_this_build(&self, mut connection: &UnixStream) -> io::Result<bool> {
        message::send(&mut connection, &Request::Status)?;
        match message::receive(&mut connection)? {
            Some(Reply::Status(status)) => Ok(status.build == self.build),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Starts the process, which makes a session of its own. It gets no descriptor and no variable
    /// of the daemon, and no secret in its arguments.
    fn spawn(&self) -> io::Result<()> {
        let mut child = Command::new(build::OWN)
            .arg0("flanneld")
            .arg("data-path")
            .arg("-socket")
            .arg(&self.socket)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let pid = child.id();
        info!("started the process of the data path (process {pid})");
        let wait = move || match child.wait() {
            Ok(status) => info!("the process of the data path {pid} ended: {status}"),
            Err(error) => warn!("the process of the data path {pid}: {error}"),
        };
        thread::Builder::new()
            .name("data-path-wait".to_owned())
            .spawn(wait)?;
        Ok(())
    }

    /// Tells the process each configuration until the connection ends.
    fn follow(&mut self, mut connection: UnixStream) -> io::Result<()> {
        loop {
            let (wanted, version, applied) = {
                let state = self.shared.lock();
                if state.stop {
                    return Ok(());
                }
                (state.wanted.clone(), state.version, state.applied)
            };
            if let Some(config) = wanted.filter(|_| version != applied) {
                let request = Request::Configure(Box::new(Config::clone(&config)));
                message::send(&mut connection, &request)?;
                let failure = match message::receive(&mut connection)? {
                    Some(Reply::Done) => None,
                    Some(Reply::Failed(reason)) => Some(Arc::from(reason)),
                    _ => return Ok(()),
                };
                let mut state = self.shared.lock();
                if failure.is_none() {
                    state.applied = version;
                } else if state.failure.is_none() {
                    warn!("the data path: {}", failure.as_deref().unwrap_or_default());
                }
                state.failure = failure;
                self.shared.changed.notify_all();
                if state.failure.is_some() {
                    drop(state);
                    self.sleep(BACKOFF.longest / 5);
                }
                continue;
            }
            let mut fds = [
                PollFd::new(connection.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.woken.as_fd(), PollFlags::POLLIN),
            ];
            poll(&mut fds, PollTimeout::NONE)?;
            let ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
            if ready(&fds[0]) {
                // the process says nothing by itself: the connection ended
                return Ok(());
            }
            self.drain();
        }
    }
}
