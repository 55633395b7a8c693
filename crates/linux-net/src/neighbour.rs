//! Neighbours: ARP and NDP entries (rtnetlink(7) RTM_NEWNEIGH).
use crate::{Mac, Netlink, Request, Result};
use std::net::IpAddr;
/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Neighbour {
    /// ifindex
    pub index: u32,
    /// address
    pub ip: IpAddr,
    /// MAC; None while unresolved
    pub mac: Option<Mac>,
    /// NUD_* bits, 0x80 permanent
    pub state: u16,
}
impl Neighbour {
    /// NUD_PERMANENT
    pub fn permanent(index: u32, ip: IpAddr, mac: Mac) -> Self {
        Self {
            index,
            ip,
            mac: Some(mac),
            state: 0x80,
        }
    }
}
/// NLM_F_CREATE|REPLACE
pub fn replace(_n: &Neighbour) -> Request {
    todo!()
}
/// RTM_DELNEIGH
pub fn delete(_n: &Neighbour) -> Request {
    todo!()
}
impl Netlink {
    /// Both families, or of one link.
    pub fn neighbours(&mut self, _index: Option<u32>) -> Result<Vec<Neighbour>> {
        todo!()
    }
}
