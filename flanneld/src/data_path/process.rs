//! The process: `flanneld data-path`. It ends when its device is deleted, when it is told to, or
//! when another one has taken its descriptors over.

use super::{
    build::Build,
    engine::{Config, Error, Running},
    keeper,
    message::{self, Arranged, PROTOCOL, Reply, Request, Status},
    socket,
};
use crate::{
    best_effort::best_effort,
    cli::{self, commands::DataPath},
};
use data_path::{Counter, Descriptors, Opened};
use linux_net::descriptors;
use nix::{
    errno::Errno,
    unistd::{chdir, close, setsid},
};
use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            fs::MetadataExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    process::{self, ExitCode},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

/// How long the process waits for the one that takes over: it has the descriptors already.
const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the process looks whether its socket is still its own.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// What the threads share.
#[derive(Debug)]
struct Process {
    state: Mutex<State>,
    ended: mpsc::Sender<io::Error>,
    build: Build,
    /// A keeper started it.
    kept: bool,
}

#[derive(Debug, Default)]
struct State {
    config: Option<Box<Config>>,
    /// What was handed over, until the workers are started.
    opened: Option<Opened>,
    running: Option<Running>,
}

/// Runs the process or the keeper, or prints the status of the process that runs.
pub(crate) fn run(options: &DataPath) -> ExitCode {
    let (path, result) = match (&options.keep, &options.socket) {
        (Some(folder), _) => {
            cli::start_log();
            (folder, keeper::run(folder).map(|()| ExitCode::SUCCESS))
        }
        (None, Some(socket)) if options.status => (socket, print_status(socket)),
        (None, Some(socket)) => {
            let served = serve(socket, options.kept);
            (socket, served.map(|()| ExitCode::SUCCESS))
        }
        (None, None) => return cli::fail("name the socket with -socket", true),
    };
    result.unwrap_or_else(|error| cli::fail(format!("{}: {error}", path.display()), false))
}

fn print_status(path: &Path) -> io::Result<ExitCode> {
    let mut stream = socket::connect(path)?;
    message::send(&mut stream, &Request::Status)?;
    match message::receive(&mut stream)? {
        Some(Reply::Status(status)) => {
            let text = serde_json::to_string_pretty(&status)?;
            Ok(cli::print(&format!("{text}\n")))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Returns when the device is gone.
fn serve(path: &Path, kept: bool) -> io::Result<()> {
    close_inherited();
    // else `ps` and `ss` show the name of the link by which it was started
    best_effort(
        fs::write("/proc/self/comm", "flanneld"),
        "a name to look at",
    );
    // fails for the leader of a process group, which a shell starts: it has a session already
    best_effort(setsid(), "the process leads its session already");
    chdir("/")?;
    let (ended, failures) = mpsc::channel();
    let process = Arc::new(Process {
        state: Mutex::default(),
        ended,
        build: Build::own()?,
        kept,
    });
    let listener = match socket::connect(path) {
        Ok(earlier) => process.take_over(earlier, path)?,
        Err(_) => socket::listen(path)?,
    };
    let for_requests = process.clone();
    thread::Builder::new()
        .name("requests".to_owned())
        .spawn(move || for_requests.accept(&listener))?;
    let own = inode(path);
    let failure = loop {
        match failures.recv_timeout(CHECK_INTERVAL) {
            Ok(failure) => break failure,
            // another process has the path: no daemon finds this one any more
            Err(RecvTimeoutError::Timeout) if own.is_none() || inode(path) != own => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(error @ RecvTimeoutError::Disconnected) => return Err(io::Error::other(error)),
        }
    };
    // the next process binds the ports as soon as this one's connections end
    process.close();
    // the socket goes with the device; the next process makes another one
    best_effort(fs::remove_file(path), "a stale socket is replaced");
    match failure.raw_os_error() {
        Some(errno) if errno == Errno::EBADFD as i32 => Ok(()),
        _ => Err(failure),
    }
}

/// Which socket the path leads to.
fn inode(path: &Path) -> Option<(u64, u64)> {
    let file = best_effort(fs::metadata(path), "there is none")?;
    Some((file.dev(), file.ino()))
}

/// Closes what the daemon itself was started with: ports and locks of others must not stay open as
/// long as this process lives.
fn close_inherited() {
    let Some(entries) = best_effort(fs::read_dir("/proc/self/fd"), "nothing is known of them")
    else {
        return;
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let open: Vec<i32> = names.filter_map(|name| name.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // the folder itself is closed already
        best_effort(close(descriptor), "it was closed in between");
    }
}

impl Process {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the device's queues and the ports.
    fn close(&self) {
        let mut state = self.state();
        drop(state.opened.take());
        if let Some(Running {
            workers, copies, ..
        }) = state.running.take()
        {
            drop((workers.stop(), copies));
        }
    }

    /// Goes on with what an earlier process has. One that does not understand, or whose
    /// descriptors cannot be used, is stopped.
    fn take_over(&self, mut earlier: UnixStream, path: &Path) -> io::Result<UnixListener> {
        earlier.set_read_timeout(Some(TAKE_OVER_TIMEOUT))?;
        let taken = self.receive_descriptors(&mut earlier);
        let listener = socket::listen(path)?;
        let last = match taken {
            Ok(()) => Request::TakenOver,
            Err(_) => Request::Stop,
        };
        best_effort(message::send(&mut earlier, &last), "it ended by itself");
        Ok(listener)
    }

    fn receive_descriptors(&self, earlier: &mut UnixStream) -> io::Result<()> {
        message::send(earlier, &Request::HandOver)?;
        let reply = message::receive(earlier)?;
        let Some(Reply::HandedOver {
            config,
            descriptors: arranged,
        }) = reply
        else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let Some(arranged) = arranged else {
            return Ok(());
        };
        let received = descriptors::receive(earlier).map_err(io::Error::other)?;
        self.go_on(config, arranged, received)
            .map_err(io::Error::other)
    }

    /// Goes on with the descriptors of an earlier process, and what that one went by.
    fn go_on(
        &self,
        config: Option<Box<Config>>,
        arranged: Arranged,
        received: Vec<OwnedFd>,
    ) -> Result<(), Error> {
        let mut state = self.state();
        if state.running.is_some() {
            return Err(Error::Running);
        }
        let opened = Opened::from_descriptors(arranged.into(), received)?;
        state.opened = Some(opened);
        let configured = config.map_or(Ok(()), |config| self.configure(&mut state, config));
        if configured.is_err() {
            state.opened = None;
        }
        configured
    }

    fn accept(self: &Arc<Process>, listener: &UnixListener) {
        for connection in listener.incoming() {
            let Ok(connection) = connection else {
                // out of descriptors
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            let process = self.clone();
            let serve = move || best_effort(process.answer(connection), "the other side is gone");
            let thread = thread::Builder::new()
                .name("request".to_owned())
                .spawn(serve);
            best_effort(
                thread,
                "the connection is closed, and the daemon tries again",
            );
        }
    }

    /// Answers requests until the connection ends.
    fn answer(&self, mut connection: UnixStream) -> io::Result<()> {
        socket::check_peer(&connection)?;
        while let Some(request) = message::receive(&mut connection)? {
            let reply = match request {
                Request::Status => Reply::Status(self.status()),
                Request::Ping => Reply::Done,
                Request::Configure(config) => reply(self.configure(&mut self.state(), config)),
                Request::GoOn {
                    config,
                    descriptors: arranged,
                } => {
                    let received = descriptors::receive(&connection).map_err(io::Error::other)?;
                    reply(self.go_on(Some(config), arranged, received))
                }
                Request::Share => {
                    self.share(&mut connection)?;
                    continue;
                }
                Request::HandOver => {
                    self.hand_over(&mut connection)?;
                    continue;
                }
                Request::TakenOver => Reply::Failed("nothing was handed over".to_owned()),
                Request::Stop => {
                    drop(self.state());
                    process::exit(0);
                }
            };
            message::send(&mut connection, &reply)?;
        }
        Ok(())
    }

    fn configure(&self, state: &mut State, mut config: Box<Config>) -> Result<(), Error> {
        config.check()?;
        if let Some(present) = &state.config {
            config.keep(present);
        }
        if let Some(running) = &mut state.running {
            if running.settings.device != config.device {
                return Err(Error::OtherDevice {
                    present: running.settings.device.clone(),
                    asked: config.device.clone(),
                });
            }
            if running.update(&config)? {
                state.config = Some(config);
                return Ok(());
            }
        }
        let mut opened = match (state.running.take(), state.opened.take()) {
            (Some(running), _) => Some(running.workers.stop()),
            (None, opened) => opened,
        };
        let settings = config.settings();
        if let Some(opened) = &mut opened {
            opened.reopen_renamed(&settings.device)?;
        }
        if let (Some(opened), Some(present)) = (&mut opened, &state.config) {
            let [v4, v6] = present.other_ports(&config);
            opened.bind_again(&settings, v4, v6)?;
        }
        let opened = match opened {
            Some(opened) => opened,
            None => Opened::open(&settings)?,
        };
        state.running = Some(Running::start(&config, opened, &self.ended)?);
        state.config = Some(config);
        Ok(())
    }

    /// Sends copies of the descriptors.
    fn share(&self, connection: &mut UnixStream) -> io::Result<()> {
        let state = self.state();
        let copies = state.running.as_ref().map(|running| {
            let (arranged, all) = &running.copies;
            (*arranged, all.iter().map(AsFd::as_fd).collect())
        });
        send_descriptors(connection, None, copies)
    }

    /// Gives the descriptors to another process, and ends once that one works with them.
    fn hand_over(&self, connection: &mut UnixStream) -> io::Result<()> {
        // nobody else configures in between
        let mut state = self.state();
        let opened = match state.running.take() {
            Some(running) => Some(running.workers.stop()),
            None => state.opened.take(),
        };
        let given = give(connection, state.config.clone(), opened.as_ref());
        if given.is_ok() {
            process::exit(0);
        }
        // the other one failed: this one goes on
        state.opened = opened;
        if let Some(config) = state.config.clone() {
            self.configure(&mut state, config)
                .map_err(io::Error::other)?;
        }
        given
    }

    fn status(&self) -> Status {
        let state = self.state();
        let running = state.running.as_ref();
        let totals = running.map(|running| running.workers.totals());
        let config = state.config.as_ref();
        Status {
            pid: process::id(),
            build: self.build.clone(),
            protocol: PROTOCOL,
            kept: self.kept,
            device: config.map(|config| config.device.clone()),
            engine: config.map(|config| config.engine.name().to_owned()),
            workers: running.map_or(0, |running| running.workers.count()),
            peers: config.map_or(0, |config| config.engine.peers()),
            packets: totals.map_or_else(Default::default, |totals| {
                let all = Counter::ALL.into_iter();
                all.map(|(counter, name)| (name.to_owned(), totals.get(counter)))
                    .collect()
            }),
        }
    }
}

/// Says whether it is done.
fn reply(done: Result<(), Error>) -> Reply {
    match done {
        Ok(()) => Reply::Done,
        Err(error) => Reply::Failed(error.to_string()),
    }
}

fn send_descriptors(
    connection: &mut UnixStream,
    config: Option<Box<Config>>,
    descriptors: Option<(Descriptors, Vec<BorrowedFd<'_>>)>,
) -> io::Result<()> {
    let arranged = descriptors.as_ref().map(|(arranged, _)| *arranged);
    let reply = Reply::HandedOver {
        config,
        descriptors: arranged.map(Arranged::from),
    };
    message::send(connection, &reply)?;
    match &descriptors {
        Some((_, all)) => descriptors::send(connection, all).map_err(io::Error::other),
        None => Ok(()),
    }
}

/// Succeeds when the other process says that it works with the descriptors.
fn give(
    connection: &mut UnixStream,
    config: Option<Box<Config>>,
    opened: Option<&Opened>,
) -> io::Result<()> {
    send_descriptors(connection, config, opened.map(Opened::descriptors))?;
    connection.set_read_timeout(Some(TAKE_OVER_TIMEOUT))?;
    match message::receive(connection)? {
        Some(Request::TakenOver | Request::Stop) => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
