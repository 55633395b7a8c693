//! The daemon's end of a connection to the process.

use super::{
    engine::Config,
    message::{self, Arranged, Reply, Request, Status},
    socket,
};
use crate::best_effort::best_effort;
use linux_net::descriptors;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, kill},
        socket::{getsockopt, sockopt::PeerCredentials},
    },
    unistd::Pid,
};
use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// A process that does not answer for so long hangs.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a process that works on a request, or has none, is asked whether it hangs, in
/// milliseconds.
pub(super) const CHECK_INTERVAL: u16 = 1000;

/// A connection. A process that hangs is an error of kind `TimedOut`.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    path: PathBuf,
}

/// The descriptors of a process, with which the next one goes on: what the kernel holds for them
/// is not lost.
#[derive(Debug)]
pub(super) struct Kept {
    /// What they were opened for.
    config: Arc<Config>,
    arranged: Arranged,
    descriptors: Vec<OwnedFd>,
}

impl Kept {
    /// False if the device is deleted.
    pub(super) fn has_device(&self) -> bool {
        let Some(queue) = self.descriptors.first() else {
            return false;
        };
        let mut polled = [PollFd::new(queue.as_fd(), PollFlags::empty())];
        let asked = poll(&mut polled, PollTimeout::ZERO);
        // tun_chr_poll of drivers/net/tun.c
        asked.is_ok() && !polled[0].any().unwrap_or(true)
    }
}

impl Client {
    /// Connects to the process with the socket at this path.
    pub(super) fn connect(path: &Path) -> io::Result<Client> {
        let stream = socket::connect(path)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Client {
            stream,
            path: path.to_owned(),
        })
    }

    /// The state of the process.
    pub(super) fn status(&self) -> io::Result<Status> {
        self.send(&Request::Status)?;
        match self.answer()? {
            Reply::Status(status) => Ok(status),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Tells the process what to go by. It may say why it cannot.
    pub(super) fn configure(&self, config: &Arc<Config>) -> io::Result<Result<(), String>> {
        self.send(&Request::Configure(Box::new(Config::clone(config))))?;
        self.done()
    }

    /// Gives a process that has no configuration yet what an earlier one had.
    pub(super) fn go_on(&self, kept: &Kept) -> io::Result<Result<(), String>> {
        self.send(&Request::GoOn {
            config: Box::new(Config::clone(&kept.config)),
            descriptors: kept.arranged,
        })?;
        let all: Vec<_> = kept.descriptors.iter().map(AsFd::as_fd).collect();
        descriptors::send(&self.stream, &all).map_err(io::Error::other)?;
        self.done()
    }

    /// Copies of the descriptors of a process that goes by this configuration.
    pub(super) fn share(&self, config: &Arc<Config>) -> io::Result<Option<Kept>> {
        self.send(&Request::Share)?;
        let Reply::HandedOver {
            descriptors: arranged,
            ..
        } = self.answer()?
        else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let Some(arranged) = arranged else {
            return Ok(None);
        };
        Ok(Some(Kept {
            config: config.clone(),
            arranged,
            descriptors: descriptors::receive(&self.stream).map_err(io::Error::other)?,
        }))
    }

    /// Fails if the process hangs. The answer comes on another connection: the process may work on
    /// a request of this one.
    pub(super) fn check(&self) -> io::Result<()> {
        let other = Client::connect(&self.path)?;
        other.send(&Request::Ping)?;
        other.receive().map(drop)
    }

    /// Ends a process that hangs. One in another PID namespace ends when it does not find its
    /// socket any more.
    pub(super) fn kill(&self) {
        let pid = getsockopt(&self.stream, PeerCredentials).map_or(0, |peer| peer.pid());
        if pid > 0 {
            let killed = kill(Pid::from_raw(pid), Signal::SIGKILL);
            best_effort(killed, "it ended by itself");
        }
    }

    fn done(&self) -> io::Result<Result<(), String>> {
        match self.answer()? {
            Reply::Done => Ok(Ok(())),
            Reply::Failed(reason) => Ok(Err(reason)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn send(&self, request: &Request) -> io::Result<()> {
        message::send(&mut &self.stream, request).map_err(or_hangs)
    }

    /// The answer, however long the process works on it: thousands of peers take their time.
    fn answer(&self) -> io::Result<Reply> {
        loop {
            let mut polled = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
            if poll(&mut polled, PollTimeout::from(CHECK_INTERVAL))? > 0 {
                return self.receive();
            }
            self.check()?;
        }
    }

    fn receive(&self) -> io::Result<Reply> {
        let reply = message::receive(&mut &self.stream).map_err(or_hangs)?;
        reply.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "its process ended"))
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The error of a time that is over, in words.
fn or_hangs(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            let text = format!("its process did not answer for {ANSWER_TIMEOUT:?}");
            io::Error::new(io::ErrorKind::TimedOut, text)
        }
        _ => error,
    }
}
