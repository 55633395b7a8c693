//! What of a host is a backend's business, as plain data: devices with what lies on them, routes to peers, packet-filter
//! tables. The same type says what is wanted and what was seen; `diff` compares the two.
use ipnetwork::IpNetwork;
use linux_net::{Mac, link::Vxlan};
use packet_filter::Table;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

/// The name of a device. Shared, since every entry of every peer carries one.
pub type DeviceName = Arc<str>;

/// Devices by name, routes of the main table, tables of the packet filter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostState {
    /// our devices
    pub devices: BTreeMap<DeviceName, Device>,
    /// routes to other nodes' subnets
    pub routes: BTreeSet<HostRoute>,
    /// whole tables
    pub tables: Vec<Table>,
}

/// A device and what lies on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// the link itself
    pub link: DeviceLink,
    /// addresses, without link-local ones
    pub addresses: BTreeSet<IpNetwork>,
    /// permanent neighbours
    pub neighbours: BTreeSet<(IpAddr, Mac)>,
    /// permanent forwarding entries: a MAC and the underlay address behind which it is
    pub fdb: BTreeSet<(Mac, IpAddr)>,
}

/// A link's attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceLink {
    /// what it is
    pub kind: DeviceKind,
    /// bytes
    pub mtu: u32,
    /// hardware address
    pub mac: Mac,
    /// IFF_UP
    pub up: bool,
}

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceKind {
    /// A vxlan device; `lower` is an ifindex.
    Vxlan(Vxlan),
    /// Something else under a name that is ours; only ever seen, never wanted.
    Other(String),
}

/// A route to a peer's subnet: main table, unicast, no metric. What else a route can carry is not compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostRoute {
    /// the peer's subnet
    pub dst: IpNetwork,
    /// next hop
    pub gateway: IpAddr,
    /// outgoing device
    pub device: DeviceName,
    /// RTNH_F_ONLINK
    pub onlink: bool,
}

impl DeviceLink {
    /// True if this device, as seen, can become `wanted` without being made anew. Attributes that the kernel chose
    /// (those `wanted` leaves open) do not count: the rule by which Go flannel adopts a device.
    pub fn adoptable_as(&self, wanted: &DeviceLink) -> bool {
        let (DeviceKind::Vxlan(seen), DeviceKind::Vxlan(wanted)) = (&self.kind, &wanted.kind)
        else {
            return false;
        };
        let open_or_same =
            |seen: Option<u32>, wanted: Option<u32>| wanted.is_none() || seen == wanted;
        seen.vni == wanted.vni
            && open_or_same(seen.lower, wanted.lower)
            && open_or_same(seen.port.map(u32::from), wanted.port.map(u32::from))
            && (wanted.local.is_none() || seen.local == wanted.local)
            && seen.group.is_none_or(|group| group.is_unspecified())
            && seen.gbp == wanted.gbp
            && !seen.l2miss
            && seen.learning == wanted.learning
    }

    /// True if nothing needs to be changed on an adopted device.
    pub fn settled_as(&self, wanted: &DeviceLink) -> bool {
        self.adoptable_as(wanted)
            && self.mtu == wanted.mtu
            && self.mac == wanted.mac
            && self.up == wanted.up
    }
}

impl Device {
    /// A device with nothing on it yet.
    pub fn bare(link: DeviceLink) -> Device {
        Device {
            link,
            addresses: BTreeSet::new(),
            neighbours: BTreeSet::new(),
            fdb: BTreeSet::new(),
        }
    }
}

impl HostState {
    /// Keeps every peer's entry that `seen` has. While it is not known who the peers are, those of an earlier run stay.
    pub fn keep_peers_of(&mut self, seen: &HostState) {
        for (name, device) in &mut self.devices {
            if let Some(seen) = seen.devices.get(name) {
                device.neighbours.extend(&seen.neighbours);
                device.fdb.extend(&seen.fdb);
            }
        }
        self.routes.extend(seen.routes.iter().cloned());
    }
}
