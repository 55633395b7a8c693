//! A thread that moves packets between one queue of the device and its sockets.

use crate::{
    Counter, Counters, Engine, Io, TunPacket, batch::Outlet, io::Buffers, socket::UdpSocket,
    tun::Queue, watch::Watch,
};
use nix::errno::Errno;
use quinn_udp::RecvMeta;
use std::{io::IoSliceMut, os::unix::net::UnixStream, sync::Arc, time::Instant};

/// The longest super-packet with its header, in bytes.
const PACKET: usize = 65_536 + 128;
/// A run of datagrams, in bytes.
const RUN: usize = 65_536;
/// Runs that are received at once.
const RUNS: usize = 8;
/// Packets that are read from the device before the sockets have their turn.
const ROUND: usize = 64;

/// Why a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was told to.
    Stopped,
    /// The device is deleted, or the kernel fails otherwise.
    Failed(Errno),
}

/// The thread's state.
pub(crate) struct Worker<E> {
    pub(crate) engine: E,
    pub(crate) parts: Parts,
    pub(crate) buffers: Buffers,
    pub(crate) counters: Arc<Counters>,
    /// Its other end is closed to stop the worker.
    pub(crate) stop: UnixStream,
}

/// What a worker leaves behind: another one can go on with it.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) queue: Queue,
    pub(crate) v4: Option<UdpSocket>,
    pub(crate) v6: Option<UdpSocket>,
}

impl<E: Engine> Worker<E> {
    /// Runs until it is stopped or the device is gone.
    pub(crate) fn run(&mut self) -> Ended {
        let watch = match Watch::new(&self.stop, &self.parts) {
            Ok(watch) => watch,
            Err(error) => return Ended::Failed(error),
        };
        let mut packet = vec![0; PACKET];
        let mut runs = vec![0; RUN * RUNS];
        let mut timer = self.with_io(|engine, io| {
            engine.begin();
            engine.tick(Instant::now(), io)
        });
        loop {
            let ready = match watch.wait(timer) {
                Ok(ready) => ready,
                Err(error) => return Ended::Failed(error),
            };
            if ready.stop {
                return Ended::Stopped;
            }
            self.engine.begin();
            if ready.queue
                && let Err(error) = self.read_device(&mut packet)
            {
                return Ended::Failed(error);
            }
            if ready.v4 {
                self.read_socket(false, &mut runs);
            }
            if ready.v6 {
                self.read_socket(true, &mut runs);
            }
            timer = self.with_io(|engine, io| {
                let next = engine.tick(Instant::now(), io);
                io.flush();
                io.answer_too_large(engine);
                next
            });
        }
    }

    /// Reads packets from the device until it has none.
    fn read_device(&mut self, buffer: &mut [u8]) -> nix::Result<()> {
        for _ in 0..ROUND {
            let length = match self.parts.queue.read(buffer) {
                Ok(length) => length,
                Err(Errno::EAGAIN | Errno::EINTR) => break,
                Err(error) => return Err(error),
            };
            self.with_io(|engine, io| match TunPacket::read(&mut buffer[..length]) {
                Ok(packet) => {
                    let count = packet.segments().count();
                    io.counters().add(Counter::FromDevice, count as u64);
                    engine.outbound(packet, io);
                }
                Err(_) => io.counters().one(Counter::Malformed),
            });
        }
        self.with_io(|engine, io| {
            io.flush();
            io.answer_too_large(engine);
        });
        Ok(())
    }

    /// Receives what the socket has, at most some runs.
    fn read_socket(&mut self, ipv6: bool, runs: &mut [u8]) {
        let mut meta = [RecvMeta::default(); RUNS];
        let mut rest = runs;
        let mut buffers = [const { None }; RUNS].map(|_: Option<()>| {
            let (run, others) = std::mem::take(&mut rest).split_at_mut(RUN);
            rest = others;
            IoSliceMut::new(run)
        });
        let socket = if ipv6 { &self.parts.v6 } else { &self.parts.v4 };
        let Some(socket) = socket else {
            return;
        };
        // an error of the socket is one of an earlier datagram, or that there is none
        let Ok(count) = socket.receive(&mut buffers, &mut meta) else {
            return;
        };
        self.with_io(|engine, io| {
            for (run, meta) in buffers.iter_mut().zip(&meta).take(count) {
                let length = meta.len.min(run.len());
                let stride = meta.stride.max(1);
                io.received_ecn = meta.ecn.map_or(0, |ecn| ecn as u8);
                for datagram in run[..length].chunks_mut(stride) {
                    io.counters().one(Counter::Received);
                    engine.inbound(datagram, meta.addr, io);
                }
            }
            io.flush();
            io.answer_too_large(engine);
        });
    }

    fn with_io<T>(&mut self, f: impl FnOnce(&mut E, &mut Io<'_>) -> T) -> T {
        let Buffers {
            batch,
            paths,
            coalescer,
            icmp,
        } = &mut self.buffers;
        let mut io = Io {
            batch,
            outlet: Outlet {
                v4: self.parts.v4.as_mut(),
                v6: self.parts.v6.as_mut(),
                counters: &self.counters,
                paths,
            },
            queue: &self.parts.queue,
            coalescer,
            icmp,
            received_ecn: 0,
        };
        f(&mut self.engine, &mut io)
    }
}

impl Io<'_> {
    /// Gives datagrams that were too large back to the engine. What the engine sends instead is
    /// not looked at again: it fits, or it is lost.
    fn answer_too_large(&mut self, engine: &mut impl Engine) {
        for too_large in std::mem::take(&mut self.batch.too_large) {
            engine.too_large(&too_large.datagram, too_large.to, too_large.limit, self);
        }
        if self.batch.has_run() {
            self.flush();
            self.batch.too_large.clear();
        }
    }
}
