//! Change notifications: a socket in the rtnetlink multicast groups.
use crate::Result;
/// What changed; enough to know whether it touches what is ours.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// link made or changed
    Link(crate::link::Link),
    /// link gone
    LinkGone {
        /// ifindex
        index: u32,
        /// name
        name: String,
    },
    /// address (true: added)
    Address(crate::address::Address, bool),
    /// route (true: added)
    Route(crate::route::Route, bool),
    /// neighbour (true: added)
    Neighbour(crate::neighbour::Neighbour, bool),
    /// fdb (true: added)
    Fdb(crate::fdb::FdbEntry, bool),
    /// the kernel dropped notifications (ENOBUFS): look at everything again
    Overrun,
}
/// The socket; non-blocking. Implements AsFd so that a loop can poll it.
#[derive(Debug)]
pub struct Monitor {
    _socket: netlink_sys::Socket,
}
impl Monitor {
    /// Links, IPv4/IPv6 addresses, routes, neighbours (incl. FDB) of the calling thread's namespace.
    pub fn open() -> Result<Self> {
        todo!()
    }
    /// All that is waiting, without blocking; empty if nothing.
    pub fn events(&mut self) -> Result<Vec<Event>> {
        todo!()
    }
}
impl std::os::fd::AsFd for Monitor {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        todo!()
    }
}
impl std::os::fd::AsRawFd for Monitor {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        todo!()
    }
}
