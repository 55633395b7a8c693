//! Addresses (rtnetlink(7) RTM_NEWADDR).
use crate::{Netlink, Request, Result};
use ipnetwork::IpNetwork;
/// An address on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// ifindex
    pub index: u32,
    /// with host bits
    pub net: IpNetwork,
    /// RT_SCOPE_*: 0 universe, 253 link, 254 host
    pub scope: u8,
    /// IFA_F_* (permanent 0x80, tentative 0x40, dadfailed 0x08, deprecated 0x20, temporary 0x01, nodad 0x02)
    pub flags: u32,
    /// label (IPv4)
    pub label: Option<String>,
}
impl Address {
    /// IFA_F_TENTATIVE
    pub fn tentative(&self) -> bool {
        self.flags & 0x40 != 0
    }
    /// IFA_F_DADFAILED
    pub fn dad_failed(&self) -> bool {
        self.flags & 0x08 != 0
    }
}
/// Adds an address (EEXIST if it is there). IPv4 gets its broadcast as `ip addr add` without brd: none. `nodad` sets IFA_F_NODAD.
pub fn add(_index: u32, _net: IpNetwork, _nodad: bool) -> Request {
    todo!()
}
/// Deletes an address.
pub fn delete(_index: u32, _net: IpNetwork) -> Request {
    todo!()
}
impl Netlink {
    /// All addresses, or those of one link.
    pub fn addresses(&mut self, _index: Option<u32>) -> Result<Vec<Address>> {
        todo!()
    }
}
