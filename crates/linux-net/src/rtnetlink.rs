//! The NETLINK_ROUTE socket. The module of each kind of object adds its look-ups.

use crate::{
    NetNs, Request, Result, namespace,
    netlink::{Client, NETLINK_ROUTE},
};

/// The socket. It stays in the namespace that it was opened in when its thread enters another.
#[derive(Debug)]
pub struct Netlink {
    pub(crate) client: Client,
}

impl Netlink {
    /// Opens it in the calling thread's namespace.
    pub fn open() -> Result<Self> {
        Client::open(NETLINK_ROUTE).map(|client| Self { client })
    }

    /// Opens it in another namespace.
    pub fn open_in(ns: &NetNs) -> Result<Self> {
        Client::open_in(NETLINK_ROUTE, ns).map(|client| Self { client })
    }

    /// The [cookie](NetNs::cookie) of its namespace. None: the kernel has no such numbers.
    pub fn netns_cookie(&self) -> Option<u64> {
        namespace::cookie_of(self.client.socket()).ok()
    }

    /// Sends one request and waits for its ACK.
    pub fn request(&mut self, request: &Request) -> Result<()> {
        self.client.request(request)
    }

    /// Sends all in as few packets as the buffers allow. Returns an answer for each, in order; a
    /// refused request does not stop the others. Where answers are lost (ENOBUFS, or no errno at
    /// all) the kernel may have carried the request out.
    pub fn batch(&mut self, requests: &[Request]) -> Vec<Result<()>> {
        self.client.batch(requests)
    }
}
