//! Links: bridge, veth, vxlan and what every link has (rtnetlink(7) RTM_NEWLINK, linux/if_link.h).
use crate::{Mac, NetNs, Netlink, Request, Result};
use std::net::IpAddr;

/// A link as the kernel shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// ifindex
    pub index: u32,
    /// name
    pub name: String,
    /// bytes
    pub mtu: u32,
    /// None for links without a 6-byte address
    pub mac: Option<Mac>,
    /// IFF_UP
    pub up: bool,
    /// operstate is UP (IF_OPER_UP)
    pub oper_up: bool,
    /// IFF_LOOPBACK
    pub loopback: bool,
    /// promiscuity asked for by a user (IFF_PROMISC)
    pub promisc: bool,
    /// IFLA_MASTER
    pub master: Option<u32>,
    /// IFLA_LINK: a veth's peer (in `peer_netnsid`'s namespace), a vxlan's lower device
    pub lower: Option<u32>,
    /// IFLA_LINK_NETNSID
    pub peer_netnsid: Option<i32>,
    /// IFLA_TXQLEN
    pub txqlen: u32,
    /// IFLA_IFALIAS
    pub alias: Option<String>,
    /// IFLA_INFO_KIND and data
    pub kind: Kind,
    /// bridge port settings, where it is a port of a bridge
    pub port: Option<BridgePort>,
}
/// What kind of device it is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// no IFLA_LINKINFO
    None,
    /// bridge
    Bridge {
        /// vlan_filtering
        vlan_filtering: bool,
    },
    /// veth
    Veth,
    /// vxlan
    Vxlan(Vxlan),
    /// any other, by name ("ipip", "tun", "ifb")
    Other(String),
}
/// vxlan attributes (linux/if_link.h IFLA_VXLAN_*).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vxlan {
    /// VNI
    pub vni: u32,
    /// IFLA_VXLAN_LINK
    pub lower: Option<u32>,
    /// local address of the family in use
    pub local: Option<IpAddr>,
    /// remote or group
    pub group: Option<IpAddr>,
    /// UDP port; None = kernel default 8472 at creation
    pub port: Option<u16>,
    /// learning
    pub learning: bool,
    /// GBP
    pub gbp: bool,
    /// l2miss
    pub l2miss: bool,
    /// l3miss
    pub l3miss: bool,
}
/// Settings of a bridge port (IFLA_BRPORT_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BridgePort {
    /// hairpin
    pub hairpin: bool,
    /// isolated
    pub isolated: bool,
}
/// A veth's end inside the container.
#[derive(Debug, Clone, Default)]
pub struct VethPeer {
    /// name there
    pub name: String,
    /// MAC there
    pub mac: Option<Mac>,
}
/// What to change on a link; None leaves it.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// IFF_UP
    pub up: Option<bool>,
    /// IFF_PROMISC
    pub promisc: Option<bool>,
    /// IFF_ALLMULTI
    pub allmulti: Option<bool>,
    /// bytes
    pub mtu: Option<u32>,
    /// MAC
    pub mac: Option<Mac>,
    /// ifindex of the bridge; 0 takes it out
    pub master: Option<u32>,
    /// IFLA_TXQLEN
    pub txqlen: Option<u32>,
    /// new name
    pub name: Option<String>,
}

/// A bridge; `mtu` None = kernel default.
pub fn create_bridge(
    _name: &str,
    _mtu: Option<u32>,
    _vlan_filtering: bool,
    _mac: Option<Mac>,
) -> Request {
    todo!()
}
/// One request: the pair, the host end in the socket's namespace (up, enslaved if `master`), the other made straight in `container`.
pub fn create_veth(
    _host_name: &str,
    _mtu: Option<u32>,
    _master: Option<u32>,
    _peer: &VethPeer,
    _container: &NetNs,
) -> Request {
    todo!()
}
/// A veth pair within one namespace.
pub fn create_veth_here(_name: &str, _peer_name: &str, _mtu: Option<u32>) -> Request {
    todo!()
}
/// A vxlan device, attributes as upstream sends them (TTL 0, UDP_CSUM not sent, IFLA_TXQLEN 0).
pub fn create_vxlan(_name: &str, _vxlan: &Vxlan, _mtu: Option<u32>, _mac: Option<Mac>) -> Request {
    todo!()
}
/// An ifb device.
pub fn create_ifb(_name: &str, _mtu: Option<u32>) -> Request {
    todo!()
}
/// Changes a link.
pub fn change(_index: u32, _change: &Change) -> Request {
    todo!()
}
/// Sets bridge port settings.
pub fn set_bridge_port(_index: u32, _port: BridgePort) -> Request {
    todo!()
}
/// Deletes a link by index.
pub fn delete(_index: u32) -> Request {
    todo!()
}
/// Deletes a link by name, without a look-up.
pub fn delete_by_name(_name: &str) -> Request {
    todo!()
}

impl Netlink {
    /// None if there is no such link.
    pub fn link_by_name(&mut self, _name: &str) -> Result<Option<Link>> {
        todo!()
    }
    /// None if there is no such link.
    pub fn link_by_index(&mut self, _index: u32) -> Result<Option<Link>> {
        todo!()
    }
    /// All links.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        todo!()
    }
}
