//! Change notifications: a socket in the rtnetlink multicast groups.

use crate::{
    Error, Result, address,
    answer::{Answer, messages},
    attributes::Read,
    link, neighbour, route,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::{errno::Errno, libc, sys::socket::setsockopt, sys::socket::sockopt};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// RTMGRP_LINK, _NEIGH, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE.
const GROUPS: u32 = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400;
/// The receive buffer that is asked for: some 10,000 notifications.
const WAITING: usize = 8 * 1024 * 1024;
/// The largest notification is a link's, far below this.
const BUFFER: usize = 64 * 1024;
/// One call hands over at most about this many events, so that a storm of changes cannot hold its caller for ever.
const AT_ONCE: usize = 10_000;

/// What changed; enough to know whether it touches what is ours.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// link made or changed
    Link(link::Link),
    /// link gone
    LinkGone {
        /// ifindex
        index: u32,
        /// name
        name: String,
    },
    /// address (true: added)
    Address(address::Address, bool),
    /// route (true: added)
    Route(route::Route, bool),
    /// neighbour (true: added)
    Neighbour(neighbour::Neighbour, bool),
    /// fdb (true: added)
    Fdb(crate::fdb::FdbEntry, bool),
    /// the kernel dropped notifications (ENOBUFS), or one could not be read: look at everything again
    Overrun,
}

/// The socket; non-blocking. Implements AsFd so that a loop can poll it.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Links, IPv4/IPv6 addresses, routes, neighbours (incl. FDB) of the calling thread's namespace.
    pub fn open() -> Result<Self> {
        let failed = |error| Error::io("open netlink socket for notifications", error);
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
        // beyond net.core.rmem_max needs CAP_NET_ADMIN on the machine; without it as much as the limit allows is enough
        setsockopt(&socket, sockopt::RcvBufForce, &WAITING)
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &WAITING))
            .map_err(|errno| failed(errno.into()))?;
        socket.set_non_blocking(true).map_err(failed)?;
        socket.bind(&SocketAddr::new(0, GROUPS)).map_err(failed)?;
        Ok(Self {
            socket,
            buffer: vec![0; BUFFER],
        })
    }

    /// All that is waiting, without blocking; empty if nothing.
    pub fn events(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        while events.len() < AT_ONCE {
            let mut space = self.buffer.as_mut_slice();
            match self.socket.recv_from(&mut space, libc::MSG_TRUNC) {
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok((length, _)) => match self.buffer.get(..length) {
                    Some(bytes) => read(bytes, &mut events),
                    None => events.push(Event::Overrun),
                },
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => break,
                    Some(Errno::EINTR) => {}
                    Some(Errno::ENOBUFS) => events.push(Event::Overrun),
                    _ => return Err(Error::io("receive notifications", error)),
                },
            }
        }
        Ok(events)
    }
}

/// The events of one datagram. What cannot be read counts as lost.
fn read(bytes: &[u8], events: &mut Vec<Event>) {
    for message in messages(bytes) {
        match message.and_then(|message| message.answer()) {
            Ok(Answer::Object(kind, payload)) => match event(kind, payload) {
                Ok(event) => events.extend(event),
                Err(_) => events.push(Event::Overrun),
            },
            Ok(Answer::Done | Answer::Nothing | Answer::Refused(..)) => {}
            Err(_) => events.push(Event::Overrun),
        }
    }
}

fn event(kind: u16, payload: &[u8]) -> Read<Option<Event>> {
    Ok(match kind {
        link::RTM_NEWLINK | link::RTM_DELLINK if link::is_about_port(payload) => None,
        link::RTM_NEWLINK => Some(Event::Link(link::read(payload)?)),
        link::RTM_DELLINK => {
            let link::Link { index, name, .. } = link::read(payload)?;
            Some(Event::LinkGone { index, name })
        }
        address::RTM_NEWADDR | address::RTM_DELADDR => address::read(payload)?
            .map(|address| Event::Address(address, kind == address::RTM_NEWADDR)),
        route::RTM_NEWROUTE | route::RTM_DELROUTE if route::is_cached(payload) => None,
        route::RTM_NEWROUTE | route::RTM_DELROUTE => {
            route::read(payload)?.map(|route| Event::Route(route, kind == route::RTM_NEWROUTE))
        }
        neighbour::RTM_NEWNEIGH | neighbour::RTM_DELNEIGH => {
            let entry = neighbour::Entry::read(payload)?;
            let added = kind == neighbour::RTM_NEWNEIGH;
            let fdb = entry.fdb().map(|entry| Event::Fdb(entry, added));
            fdb.or_else(|| {
                let neighbour = entry.neighbour()?;
                Some(Event::Neighbour(neighbour, added))
            })
        }
        _ => None,
    })
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
