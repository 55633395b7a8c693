//! Requests and their answers over one channel to the kernel: batches, look-ups, dumps that are repeated when the kernel says
//! they were interrupted, and a clean start after everything that went wrong.
//!
//! The kernel works a request off while it is being sent, so its answer is there when the send returns (and the next part of
//! a dump whenever one was read). Nothing here waits: an answer that is not there is an error.

use crate::{
    Error, Request, Result,
    answer::{Answer, messages},
    attributes::{Malformed, Read},
};
use nix::errno::Errno;
use std::{thread, time::Duration};

/// As much as the kernel puts into one part of a dump.
const BUFFER: usize = 32 * 1024;
/// No answer is larger than this: a link with hundreds of virtual functions is some 100 KiB.
const LARGEST: usize = 16 * 1024 * 1024;
/// Requests in one packet. Their answers wait in the receive buffer together: at most about 1 KiB each of 208 KiB.
const PACKED: usize = 128;
/// Bytes in one packet.
const PACKET: usize = 32 * 1024;
/// How often a dump is repeated that others' changes interrupt, with a pause of up to 20 ms in between.
const DUMPS: u32 = 20;
/// Parts of a dump that are thrown away at most: more than any table has.
const DRAINED: usize = 1 << 20;

/// A way to the kernel and back.
pub(crate) trait Channel {
    /// Hands over one packet.
    fn send(&mut self, packet: &[u8]) -> nix::Result<()>;
    /// The kernel's next datagram into `buffer`; its length, also if it did not fit. EAGAIN if there is none.
    fn receive(&mut self, buffer: &mut [u8]) -> nix::Result<usize>;
}

/// One conversation with the kernel.
#[derive(Debug)]
pub(crate) struct Exchange<C> {
    channel: C,
    sequence: u32,
    /// what is being sent
    packet: Vec<u8>,
    /// what was received; grows when an answer did not fit
    buffer: Vec<u8>,
}

/// Why an exchange has no result.
#[derive(Debug, Clone)]
enum Failure {
    /// send or recv
    System(Errno),
    /// The answer did not fit; the buffer has grown, ask again.
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
                reason: "there is none".into(),
            },
            Failure::System(errno) => Error::io(what, errno),
            Failure::Truncated => Error::io(what, Errno::EMSGSIZE),
            Failure::Interrupted => Error::Kernel {
                what,
                errno: Errno::EINTR,
                message: Some("others change it faster than it can be read".into()),
            },
            Failure::Refused(errno, message) => Error::Kernel {
                what,
                errno,
                message,
            },
            Failure::Malformed(Malformed(reason)) => Error::Decode { what, reason },
        }
    }
}

impl<C: Channel> Exchange<C> {
    pub(crate) fn new(channel: C) -> Self {
        Self {
            channel,
            sequence: 0,
            packet: Vec::new(),
            buffer: vec![0; BUFFER],
        }
    }

    /// Sends one request and waits for its ACK.
    pub(crate) fn request(&mut self, request: &Request) -> Result<()> {
        let mut results = [Ok(())];
        self.exchange(std::slice::from_ref(request), &mut results);
        let [result] = results;
        result
    }

    /// Sends all in as few packets as the buffers allow; an answer for each, in order. One refused request does not stop the
    /// others. Where answers were lost (ENOBUFS, or no errno at all) it is open whether the request was carried out.
    pub(crate) fn batch(&mut self, requests: &[Request]) -> Vec<Result<()>> {
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

    /// One packet. The kernel takes its requests one after the other and answers each that it refuses; only the last one
    /// asks to be answered in any case. What has no answer of its own by then was carried out.
    fn exchange(&mut self, requests: &[Request], results: &mut [Result<()>]) {
        let first = self.sequence.wrapping_add(1);
        self.packet.clear();
        for (position, request) in requests.iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            let last = position + 1 == requests.len();
            request.put(&mut self.packet, self.sequence, last);
        }
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
    ) -> std::result::Result<(), Failure> {
        loop {
            let length = self.receive()?;
            for message in messages(&self.buffer[..length]) {
                let message = message?;
                let position = message.sequence.wrapping_sub(first) as usize;
                // an answer to something earlier that was given up
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

    /// Asks for one object.
    pub(crate) fn get<T>(
        &mut self,
        request: &Request,
        mut read: impl FnMut(u16, &[u8]) -> Read<T>,
    ) -> Result<T> {
        let mut found = None;
        self.retried(request, |exchange| {
            found = None;
            exchange.objects(request, &mut |kind, payload| {
                found = Some(read(kind, payload)?);
                Ok(true)
            })
        })?;
        found.ok_or_else(|| Failure::from(Malformed("no object".into())).of(request))
    }

    /// Asks for all objects; `read` gives None for those that are not wanted.
    pub(crate) fn dump<T>(
        &mut self,
        request: &Request,
        mut read: impl FnMut(u16, &[u8]) -> Read<Option<T>>,
    ) -> Result<Vec<T>> {
        let mut found = Vec::new();
        self.retried(request, |exchange| {
            found.clear();
            exchange.objects(request, &mut |kind, payload| {
                found.extend(read(kind, payload)?);
                Ok(false)
            })
        })?;
        Ok(found)
    }

    /// Repeats what was truncated or interrupted.
    fn retried(
        &mut self,
        request: &Request,
        mut ask: impl FnMut(&mut Self) -> std::result::Result<(), Failure>,
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
                Failure::Truncated | Failure::Interrupted if attempt < DUMPS => {
                    if attempt > 2 {
                        thread::sleep(Duration::from_millis(u64::from(attempt)));
                    }
                }
                failure => return Err(failure.of(request)),
            }
        }
    }

    /// Sends one request without asking for an ACK and hands on what comes back, until `take` says that it was the last or
    /// the kernel does.
    fn objects(
        &mut self,
        request: &Request,
        take: &mut dyn FnMut(u16, &[u8]) -> Read<bool>,
    ) -> std::result::Result<(), Failure> {
        self.sequence = self.sequence.wrapping_add(1);
        self.packet.clear();
        request.put(&mut self.packet, self.sequence, false);
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

    fn send(&mut self) -> std::result::Result<(), Failure> {
        Ok(self.channel.send(&self.packet)?)
    }

    /// Receives one datagram into the buffer; its length.
    fn receive(&mut self) -> std::result::Result<usize, Failure> {
        let length = self.channel.receive(&mut self.buffer)?;
        if length <= self.buffer.len() {
            return Ok(length);
        }
        if length > LARGEST {
            return Err(Failure::System(Errno::EMSGSIZE));
        }
        self.buffer.resize(length.next_multiple_of(BUFFER), 0);
        Err(Failure::Truncated)
    }

    /// Throws away what is left of an exchange that failed, so that the next one starts clean. The kernel refuses a second
    /// dump while a first one is not read to its end.
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
    let count = requests.iter().take(PACKED).take_while(|request| {
        size += request.len();
        size <= PACKET
    });
    count.count().max(1)
}

#[cfg(test)]
mod tests;
