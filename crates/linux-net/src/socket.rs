//! One synchronous NETLINK_ROUTE socket: strict checking, extended ACKs, sequence checks, batches, dumps that are repeated
//! when the kernel says they were interrupted.
use crate::{NetNs, Result};
use netlink_packet_route::RouteNetlinkMessage;

/// A request that is ready to be sent: built by `link::`, `address::`, `route::`, `neighbour::`, `fdb::`.
#[derive(Debug, Clone)]
pub struct Request {
    pub(crate) message: RouteNetlinkMessage,
    /// NLM_F_* besides REQUEST and ACK
    pub(crate) flags: u16,
    /// for errors: "add route 10.1.0.0/16 via 10.1.0.1 dev flannel.1"
    pub(crate) what: String,
}
impl Request {
    /// What it does, for logs.
    pub fn what(&self) -> &str {
        &self.what
    }
}

/// The socket. It stays in the namespace it was opened in, whatever its thread does later.
#[derive(Debug)]
pub struct Netlink {
    _socket: netlink_sys::Socket,
    _sequence: u32,
}
impl Netlink {
    /// In the calling thread's namespace.
    pub fn open() -> Result<Self> {
        todo!()
    }
    /// In another namespace.
    pub fn open_in(_ns: &NetNs) -> Result<Self> {
        todo!()
    }
    /// Sends one request and waits for its ACK.
    pub fn request(&mut self, _request: &Request) -> Result<()> {
        todo!()
    }
    /// Sends all in as few packets as the buffers allow; an answer for each, in order. One refused request does not stop the others.
    pub fn batch(&mut self, _requests: &[Request]) -> Vec<Result<()>> {
        todo!()
    }
}
