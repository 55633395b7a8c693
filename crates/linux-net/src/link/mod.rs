//! Links of any kind; bridges, veth pairs, vxlan and ifb devices (rtnetlink(7) RTM_NEWLINK,
//! linux/if_link.h).

mod create;
mod ip_tunnel;
mod message;

use crate::{Error, Mac, Netlink, Request, Result, netlink::Mode};
use netlink_packet_route::link::{
    InfoBridgePort, InfoPortData, InfoPortKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
    LinkMessage,
};
use nix::libc::{IFNAMSIZ, RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK, RTM_SETLINK};
use std::net::IpAddr;

pub use create::{
    create_bridge, create_ifb, create_veth, create_veth_here, create_vxlan, create_wireguard,
};
pub use ip_tunnel::{IpTunnel, Outer, create_ip_tunnel};
pub(crate) use message::{is_about_port, read};

/// IFALIASZ (linux/if.h): bytes of an alias at most, its NUL included.
const ALIAS_SIZE: usize = 256;
/// IFLA_BRPORT_MODE (linux/if_link.h): hairpin.
const BRPORT_MODE: u16 = 4;
/// IFLA_BRPORT_ISOLATED (linux/if_link.h).
const BRPORT_ISOLATED: u16 = 33;

/// A link.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// ifindex
    pub index: u32,
    /// IFLA_IFNAME
    pub name: String,
    /// bytes
    pub mtu: u32,
    /// IFLA_ADDRESS; None if it has not 6 bytes
    pub mac: Option<Mac>,
    /// IFF_UP
    pub up: bool,
    /// IFF_LOWER_UP: it is up and has a carrier
    pub carrier: bool,
    /// operstate is UP (IF_OPER_UP)
    pub oper_up: bool,
    /// IFF_LOOPBACK
    pub loopback: bool,
    /// IFF_PROMISC: promiscuous mode that a user asked for
    pub promisc: bool,
    /// IFF_ALLMULTI
    pub allmulti: bool,
    /// IFLA_MASTER: ifindex of its bridge
    pub master: Option<u32>,
    /// IFLA_LINK: a veth's peer (in `peer_netnsid`'s namespace), a vxlan's lower device
    pub lower: Option<u32>,
    /// IFLA_LINK_NETNSID
    pub peer_netnsid: Option<i32>,
    /// IFLA_TXQLEN: packets
    pub txqlen: u32,
    /// IFLA_IFALIAS
    pub alias: Option<String>,
    /// IFLA_INFO_KIND and data
    pub kind: Kind,
    /// its settings as a port of a bridge, if it is one
    pub port: Option<BridgePort>,
}

/// IFLA_INFO_KIND, with the attributes that are read.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// no kind: a physical device, or `lo`
    None,
    /// "bridge"
    Bridge {
        /// IFLA_BR_VLAN_FILTERING
        vlan_filtering: bool,
    },
    /// "veth"
    Veth,
    /// "vxlan"
    Vxlan(Vxlan),
    /// "ipip" or "ip6tnl"
    IpTunnel(IpTunnel),
    /// any other: "sit", "tun", "ifb"
    Other(String),
}

/// Attributes of a vxlan device (IFLA_VXLAN_*).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Vxlan {
    /// IFLA_VXLAN_ID
    pub vni: u32,
    /// IFLA_VXLAN_LINK: ifindex of the lower device
    pub lower: Option<u32>,
    /// IFLA_VXLAN_LOCAL or _LOCAL6
    pub local: Option<IpAddr>,
    /// IFLA_VXLAN_GROUP or _GROUP6: the default destination
    pub group: Option<IpAddr>,
    /// IFLA_VXLAN_PORT; None at creation: 8472, the kernel's default
    pub port: Option<u16>,
    /// IFLA_VXLAN_LEARNING
    pub learning: bool,
    /// IFLA_VXLAN_GBP: group policy extension
    pub gbp: bool,
    /// IFLA_VXLAN_L2MISS: notifications of unknown MACs
    pub l2miss: bool,
    /// IFLA_VXLAN_L3MISS: notifications of unknown addresses
    pub l3miss: bool,
}

/// Settings of a bridge port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BridgePort {
    /// IFLA_BRPORT_MODE: frames may leave by the port that they came in
    pub hairpin: bool,
    /// IFLA_BRPORT_ISOLATED: no frames between isolated ports
    pub isolated: bool,
}

/// One end of a veth pair.
#[derive(Debug, Clone, Default)]
pub struct VethPeer {
    /// IFLA_IFNAME
    pub name: String,
    /// IFLA_ADDRESS; None: the kernel's choice, which udev may change later
    pub mac: Option<Mac>,
}

impl VethPeer {
    /// An end with a MAC that the kernel chooses.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            mac: None,
        }
    }
}

/// Changes of a link; None leaves a property as it is.
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
    /// IFLA_ADDRESS
    pub mac: Option<Mac>,
    /// IFLA_MASTER: ifindex of a bridge; 0 removes the link from its bridge
    pub master: Option<u32>,
    /// IFLA_TXQLEN
    pub txqlen: Option<u32>,
    /// IFLA_IFNAME: the new name; kernels before 6.2 refuse it unless the link is down (EBUSY)
    pub name: Option<String>,
    /// IFLA_IFALIAS, at most 255 bytes
    pub alias: Option<String>,
}

/// Changes a link.
pub fn change(index: u32, change: &Change) -> Request {
    let mut message = change.message();
    message.header.index = index;
    let what = format!("change link {index}: {}", change.summary());
    Request::new(RTM_SETLINK, Mode::Existing, &message, what)
}

/// Changes a link by name, so that the request can follow the one that creates the link in one
/// batch.
pub fn change_by_name(name: &str, change: &Change) -> Request {
    let mut message = Change {
        name: None,
        ..change.clone()
    }
    .message();
    message.attributes.push(name_attribute(name));
    let what = format!("change link {name}: {}", change.summary());
    Request::new(RTM_SETLINK, Mode::Existing, &message, what)
}

impl Change {
    /// The message without the link that it is about.
    fn message(&self) -> LinkMessage {
        let mut message = LinkMessage::default();
        let flags = [
            (self.up, LinkFlags::Up),
            (self.promisc, LinkFlags::Promisc),
            (self.allmulti, LinkFlags::Allmulti),
        ];
        for (wanted, flag) in flags {
            if let Some(wanted) = wanted {
                message.header.change_mask |= flag;
                message.header.flags.set(flag, wanted);
            }
        }
        message.attributes.extend(
            [
                self.name.as_deref().map(name_attribute),
                self.mtu.map(LinkAttribute::Mtu),
                self.mac.map(mac_attribute),
                self.master.map(LinkAttribute::Controller),
                self.txqlen.map(LinkAttribute::TxQueueLen),
                self.alias.clone().map(LinkAttribute::IfAlias),
            ]
            .into_iter()
            .flatten(),
        );
        message
    }

    /// For error texts: "up, mtu 1450".
    fn summary(&self) -> String {
        let switch = |value: Option<bool>, on: &str, off: &str| {
            value.map(|value| if value { on } else { off }.to_owned())
        };
        let parts = [
            switch(self.up, "up", "down"),
            switch(self.promisc, "promisc on", "promisc off"),
            switch(self.allmulti, "allmulticast on", "allmulticast off"),
            self.mtu.map(|mtu| format!("mtu {mtu}")),
            self.mac.map(|mac| format!("address {mac}")),
            self.master.map(|master| match master {
                0 => "nomaster".into(),
                master => format!("master {master}"),
            }),
            self.txqlen.map(|length| format!("txqueuelen {length}")),
            self.name.as_ref().map(|name| format!("name {name}")),
            self.alias.as_ref().map(|alias| format!("alias {alias:?}")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// Sets the alias (IFLA_IFALIAS, at most 255 bytes) and the settings of a bridge port by name, so
/// that the request can follow the one that creates the port in one batch.
pub fn mark_port(name: &str, alias: &str, port: BridgePort) -> Request {
    let settings = vec![
        InfoBridgePort::HairpinMode(port.hairpin),
        InfoBridgePort::Isolated(port.isolated),
    ];
    let mut message = LinkMessage::default();
    message.attributes = vec![
        name_attribute(name),
        LinkAttribute::IfAlias(alias.chars().take(2 * ALIAS_SIZE).collect()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(settings)),
        ]),
    ];
    let what = format!(
        "set bridge port {name}: hairpin {}, isolated {}",
        port.hairpin, port.isolated
    );
    Request::new(RTM_NEWLINK, Mode::Existing, &message, what)
}

/// Deletes a link by index.
pub fn delete(index: u32) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    let what = format!("delete link {index}");
    Request::new(RTM_DELLINK, Mode::Existing, &message, what)
}

/// Deletes a link by name.
pub fn delete_by_name(name: &str) -> Request {
    let mut message = LinkMessage::default();
    message.attributes = vec![name_attribute(name)];
    let what = format!("delete link {name}");
    Request::new(RTM_DELLINK, Mode::Existing, &message, what)
}

/// A name, truncated to a length that the kernel still refuses: attributes are at most 64 KiB long.
fn name_attribute(name: &str) -> LinkAttribute {
    LinkAttribute::IfName(name.chars().take(2 * IFNAMSIZ).collect())
}

fn mac_attribute(mac: Mac) -> LinkAttribute {
    LinkAttribute::Address(mac.0.to_vec())
}

/// Leaves the counters out of the answer: the kernel takes longer to collect them than the rest.
fn without_counters() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

impl Netlink {
    /// The link with that name, if there is one.
    pub fn link_by_name(&mut self, name: &str) -> Result<Option<Link>> {
        if name.is_empty() || name.len() >= IFNAMSIZ {
            return Ok(None);
        }
        let mut message = LinkMessage::default();
        message.attributes = vec![name_attribute(name), without_counters()];
        self.link(&message, format!("look up link {name}"))
    }

    /// The link with that index, if there is one.
    pub fn link_by_index(&mut self, index: u32) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = vec![without_counters()];
        self.link(&message, format!("look up link {index}"))
    }

    fn link(&mut self, message: &LinkMessage, what: String) -> Result<Option<Link>> {
        let request = Request::new(RTM_GETLINK, Mode::Existing, message, what);
        match self.client.get(&request, |_, payload| read(payload)) {
            Ok(link) => Ok(Some(link)),
            Err(error @ Error::Kernel { .. }) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All links of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let mut message = LinkMessage::default();
        message.attributes = vec![without_counters()];
        let request = Request::new(RTM_GETLINK, Mode::Dump, &message, "list links");
        self.client.dump(&request, |kind, payload| {
            (kind == RTM_NEWLINK).then(|| read(payload)).transpose()
        })
    }
}
