//! What a worker waits for. epoll(7) keeps its list between two calls; poll(2) makes it anew each
//! time, which is a fifth of what a lone packet costs.

use crate::worker::Parts;
use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};
use std::{
    os::{fd::AsFd, unix::net::UnixStream},
    time::Instant,
};

const STOP: u64 = 0;
const QUEUE: u64 = 1;
const V4: u64 = 2;
const V6: u64 = 3;
const ALL: usize = 4;

/// The descriptors of a worker.
#[derive(Debug)]
pub(crate) struct Watch(Epoll);

/// What the kernel has for the worker.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ready {
    pub(crate) stop: bool,
    pub(crate) queue: bool,
    pub(crate) v4: bool,
    pub(crate) v6: bool,
}

impl Watch {
    /// Watches these descriptors, as long as it exists.
    pub(crate) fn new(stop: &UnixStream, parts: &Parts) -> nix::Result<Watch> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let event = |of| EpollEvent::new(EpollFlags::EPOLLIN, of);
        epoll.add(stop.as_fd(), event(STOP))?;
        epoll.add(parts.queue.as_fd(), event(QUEUE))?;
        for (socket, of) in [(&parts.v4, V4), (&parts.v6, V6)] {
            if let Some(socket) = socket {
                epoll.add(socket.as_fd(), event(of))?;
            }
        }
        Ok(Watch(epoll))
    }

    /// Waits for one of them, or until that time. An error of a descriptor counts as well: whoever
    /// reads it finds it.
    pub(crate) fn wait(&self, timer: Option<Instant>) -> nix::Result<Ready> {
        let timeout = timer.map_or(EpollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(Instant::now()).as_millis();
            // a millisecond later rather than a round without anything to do
            EpollTimeout::from(u16::try_from(left.saturating_add(1)).unwrap_or(u16::MAX))
        });
        let mut events = [EpollEvent::empty(); ALL];
        let count = match self.0.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error),
        };
        let has = |of| events[..count].iter().any(|event| event.data() == of);
        Ok(Ready {
            stop: has(STOP),
            queue: has(QUEUE),
            v4: has(V4),
            v6: has(V6),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Queue, UdpSocket};
    use linux_net::tun::Offload;
    use nix::sys::socket::{SockaddrIn, getsockname};
    use std::{io::Write, net::Ipv4Addr, os::fd::AsRawFd, time::Duration};

    #[test]
    fn says_which_descriptors_have_something() {
        let (stop, stopped) = UnixStream::pair().expect("a pair");
        let (mut device, queue) = UnixStream::pair().expect("a pair");
        let none = Offload {
            tcp: false,
            udp: false,
        };
        let socket = UdpSocket::bind(false, 0, true).expect("a socket");
        let address: SockaddrIn = getsockname(socket.as_fd().as_raw_fd()).expect("its address");
        let parts = Parts {
            queue: Queue::from_descriptor(queue.into(), none),
            v4: Some(socket),
            v6: None,
        };
        let watch = Watch::new(&stopped, &parts).expect("watch");
        let ready = || {
            let soon = Instant::now() + Duration::from_millis(1);
            let ready = watch.wait(Some(soon)).expect("wait");
            [ready.stop, ready.queue, ready.v4, ready.v6]
        };
        assert_eq!(ready(), [false; 4]);
        device.write_all(&[0]).expect("a packet");
        assert_eq!(ready(), [false, true, false, false]);
        let sender = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a sender");
        let to = (Ipv4Addr::LOCALHOST, address.port());
        sender.send_to(&[0], to).expect("a datagram");
        assert_eq!(ready(), [false, true, true, false]);
        drop(stop);
        assert_eq!(ready(), [true, true, true, false]);
    }
}
