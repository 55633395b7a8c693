//! Routes (rtnetlink(7) RTM_NEWROUTE).
use crate::{Netlink, Request, Result};
use ipnetwork::IpNetwork;
use std::net::IpAddr;
/// A unicast (or blackhole) route with at most one next hop.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Route {
    /// destination; /0 is default
    pub dst: IpNetwork,
    /// next hop
    pub gateway: Option<IpAddr>,
    /// outgoing link
    pub oif: Option<u32>,
    /// RTNH_F_ONLINK
    pub onlink: bool,
    /// RT_TABLE_*, 254 main
    pub table: u32,
    /// RTPROT_*: 3 boot, 2 kernel
    pub protocol: u8,
    /// RT_SCOPE_*
    pub scope: u8,
    /// RTA_PRIORITY, 0 = none
    pub priority: u32,
    /// RTA_PREFSRC
    pub prefsrc: Option<IpAddr>,
    /// RTN_*: 1 unicast, 6 blackhole, 2 local
    pub kind: u8,
    /// RTAX_MTU, 0 = none
    pub mtu: u32,
    /// RTAX_ADVMSS, 0 = none
    pub advmss: u32,
}
impl Route {
    /// Unicast, main table, protocol boot, scope universe.
    pub fn new(dst: IpNetwork) -> Self {
        Self {
            dst,
            gateway: None,
            oif: None,
            onlink: false,
            table: 254,
            protocol: 3,
            scope: 0,
            priority: 0,
            prefsrc: None,
            kind: 1,
            mtu: 0,
            advmss: 0,
        }
    }
}
/// NLM_F_CREATE|EXCL
pub fn add(_route: &Route) -> Request {
    todo!()
}
/// NLM_F_CREATE|APPEND, as Go's bridge plugin adds its routes
pub fn append(_route: &Route) -> Request {
    todo!()
}
/// NLM_F_CREATE|REPLACE
pub fn replace(_route: &Route) -> Request {
    todo!()
}
/// RTM_DELROUTE
pub fn delete(_route: &Route) -> Request {
    todo!()
}
/// Limits a dump (done by the kernel under strict checking where it can, the rest here).
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter {
    /// table
    pub table: Option<u32>,
    /// outgoing link
    pub oif: Option<u32>,
    /// only IPv4 (Some(false)) or IPv6 (Some(true))
    pub ipv6: Option<bool>,
}
impl Netlink {
    /// Routes; multipath routes and other shapes are given with oif None and no gateway.
    pub fn routes(&mut self, _filter: Filter) -> Result<Vec<Route>> {
        todo!()
    }
    /// `ip route get IP`: the route, with prefsrc.
    pub fn route_to(&mut self, _ip: IpAddr) -> Result<Route> {
        todo!()
    }
}
