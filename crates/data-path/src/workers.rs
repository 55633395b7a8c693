//! The workers of a device: opened, started, stopped, and their descriptors handed over.

use crate::{
    Counters, Engine, Totals,
    batch::Batch,
    coalesce::Coalescer,
    icmp::IcmpSender,
    io::Buffers,
    path_mtu::PathMtu,
    socket::UdpSocket,
    tun::Queue,
    worker::{Ended, Parts, Worker},
};
use linux_net::tun::{self, Offload};
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

/// Why a data path cannot work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device cannot be opened.
    #[error(transparent)]
    Device(#[from] linux_net::Error),
    /// A socket cannot be bound.
    #[error("bind UDP port {port} of {family}: {source}{}", holder(source, *port))]
    Bind {
        /// The port.
        port: u16,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The system has no more threads or descriptors.
    #[error("start a thread of the data path: {0}")]
    Thread(#[source] io::Error),
    /// Descriptors of another process are of another number than it said.
    #[error("the other process handed {found} descriptors over instead of {expected}")]
    HandedOver {
        /// What it said.
        expected: usize,
        /// What came.
        found: usize,
    },
}

/// What the workers work with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The TUN device.
    pub device: String,
    /// The number of workers: of the device's queues, and of the sockets of each family.
    pub workers: usize,
    /// The UDP port of IPv4; None: no datagram travels by IPv4.
    pub port: Option<u16>,
    /// The same of IPv6.
    pub port_v6: Option<u16>,
    /// The source of ICMP errors.
    pub address: Option<Ipv4Addr>,
    /// The source of ICMPv6 errors.
    pub address_v6: Option<Ipv6Addr>,
}

/// Open descriptors for a number of workers.
#[derive(Debug)]
pub struct Opened(Vec<Parts>);

/// How the descriptors of [`Opened`] are arranged: the queues, the sockets of IPv4, those of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// Of the device.
    pub queues: usize,
    /// As many as queues, or none.
    pub v4: usize,
    /// As many as queues, or none.
    pub v6: usize,
    /// What the kernel leaves to the readers of the queues.
    pub offload: Offload,
}

/// Running workers. They stop when this is dropped.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<(Ended, Parts)>>,
    /// Closed to stop the workers.
    stop: Vec<UnixStream>,
    counters: Vec<Arc<Counters>>,
}

impl Opened {
    /// Opens the device's queues and binds the sockets. The device is made if there is none.
    pub fn open(settings: &Settings) -> Result<Opened, Error> {
        let one = |number| {
            let queue = Queue::open(&settings.device)?;
            Ok(Parts {
                queue,
                v4: bind(false, settings.port, number)?,
                v6: bind(true, settings.port_v6, number)?,
            })
        };
        Ok(Opened(
            (0..settings.workers.max(1))
                .map(one)
                .collect::<Result<_, Error>>()?,
        ))
    }

    /// Takes over what another process has opened.
    pub fn from_descriptors(
        arranged: Descriptors,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Opened, Error> {
        let Descriptors {
            queues,
            v4,
            v6,
            offload,
        } = arranged;
        let is_right = |sockets: usize| sockets == 0 || sockets == queues;
        let expected = queues.saturating_add(v4).saturating_add(v6);
        let found = descriptors.len();
        if expected != found || queues == 0 || !is_right(v4) || !is_right(v6) {
            return Err(Error::HandedOver { expected, found });
        }
        let mut all = descriptors.into_iter();
        let queues: Vec<_> = all.by_ref().take(queues).collect();
        let mut sockets = |count: usize| -> Result<Vec<_>, Error> {
            let sockets = all.by_ref().take(count).map(UdpSocket::from_descriptor);
            sockets.collect::<Result<_, _>>().map_err(Error::Thread)
        };
        let (mut v4, mut v6) = (sockets(v4)?.into_iter(), sockets(v6)?.into_iter());
        let parts = queues.into_iter().map(|queue| Parts {
            queue: Queue::from_descriptor(queue, offload),
            v4: v4.next(),
            v6: v6.next(),
        });
        Ok(Opened(parts.collect()))
    }

    /// The descriptors, and how they are arranged.
    pub fn descriptors(&self) -> (Descriptors, Vec<BorrowedFd<'_>>) {
        let queues = self.0.iter().map(|parts| parts.queue.as_fd());
        let v4: Vec<_> = self
            .0
            .iter()
            .filter_map(|parts| Some(parts.v4.as_ref()?.as_fd()))
            .collect();
        let v6: Vec<_> = self
            .0
            .iter()
            .filter_map(|parts| Some(parts.v6.as_ref()?.as_fd()))
            .collect();
        let none = Offload {
            tcp: false,
            udp: false,
        };
        let arranged = Descriptors {
            queues: self.0.len(),
            v4: v4.len(),
            v6: v6.len(),
            offload: self.0.first().map_or(none, |parts| parts.queue.offload()),
        };
        (arranged, queues.chain(v4).chain(v6).collect())
    }

    /// Opens the queues anew if another program gave the device another name. That one is deleted,
    /// since packets go to the device that has its name now. The sockets stay.
    pub fn reopen_renamed(&mut self, name: &str) -> Result<(), Error> {
        let Some(first) = self.0.first() else {
            return Ok(());
        };
        if tun::device_name(&first.queue)? == name {
            return Ok(());
        }
        tun::release(&first.queue)?;
        for parts in &mut self.0 {
            parts.queue = Queue::open(name)?;
        }
        Ok(())
    }

    /// Opens the sockets anew of each family that has another port now. The queues stay.
    pub fn bind_again(&mut self, settings: &Settings, v4: bool, v6: bool) -> Result<(), Error> {
        // first all of them are closed: their ports may be exchanged
        for parts in &mut self.0 {
            parts.v4.take_if(|_| v4);
            parts.v6.take_if(|_| v6);
        }
        for (number, parts) in self.0.iter_mut().enumerate() {
            if v4 {
                parts.v4 = bind(false, settings.port, number)?;
            }
            if v6 {
                parts.v6 = bind(true, settings.port_v6, number)?;
            }
        }
        Ok(())
    }

    /// The number of workers.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Says why a worker ended, also when it panicked: its queue must not stay without a reader.
struct Alarm {
    ended: mpsc::Sender<io::Error>,
    reason: Option<io::Error>,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(reason) = self.reason.take() {
            // without a receiver nobody waits for it
            drop(self.ended.send(reason));
        }
    }
}

/// How to find the process that has the port.
fn holder(error: &io::Error, port: u16) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("; ss -lnup 'sport = {port}' names the process"),
        _ => String::new(),
    }
}

/// The socket of the worker with this number.
fn bind(ipv6: bool, port: Option<u16>, number: usize) -> Result<Option<UdpSocket>, Error> {
    let Some(port) = port else {
        return Ok(None);
    };
    let family = if ipv6 { "IPv6" } else { "IPv4" };
    let socket = UdpSocket::bind(ipv6, port, number == 0);
    socket.map(Some).map_err(|source| Error::Bind {
        port,
        family,
        source,
    })
}

impl Workers {
    /// Starts a thread for each queue. `engine` makes the engine of each. `ended` gets the reason
    /// when the first of them ends by itself, as after the deletion of the device.
    pub fn start<E: Engine + 'static>(
        opened: Opened,
        settings: &Settings,
        mut engine: impl FnMut(usize) -> E,
        ended: &mpsc::Sender<io::Error>,
    ) -> Result<Workers, Error> {
        let mut workers = Workers {
            threads: Vec::new(),
            stop: Vec::new(),
            counters: Vec::new(),
        };
        for (number, parts) in opened.0.into_iter().enumerate() {
            let (ours, theirs) = UnixStream::pair().map_err(Error::Thread)?;
            let counters = Arc::new(Counters::default());
            let mut worker = Worker {
                engine: engine(number),
                buffers: Buffers {
                    batch: Batch::new(),
                    paths: PathMtu::default(),
                    coalescer: Coalescer::new(parts.queue.offload()),
                    icmp: IcmpSender::new(settings.address, settings.address_v6),
                },
                parts,
                counters: counters.clone(),
                stop: theirs,
            };
            let ended = ended.clone();
            let run = move || {
                let mut alarm = Alarm {
                    ended,
                    reason: Some(io::Error::other("a worker panicked")),
                };
                let reason = worker.run();
                alarm.reason = match reason {
                    Ended::Stopped => None,
                    Ended::Failed(error) => Some(error.into()),
                };
                (reason, worker.parts)
            };
            let thread = thread::Builder::new()
                .name(format!("data-path-{number}"))
                .spawn(run)
                .map_err(Error::Thread)?;
            workers.threads.push(thread);
            workers.stop.push(ours);
            workers.counters.push(counters);
        }
        Ok(workers)
    }

    /// Stops the workers. What they had read is sent; what they had not is still in the kernel, for
    /// whoever goes on with the descriptors.
    pub fn stop(mut self) -> Opened {
        self.stop.clear();
        let threads = std::mem::take(&mut self.threads);
        let parts = threads.into_iter().filter_map(|thread| thread.join().ok());
        Opened(parts.map(|(_, parts)| parts).collect())
    }

    /// What happened to packets so far.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for counters in &self.counters {
            totals.add(counters);
        }
        totals
    }

    /// The number of workers.
    pub fn count(&self) -> usize {
        self.threads.len()
    }
}
