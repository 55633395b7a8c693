//! The daemon's side: finds the process or starts it, starts it again when it ends or hangs, and
//! tells it what to do. A thread of its own: the reconciler waits for no process that hangs.

use super::{
    build::{self, Build},
    client::{CHECK_INTERVAL, Client, Kept},
    engine::Config,
    message::{PROTOCOL, Status},
};
use crate::{best_effort::best_effort, retry::ExponentialBackoff};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    fs,
    io::{self, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use tracing::{info, warn};

/// How long the process may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// How long [`Supervisor::configure`] waits for a process that works: routes to a new peer are to
/// find it there. A process that hangs holds up nothing longer, and only what is new.
const CONFIGURE_TIMEOUT: Duration = Duration::from_millis(50);
/// How often a process that starts is looked for.
const START_INTERVAL: Duration = Duration::from_millis(2);
/// A process that ends again and again is started ever later.
const BACKOFF: ExponentialBackoff = ExponentialBackoff {
    first: Duration::from_millis(20),
    longest: Duration::from_secs(5),
};
/// A configuration that the process refuses is told it again.
const REFUSED_INTERVAL: Duration = Duration::from_secs(1);
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
    /// The process answered, or ended.
    answered: Condvar,
    /// [`Supervisor::configure`] would return something else.
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    wanted: Option<Arc<Config>>,
    /// Increases with each configuration.
    version: u64,
    /// The version that the process goes by; 0: none.
    applied: u64,
    /// The process goes by one of the configurations.
    works: bool,
    /// Why the process does not go by the latest one.
    failure: Option<Arc<str>>,
    /// What [`Supervisor::configure`] returned.
    returned: Option<Arc<str>>,
    stop: bool,
}

impl State {
    /// Why no packet passes.
    fn fault(&self) -> Option<Arc<str>> {
        match &self.failure {
            None if !self.works => Some("its process is being started".into()),
            failure => failure.clone(),
        }
    }
}

/// Why the process does not go by what it is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no packet passes {device}: {reason}")]
pub(crate) struct Failure {
    device: String,
    reason: Arc<str>,
}

impl Supervisor {
    /// Starts the supervision of the process with the socket at this path. `changed` is told when
    /// [`configure`](Supervisor::configure) would answer something else.
    pub(crate) fn start(socket: PathBuf, changed: Arc<Notify>) -> io::Result<Supervisor> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            answered: Condvar::new(),
            changed,
        });
        let thread = Thread {
            shared: shared.clone(),
            socket,
            woken,
            build: Build::own()?,
            kept: None,
        };
        thread::Builder::new()
            .name("data-path".to_owned())
            .spawn(move || thread.run())?;
        Ok(Supervisor { shared, wake })
    }

    /// Tells the process what to do, which it does as soon as it can. Fails if the process does not
    /// work, or has refused this; a process that is about to do it works.
    pub(crate) fn configure(&self, config: &Arc<Config>) -> Result<(), Failure> {
        let mut state = self.shared.lock();
        if state.wanted.as_ref() != Some(config) {
            state.wanted = Some(config.clone());
            state.version += 1;
            if state.works {
                state.failure = None;
            }
            self.wake();
            let waited =
                self.shared
                    .answered
                    .wait_timeout_while(state, CONFIGURE_TIMEOUT, |state| {
                        state.works && state.failure.is_none() && state.applied != state.version
                    });
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.returned = state.fault();
        match state.returned.clone() {
            None => Ok(()),
            Some(reason) => Err(Failure {
                device: config.device.clone(),
                reason,
            }),
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

    /// Tells those who wait for the process.
    fn tell(&self, state: &State) {
        self.answered.notify_all();
        if state.fault() != state.returned {
            self.changed.notify_one();
        }
    }
}

/// The thread.
struct Thread {
    shared: Arc<Shared>,
    socket: PathBuf,
    woken: UnixStream,
    build: Build,
    /// Of the process that ran last.
    kept: Option<Kept>,
}

impl Thread {
    fn run(mut self) {
        let mut attempt = 0;
        let mut reason: Option<String> = None;
        while !self.shared.lock().stop {
            let since = Instant::now();
            let found = self.find();
            if found.is_none()
                && let Some(reason) = reason.take()
            {
                warn!("the data path: {reason}; it is started again");
                self.failed(reason);
                if attempt > 1 {
                    self.sleep(BACKOFF.delay(attempt - 1));
                }
            }
            let ended = found.map_or_else(|| self.start(), Ok).and_then(|client| {
                let ended = self.follow(&client);
                if ended.as_ref().err().is_some_and(is_hanging) {
                    self.end(&client);
                }
                ended
            });
            attempt = match since.elapsed() < PROVING_TIME {
                true => attempt + 1,
                false => 1,
            };
            reason = Some(match ended {
                Ok(()) => "its process ended".to_owned(),
                Err(error) => error.to_string(),
            });
        }
    }

    fn failed(&self, reason: String) {
        let mut state = self.shared.lock();
        state.applied = 0;
        state.works = false;
        state.failure = Some(reason.into());
        self.shared.tell(&state);
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

    /// A connection to the process that there is, if it can stay.
    fn find(&self) -> Option<Client> {
        let client = best_effort(Client::connect(&self.socket), "there is none")?;
        match client.status() {
            Ok(status) if self.can_follow(&status) => {
                info!("the data path goes on with the process that there is");
                return Some(client);
            }
            Ok(_) => info!("the data path is of another build: a new process takes over"),
            Err(error) => {
                warn!("the process of the data path is replaced: {error}");
                if is_hanging(&error) {
                    self.end(&client);
                }
            }
        }
        None
    }

    /// True for a process of this build, and for one that is to outlive builds.
    fn can_follow(&self, status: &Status) -> bool {
        status.build == self.build || status.kept && status.protocol == PROTOCOL
    }

    /// Starts a process. Returns the connection to it.
    fn start(&mut self) -> io::Result<Client> {
        self.spawn()?;
        let deadline = Instant::now() + START_TIMEOUT;
        let client = loop {
            let client = Client::connect(&self.socket).and_then(|client| {
                let ready = self.can_follow(&client.status()?);
                Ok(ready.then_some(client))
            });
            match client {
                Ok(Some(client)) => break client,
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
        };
        self.give_kept(&client)?;
        Ok(client)
    }

    /// Gives a new process what the last one had opened.
    fn give_kept(&mut self, client: &Client) -> io::Result<()> {
        let kept = self.kept.take().filter(Kept::has_device);
        if let Some(kept) = kept
            && client.status()?.device.is_none()
            && let Err(reason) = client.go_on(&kept)?
        {
            warn!("the process of the data path opens its device anew: {reason}");
        }
        Ok(())
    }

    /// Ends a process that hangs: the next one must not wait for it.
    fn end(&self, client: &Client) {
        client.kill();
        best_effort(
            fs::remove_file(&self.socket),
            "another process has replaced it",
        );
    }

    /// Starts the process, which makes a session of its own.
    fn spawn(&self) -> io::Result<()> {
        let mut child = build::command(&self.socket).spawn()?;
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
    fn follow(&mut self, client: &Client) -> io::Result<()> {
        self.shared.lock().applied = 0;
        loop {
            let (wanted, version, applied) = {
                let state = self.shared.lock();
                if state.stop {
                    return Ok(());
                }
                (state.wanted.clone(), state.version, state.applied)
            };
            if let Some(config) = wanted.filter(|_| version != applied) {
                if !self.configure(client, &config, version)? {
                    self.sleep(REFUSED_INTERVAL);
                }
                continue;
            }
            let mut fds = [
                PollFd::new(client.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.woken.as_fd(), PollFlags::POLLIN),
            ];
            let ready = poll(&mut fds, PollTimeout::from(CHECK_INTERVAL))?;
            if fds[0].any().unwrap_or(true) {
                // the process says nothing by itself: the connection ended
                return Ok(());
            }
            match ready {
                0 => client.check()?,
                _ => self.drain(),
            }
        }
    }

    /// Tells the process a configuration. False if it refuses.
    fn configure(
        &mut self,
        client: &Client,
        config: &Arc<Config>,
        version: u64,
    ) -> io::Result<bool> {
        let failure = client.configure(config)?.err();
        let mut state = self.shared.lock();
        match &failure {
            None => {
                state.applied = version;
                state.works = true;
            }
            Some(reason) if state.failure.is_none() => warn!("the data path: {reason}"),
            Some(_) => {}
        }
        state.failure = failure.map(Arc::from);
        let done = state.failure.is_none();
        self.shared.tell(&state);
        drop(state);
        // a copy must not keep a port that the process has given up
        self.kept = match done {
            true => client.share(config)?,
            false => None,
        };
        Ok(done)
    }
}

fn is_hanging(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}
