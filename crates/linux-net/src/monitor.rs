//! Change notifications of rtnetlink.

use crate::{
    Result, address, link, neighbour,
    netlink::{Multicast, NETLINK_ROUTE, Read},
    route,
};
use nix::libc::{
    self, NLM_F_APPEND, NLM_F_REPLACE, RTM_DELADDR, RTM_DELLINK, RTM_DELNEIGH, RTM_DELROUTE,
    RTM_NEWADDR, RTM_NEWLINK, RTM_NEWNEIGH, RTM_NEWROUTE, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE,
    RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE, RTMGRP_LINK, RTMGRP_NEIGH,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

const GROUPS: u32 = (RTMGRP_LINK
    | RTMGRP_NEIGH
    | RTMGRP_IPV4_IFADDR
    | RTMGRP_IPV4_ROUTE
    | RTMGRP_IPV6_IFADDR
    | RTMGRP_IPV6_ROUTE) as u32;
/// Bytes of the receive buffer: some 10,000 notifications.
const BACKLOG: usize = 8 * 1024 * 1024;

/// A change; the object is as it is now, or as it was when it was deleted.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// a link was added or changed
    Link(link::Link),
    /// a link was deleted
    LinkGone {
        /// ifindex
        index: u32,
        /// its last name
        name: String,
    },
    /// an address was added (true) or deleted
    Address(address::Address, bool),
    /// a route was added or deleted
    Route(route::Route, RouteChange),
    /// a neighbour was added or changed (true) or deleted
    Neighbour(neighbour::Neighbour, bool),
    /// a forwarding entry was added or changed (true) or deleted
    Fdb(crate::fdb::FdbEntry, bool),
    /// notifications were lost (ENOBUFS, or one is unreadable): anything may have changed
    Overrun,
}

/// What became of a route, among those with the same destination, type of service and metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteChange {
    /// It was added, in front of any others.
    Added,
    /// It was added behind others, or is one more next hop (IPv6).
    Appended,
    /// It took the place of the first one, about which there is no notification.
    Replaced,
    /// It was deleted.
    Deleted,
}

impl RouteChange {
    /// The route is there.
    pub fn is_addition(self) -> bool {
        self != RouteChange::Deleted
    }

    fn of(kind: u16, flags: u16) -> RouteChange {
        let has = |flag: libc::c_int| i32::from(flags) & flag != 0;
        match kind {
            RTM_DELROUTE => RouteChange::Deleted,
            _ if has(NLM_F_REPLACE) => RouteChange::Replaced,
            _ if has(NLM_F_APPEND) => RouteChange::Appended,
            _ => RouteChange::Added,
        }
    }
}

/// The socket. It never blocks, and implements `AsFd` so that a loop can poll it.
#[derive(Debug)]
pub struct Monitor {
    socket: Multicast,
}

impl Monitor {
    /// Subscribes to links, addresses, routes, neighbours and forwarding entries of the calling
    /// thread's namespace.
    pub fn open() -> Result<Self> {
        let socket = Multicast::open(NETLINK_ROUTE, GROUPS, BACKLOG)?;
        Ok(Self { socket })
    }

    /// The events that are waiting, without blocking; empty if there are none.
    pub fn events(&mut self) -> Result<Vec<Event>> {
        self.socket.events(&Event::Overrun, event)
    }
}

fn event(kind: u16, flags: u16, payload: &[u8]) -> Read<Option<Event>> {
    Ok(match kind {
        RTM_NEWLINK | RTM_DELLINK if link::is_about_port(payload) => None,
        RTM_NEWLINK => Some(Event::Link(link::read(payload)?)),
        RTM_DELLINK => {
            let link::Link { index, name, .. } = link::read(payload)?;
            Some(Event::LinkGone { index, name })
        }
        RTM_NEWADDR | RTM_DELADDR => {
            address::read(payload)?.map(|address| Event::Address(address, kind == RTM_NEWADDR))
        }
        RTM_NEWROUTE | RTM_DELROUTE if route::is_cached(payload) => None,
        RTM_NEWROUTE | RTM_DELROUTE => {
            let change = RouteChange::of(kind, flags);
            route::read(payload)?.map(|route| Event::Route(route, change))
        }
        RTM_NEWNEIGH | RTM_DELNEIGH => {
            let entry = neighbour::Entry::read(payload)?;
            let added = kind == RTM_NEWNEIGH;
            let fdb = entry.notified_fdb().map(|entry| Event::Fdb(entry, added));
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
