//! Requests and their answers over one transport: batches, transactions, look-ups, dumps that are
//! repeated when the kernel reports an interruption. After a failure the socket is drained, so the
//! next exchange starts clean.
//!
//! The kernel handles a request while it is being sent, so its answer is there when the send
//! returns (and the next part of a dump when the one before was read). Nothing here waits: an
//! answer that is not there is an error, except in a transaction, whose requests are answered only
//! when the kernel refuses them.

use super::{
    Malformed, Read, Request,
    datagram::{Answer, messages},
    socket,
};
use crate::{Error, NetNs, Result};
use netlink_sys::Socket;
use nix::errno::Errno;
use std::{fmt, thread, time::Duration};

/// The kernel puts at most this much into one part of a dump.
const BUFFER: usize = 32 * 1024;
/// No answer is larger than this: a link with hundreds of virtual functions is some 100 KiB.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;
/// Requests in one packet of a batch. Their answers wait in the receive buffer together: at most
/// about 1 KiB each of 208 KiB.
const PACKET_REQUESTS: usize = 128;
/// Bytes in one packet of a batch.
const PACKET_SIZE: usize = 32 * 1024;
/// How often a dump is read that other programs' changes interrupt.
const DUMP_ATTEMPTS: u32 = 20;
/// Dumps that are repeated at once; later ones wait one millisecond for each attempt so far.
const IMMEDIATE_ATTEMPTS: u32 = 2;
/// Datagrams that are dropped at most to drain the socket: more than any table has.
const DRAINED: usize = 1 << 20;

/// Exchanges packets with the kernel, or with a scripted kernel in tests.
pub trait Transport {
    /// Hands over one packet.
    fn send(&mut self, packet: &[u8]) -> nix::Result<()>;
    /// Receives the kernel's next datagram into `buffer`. Returns its length, also if it did not
    /// fit; EAGAIN if there is none.
    fn receive(&mut self, buffer: &mut [u8]) -> nix::Result<usize>;
}

/// A client of one netlink protocol. Its socket stays in the namespace that it was opened in when
/// its thread enters another.
pub struct Client<T = Socket> {
    transport: T,
    sequence: u32,
    /// the last packet sent
    packet: Vec<u8>,
    /// the last datagram received; grows when an answer does not fit
    buffer: Vec<u8>,
}

/// Without the packets: they may have keys.
impl<T: fmt::Debug> fmt::Debug for Client<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("transport", &self.transport)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

type Outcome<O> = std::result::Result<O, Failure>;

/// Why an exchange has no result.
#[derive(Debug, Clone)]
enum Failure {
    /// send or recv failed
    System(Errno),
    /// The answer did not fit. The buffer has grown since, so the request can be repeated.
    Truncated,
    /// A dump changed while it was read.
    Interrupted,
    Refused(Errno, Option<String>),
    Malformed(Malformed),
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Failure::Malformed(malformed)
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Failure::System(errno)
    }
}

impl Failure {
    fn of(self, request: &Request) -> Error {
        let what = request.what().to_owned();
        match self {
            Failure::System(Errno::EAGAIN) => Error::Decode {
                what,
                reason: "it is missing".into(),
            },
            Failure::System(errno) => Error::io(what, errno),
            Failure::Truncated => Error::io(what, Errno::EMSGSIZE),
            Failure::Interrupted => Error::interrupted(what),
            Failure::Refused(errno, message) => Error::Kernel {
                what,
                errno,
                message,
            },
            Failure::Malformed(Malformed(reason)) => Error::Decode { what, reason },
        }
    }
}

impl Client {
    /// Opens a socket of a protocol (`NETLINK_*`) in the calling thread's namespace.
    pub fn open(protocol: isize) -> Result<Self> {
        match socket::open(protocol) {
            Ok(socket) => Ok(Self::new(socket)),
            Err(error) => Err(Error::io("open netlink socket", error)),
        }
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.transport
    }

    /// Opens it in another namespace.
    pub fn open_in(protocol: isize, ns: &NetNs) -> Result<Self> {
        ns.run(|| Self::open(protocol))?
    }
}

impl<T: Transport> Client<T> {
    fn new(transport: T) -> Self {
        Self {
            transport,
            sequence: 0,
            packet: Vec::new(),
            buffer: vec![0; BUFFER],
        }
    }

    /// Sends one request and waits for its ACK.
    pub fn request(&mut self, request: &Request) -> Result<()> {
        let mut results = [Ok(())];
        self.exchange(std::slice::from_ref(request), &mut results);
        let [result] = results;
        result
    }

    /// Sends all in as few packets as the buffers allow. Returns an answer for each, in order; a
    /// refused request does not stop the others. Where answers are lost (ENOBUFS, or no errno at
    /// all) the kernel may have carried the request out.
    pub fn batch(&mut self, requests: &[Request]) -> Vec<Result<()>> {
        let mut results: Vec<_> = requests.iter().map(|_| Ok(())).collect();
        let (mut requests, mut open) = (requests, results.as_mut_slice());
        while !requests.is_empty() {
            let count = fitting(requests);
            let (packed, behind) = requests.split_at(count);
            let (answers, later) = open.split_at_mut(count);
            self.exchange(packed, answers);
            (requests, open) = (behind, later);
        }
        results
    }

    /// One packet of a batch. The kernel handles its requests in order and answers each that it
    /// refuses; only the last one asks for an answer on success. Success is assumed for those that
    /// have no answer by then.
    fn exchange(&mut self, requests: &[Request], results: &mut [Result<()>]) {
        let first = self.pack(requests, requests.len());
        let outcome = self
            .send()
            .and_then(|()| self.acknowledged(first, requests, results));
        if let Err(failure) = outcome {
            for (request, result) in requests.iter().zip(results) {
                if result.is_ok() {
                    *result = Err(failure.clone().of(request));
                }
            }
            self.drain();
        }
    }

    /// Reads answers up to the last request's.
    fn acknowledged(
        &mut self,
        first: u32,
        requests: &[Request],
        results: &mut [Result<()>],
    ) -> Outcome<()> {
        loop {
            let length = self.receive()?;
            for message in messages(&self.buffer[..length]) {
                let message = message?;
                let position = message.position(first);
                // an answer to an earlier request that was abandoned
                let (Some(request), Some(result)) =
                    (requests.get(position), results.get_mut(position))
                else {
                    continue;
                };
                match message.answer()? {
                    Answer::Done => {}
                    Answer::Refused(errno, text) => {
                        *result = Err(Failure::Refused(errno, text).of(request));
                    }
                    Answer::Object(..) | Answer::Nothing => continue,
                }
                if position + 1 == requests.len() {
                    return Ok(());
                }
            }
        }
    }

    /// Sends all in one packet, of which the kernel carries out everything or nothing (a batch of
    /// nfnetlink, with its BEGIN and END). The error is that of the first request that was refused.
    pub fn transaction<'r>(
        &mut self,
        requests: impl IntoIterator<Item = &'r Request, IntoIter: Clone>,
    ) -> Result<()> {
        let requests = requests.into_iter();
        let first = self.pack(requests.clone(), 0);
        let Some(whole) = requests.clone().next() else {
            return Ok(());
        };
        let refusal = self.send().and_then(|()| self.refusal(first));
        match refusal {
            Ok(None) => Ok(()),
            Ok(Some((position, failure))) => {
                Err(failure.of(requests.clone().nth(position).unwrap_or(whole)))
            }
            Err(failure) => {
                self.drain();
                Err(failure.of(whole))
            }
        }
    }

    /// Reads all answers to the packet that begins with sequence number `first`: the position and
    /// error of the first refusal.
    fn refusal(&mut self, first: u32) -> Outcome<Option<(usize, Failure)>> {
        let mut refusal = None;
        loop {
            let length = match self.receive() {
                Err(Failure::System(Errno::EAGAIN)) => return Ok(refusal),
                received => received?,
            };
            for message in messages(&self.buffer[..length]) {
                let message = message?;
                let position = message.position(first);
                let sent = position <= self.sequence.wrapping_sub(first) as usize;
                if let Answer::Refused(errno, text) = message.answer()?
                    && sent
                {
                    refusal.get_or_insert((position, Failure::Refused(errno, text)));
                }
            }
        }
    }

    /// Asks for one object.
    pub fn get<O>(
        &mut self,
        request: &Request,
        mut read: impl FnMut(u16, &[u8]) -> Read<O>,
    ) -> Result<O> {
        let mut found = None;
        self.repeated(request, |client| {
            client.objects(request, &mut |kind, payload| {
                found = Some(read(kind, payload)?);
                Ok(true)
            })
        })?;
        found.ok_or_else(|| Failure::from(Malformed("no object".into())).of(request))
    }

    /// Asks for all objects; `read` returns None for those that are not wanted.
    pub fn dump<O>(
        &mut self,
        request: &Request,
        mut read: impl FnMut(u16, &[u8]) -> Read<Option<O>>,
    ) -> Result<Vec<O>> {
        let mut found = Vec::new();
        self.repeated(request, |client| {
            found.clear();
            client.objects(request, &mut |kind, payload| {
                found.extend(read(kind, payload)?);
                Ok(false)
            })
        })?;
        Ok(found)
    }

    /// Repeats what was truncated or interrupted.
    fn repeated(
        &mut self,
        request: &Request,
        mut ask: impl FnMut(&mut Self) -> Outcome<()>,
    ) -> Result<()> {
        let mut attempt = 0;
        loop {
            let failure = match ask(self) {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            // a refusal and the end of a dump leave nothing behind
            if !matches!(failure, Failure::Refused(..) | Failure::Interrupted) {
                self.drain();
            }
            attempt += 1;
            match failure {
                Failure::Truncated | Failure::Interrupted if attempt < DUMP_ATTEMPTS => {
                    if attempt > IMMEDIATE_ATTEMPTS {
                        thread::sleep(Duration::from_millis(attempt.into()));
                    }
                }
                failure => return Err(failure.of(request)),
            }
        }
    }

    /// Sends one request without asking for an ACK and passes each object to `take`, until `take`
    /// returns true or the kernel ends the dump.
    fn objects(
        &mut self,
        request: &Request,
        take: &mut dyn FnMut(u16, &[u8]) -> Read<bool>,
    ) -> Outcome<()> {
        self.pack([request], 0);
        self.send()?;
        let mut interrupted = false;
        loop {
            let length = self.receive()?;
            for message in messages(&self.buffer[..length]) {
                let message = message?;
                if message.sequence != self.sequence {
                    continue;
                }
                interrupted |= message.interrupted();
                match message.answer()? {
                    Answer::Done if interrupted => return Err(Failure::Interrupted),
                    Answer::Done => return Ok(()),
                    // nftables ends an interrupted dump with this errno
                    Answer::Refused(Errno::EINTR, _) => return Err(Failure::Interrupted),
                    Answer::Refused(errno, text) => return Err(Failure::Refused(errno, text)),
                    Answer::Nothing => {}
                    Answer::Object(kind, payload) => {
                        if take(kind, payload)? {
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    /// Lays the requests out as one packet, with an ACK asked for by the one that `acked` counts to
    /// (0: none). Returns the first sequence number.
    fn pack<'r>(&mut self, requests: impl IntoIterator<Item = &'r Request>, acked: usize) -> u32 {
        let first = self.sequence.wrapping_add(1);
        self.packet.clear();
        for (number, request) in (1..).zip(requests) {
            self.sequence = self.sequence.wrapping_add(1);
            request.put(&mut self.packet, self.sequence, number == acked);
        }
        first
    }

    fn send(&mut self) -> Outcome<()> {
        Ok(self.transport.send(&self.packet)?)
    }

    /// Receives one datagram into the buffer; its length.
    fn receive(&mut self) -> Outcome<usize> {
        let length = self.transport.receive(&mut self.buffer)?;
        if length <= self.buffer.len() {
            return Ok(length);
        }
        if length > LARGEST_ANSWER {
            return Err(Failure::System(Errno::EMSGSIZE));
        }
        self.buffer.resize(length.next_multiple_of(BUFFER), 0);
        Err(Failure::Truncated)
    }

    /// Drops what is left of an exchange that failed. The kernel refuses a second dump while a
    /// first one is not read to its end.
    fn drain(&mut self) {
        for _ in 0..DRAINED {
            if let Err(Failure::System(Errno::EAGAIN)) = self.receive() {
                return;
            }
        }
    }
}

/// How many of the requests (at least one) go into the next packet.
fn fitting(requests: &[Request]) -> usize {
    let mut size = 0;
    let count = requests.iter().take(PACKET_REQUESTS).take_while(|request| {
        size += request.len();
        size <= PACKET_SIZE
    });
    count.count().max(1)
}

#[cfg(test)]
mod tests;
