//! IPsec in the kernel (NETLINK_XFRM, linux/xfrm.h): policies, which say what packets have to be
//! encrypted, and security associations, which say how. Keys are never read.
//!
//! Requests are written with the messages of netlink-packet-xfrm, and the fixed structures of
//! answers are read with them. Their attributes are read one by one: a security association's hold
//! its keys.

mod association;
mod monitor;
mod policy;

pub use association::SecurityAssociation;
pub use monitor::{Event, Monitor};
pub use policy::{Direction, Policy, Template, add, delete, update};

pub(crate) use monitor::event;

use crate::{
    NetNs, Request, Result,
    netlink::{Client, Malformed, Mode, NETLINK_XFRM, Read},
};
use ipnetwork::IpNetwork;
use netlink_packet_xfrm::{
    Address,
    constants::{
        AF_INET, AF_INET6, XFRM_MSG_GETPOLICY, XFRM_MSG_GETSA, XFRM_MSG_NEWPOLICY, XFRM_MSG_NEWSA,
    },
    state::GetDumpMessage,
};
use std::net::IpAddr;

/// The NETLINK_XFRM socket. It stays in the namespace that it was opened in when its thread enters
/// another.
#[derive(Debug)]
pub struct Xfrm {
    client: Client,
}

impl Xfrm {
    /// Opens it in the calling thread's namespace. EPROTONOSUPPORT: the kernel has no IPsec.
    pub fn open() -> Result<Self> {
        Client::open(NETLINK_XFRM).map(|client| Self { client })
    }

    /// Opens it in another namespace.
    pub fn open_in(ns: &NetNs) -> Result<Self> {
        Client::open_in(NETLINK_XFRM, ns).map(|client| Self { client })
    }

    /// Sends one request and waits for its ACK.
    pub fn request(&mut self, request: &Request) -> Result<()> {
        self.client.request(request)
    }

    /// Sends all in as few packets as the buffers allow. Returns an answer for each, in order; a
    /// refused request does not stop the others.
    pub fn batch(&mut self, requests: &[Request]) -> Vec<Result<()>> {
        self.client.batch(requests)
    }

    /// Every policy of the namespace but those of sockets.
    pub fn policies(&mut self) -> Result<Vec<Policy>> {
        let all = GetDumpMessage { nlas: Vec::new() };
        let request = Request::new(
            XFRM_MSG_GETPOLICY,
            Mode::Dump,
            &all,
            "list policies of IPsec",
        );
        self.client.dump(&request, |kind, payload| {
            if kind != XFRM_MSG_NEWPOLICY {
                return Ok(None);
            }
            policy::read(payload)
        })
    }

    /// The policy with the selector and direction of another. ENOENT if there is none.
    pub fn policy(&mut self, like: &Policy) -> Result<Policy> {
        let found = self.client.get(&policy::get(like), |_, payload| {
            policy::read(payload)?.ok_or_else(|| Malformed("a policy of no address family".into()))
        })?;
        Ok(found)
    }

    /// Every security association of the namespace.
    pub fn associations(&mut self) -> Result<Vec<SecurityAssociation>> {
        let all = GetDumpMessage { nlas: Vec::new() };
        let what = "list security associations of IPsec";
        let request = Request::new(XFRM_MSG_GETSA, Mode::Dump, &all, what);
        self.client.dump(&request, |kind, payload| {
            if kind != XFRM_MSG_NEWSA {
                return Ok(None);
            }
            association::read(payload)
        })
    }
}

/// The `family` of an address (AF_INET, AF_INET6).
fn family(ip: IpAddr) -> u16 {
    match ip {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

/// An address of a family. None for AF_UNSPEC and families that IPsec does not have.
fn ip(address: &Address, family: u16) -> Option<IpAddr> {
    match family {
        AF_INET => Some(address.to_ipv4().into()),
        AF_INET6 => Some(address.to_ipv6().into()),
        _ => None,
    }
}

/// A prefix of a family. None as for [`ip`].
fn net(address: &Address, prefix: u8, family: u16) -> Read<Option<IpNetwork>> {
    let Some(ip) = ip(address, family) else {
        return Ok(None);
    };
    let net = IpNetwork::new(ip, prefix);
    net.map(Some)
        .map_err(|error| Malformed(format!("selector {ip}/{prefix}: {error}")))
}
