//! Forwarding entries of a vxlan device (AF_BRIDGE, NTF_SELF) and of a bridge.
use crate::{Mac, Netlink, Request, Result};
use std::net::IpAddr;
/// An entry with `self`: MAC behind VTEP.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FdbEntry {
    /// ifindex of the vxlan device
    pub index: u32,
    /// MAC
    pub mac: Mac,
    /// remote VTEP
    pub dst: Option<IpAddr>,
    /// NUD_* bits, 0x80 permanent
    pub state: u16,
}
impl FdbEntry {
    /// permanent, self
    pub fn permanent(index: u32, mac: Mac, dst: IpAddr) -> Self {
        Self {
            index,
            mac,
            dst: Some(dst),
            state: 0x80,
        }
    }
}
/// NLM_F_CREATE|REPLACE
pub fn replace(_e: &FdbEntry) -> Request {
    todo!()
}
/// RTM_DELNEIGH
pub fn delete(_e: &FdbEntry) -> Request {
    todo!()
}
impl Netlink {
    /// Entries with NTF_SELF of one device.
    pub fn fdb(&mut self, _index: u32) -> Result<Vec<FdbEntry>> {
        todo!()
    }
}
