//! Change notifications: a socket in the rtnetlink multicast groups.

use crate::{
    Result, address, link, neighbour,
    netlink::{Multicast, NETLINK_ROUTE, Notification, Read},
    route,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// RTMGRP_LINK, _NEIGH, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE (linux/rtnetlink.h).
const GROUPS: u32 = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400;
/// Bytes of the receive buffer: some 10,000 notifications.
const BACKLOG: usize = 8 * 1024 * 1024;
/// One call returns at most about this many events, so that a burst of changes cannot occupy its caller without end.
const EVENTS_PER_CALL: usize = 10_000;

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

/// The socket. It never blocks, and implements `AsFd` so that a loop can poll it.
#[derive(Debug)]
pub struct Monitor {
    socket: Multicast,
}

impl Monitor {
    /// Links, IPv4/IPv6 addresses, routes, neighbours (incl. FDB) of the calling thread's namespace.
    pub fn open() -> Result<Self> {
        let socket = Multicast::open(NETLINK_ROUTE, GROUPS, BACKLOG)?;
        Ok(Self { socket })
    }

    /// The events that are waiting, without blocking; empty if there are none.
    pub fn events(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        while events.len() < EVENTS_PER_CALL
            && self.socket.receive(|notification| {
                events.extend(match notification {
                    Notification::Message(kind, payload) => {
                        // an unreadable notification counts as lost
                        event(kind, payload).unwrap_or(Some(Event::Overrun))
                    }
                    Notification::Lost => Some(Event::Overrun),
                });
            })?
        {}
        Ok(events)
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
