//! Datagrams that wait to be sent: a run to one address, all of one length but the last.

use crate::{Counter, Counters, path_mtu::PathMtu, socket::UdpSocket};
use nix::libc;
use std::net::SocketAddr;

/// The longest datagram, in bytes: what fits an IPv4 packet after its headers.
pub const MAX_DATAGRAM: usize = 65_535 - 28;
/// The most datagrams of a run that kernels take (UDP_MAX_SEGMENTS in linux/udp.h).
const MOST_SEGMENTS: usize = 64;
/// Datagrams that were too large wait in such a number for the engine.
const MOST_TOO_LARGE: usize = 2 * MOST_SEGMENTS;

/// The run.
#[derive(Debug)]
pub(crate) struct Batch {
    buffer: Box<[u8]>,
    length: usize,
    run: Option<Run>,
    /// Those that the path to their address does not take.
    pub(crate) too_large: Vec<TooLarge>,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    to: SocketAddr,
    /// Bits of ECN in the outer header.
    ecn: u8,
    segment: usize,
    count: usize,
    /// The last datagram is shorter: none can follow.
    closed: bool,
}

/// A datagram that is longer than the path takes.
#[derive(Debug)]
pub(crate) struct TooLarge {
    pub(crate) datagram: Vec<u8>,
    pub(crate) to: SocketAddr,
    /// What the path takes, in bytes.
    pub(crate) limit: usize,
}

/// Where a batch goes.
pub(crate) struct Outlet<'a> {
    pub(crate) v4: Option<&'a mut UdpSocket>,
    pub(crate) v6: Option<&'a mut UdpSocket>,
    pub(crate) counters: &'a Counters,
    pub(crate) paths: &'a mut PathMtu,
}

impl Outlet<'_> {
    fn most_segments(&self, to: SocketAddr) -> usize {
        let socket = match to {
            SocketAddr::V4(_) => &self.v4,
            SocketAddr::V6(_) => &self.v6,
        };
        socket.as_ref().map_or(1, |socket| socket.most_segments())
    }
}

impl Batch {
    pub(crate) fn new() -> Batch {
        Batch {
            // the datagram that does not fit the run is written behind it
            buffer: vec![0; 2 * MAX_DATAGRAM].into(),
            length: 0,
            run: None,
            too_large: Vec::new(),
        }
    }

    /// Adds a datagram, which `write` writes to the place that it is given (of [`MAX_DATAGRAM`]
    /// bytes), and of which it returns the length; 0: there is none. `ecn` are its bits of ECN.
    pub(crate) fn add(
        &mut self,
        to: SocketAddr,
        ecn: u8,
        outlet: &mut Outlet<'_>,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) {
        let begin = self.length;
        let length = write(&mut self.buffer[begin..begin + MAX_DATAGRAM]).min(MAX_DATAGRAM);
        if length == 0 {
            return;
        }
        let most = outlet.most_segments(to);
        let joined = self.run.as_mut().is_some_and(|run| {
            let fits = run.to == to
                && run.ecn == ecn
                && !run.closed
                && length <= run.segment
                && run.count < most.min(MOST_SEGMENTS)
                && begin + length <= MAX_DATAGRAM;
            if fits {
                run.count += 1;
                run.closed = length < run.segment;
            }
            fits
        });
        if joined {
            self.length += length;
            return;
        }
        self.flush(outlet);
        self.buffer.copy_within(begin..begin + length, 0);
        self.length = length;
        self.run = Some(Run {
            to,
            ecn,
            segment: length,
            count: 1,
            closed: false,
        });
    }

    /// True if something waits.
    pub(crate) fn has_run(&self) -> bool {
        self.run.is_some()
    }

    /// Sends the run.
    pub(crate) fn flush(&mut self, outlet: &mut Outlet<'_>) {
        let Some(run) = self.run.take() else {
            return;
        };
        let length = std::mem::take(&mut self.length);
        let Outlet {
            v4,
            v6,
            counters,
            paths,
        } = outlet;
        let Some(socket) = (if run.to.is_ipv4() { v4 } else { v6 }) else {
            counters.add(Counter::SendErrors, run.count as u64);
            return;
        };
        let contents = &self.buffer[..length];
        match socket.send(run.to, run.ecn, contents, run.segment) {
            Ok(()) => {
                counters.add(Counter::Sent, run.count as u64);
                return;
            }
            Err(error) if is_retried(&error, run.count) => {}
            Err(_) => {
                counters.add(Counter::SendErrors, run.count as u64);
                return;
            }
        }
        // the kernel sends none of a run of which one does not fit
        for datagram in contents.chunks(run.segment) {
            match socket.send(run.to, run.ecn, datagram, datagram.len()) {
                Ok(()) => counters.one(Counter::Sent),
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                    counters.one(Counter::TooLarge);
                    let limit = paths.known(run.to);
                    let limit = limit.filter(|limit| *limit < datagram.len());
                    let limit = limit.or_else(|| paths.look(run.to));
                    if let Some(limit) = limit
                        && self.too_large.len() < MOST_TOO_LARGE
                    {
                        self.too_large.push(TooLarge {
                            datagram: datagram.to_vec(),
                            to: run.to,
                            limit,
                        });
                    }
                }
                Err(_) => counters.one(Counter::SendErrors),
            }
        }
    }
}

/// True if the datagrams are sent one by one after that error.
fn is_retried(error: &std::io::Error, count: usize) -> bool {
    match error.raw_os_error() {
        Some(libc::EMSGSIZE) => true,
        // the device under the socket has no offload for runs
        Some(libc::EIO | libc::EINVAL) => count > 1,
        _ => false,
    }
}
