//! What can be proved to be ours. Everything else on the host is a stranger's: it is not seen, so it is never changed.
use crate::{
    backend::peers::Ours,
    model::host_state::{DeviceName, HostRoute},
};
use ipnetwork::IpNetwork;
use linux_net::{address::Address, fdb::FdbEntry, neighbour::Neighbour, route::Route};
use std::{collections::BTreeMap, net::IpAddr};

/// RT_TABLE_MAIN, RTN_UNICAST, RTPROT_* of routes that the kernel made (linux/rtnetlink.h).
const MAIN: u32 = 254;
const UNICAST: u8 = 1;
const BY_REDIRECT: u8 = 1;
const BY_KERNEL: u8 = 2;
const BY_BOOT: u8 = 3;
const BY_RA: u8 = 9;
/// The metric that the kernel gives an IPv6 route that asks for none.
const IP6_DEFAULT_METRIC: u32 = 1024;
/// NUD_PERMANENT (linux/neighbour.h)
const PERMANENT: u16 = 0x80;

/// By what we know what is ours.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// our devices' names
    pub names: Vec<DeviceName>,
    /// our families
    pub families: Vec<Ours>,
    /// where the backend makes routes that are not over our devices: the interface over which it makes them
    pub host_routes_over: Option<DeviceName>,
}

/// Our devices that are there, by ifindex.
pub type Indexes = BTreeMap<u32, DeviceName>;

impl Scope {
    /// Our name for it, if the name is one of ours.
    pub fn device(&self, name: &str) -> Option<&DeviceName> {
        self.names.iter().find(|ours| &***ours == name)
    }

    /// A route to a peer: over our device and inside the cluster's network, or in exactly the shape of a vxlan route
    /// (then also one of an earlier network); or, where the backend makes such, a host route over the underlay.
    pub fn route(
        &self,
        route: &Route,
        name_of: impl Fn(u32) -> Option<DeviceName>,
    ) -> Option<HostRoute> {
        let (gateway, oif) = (route.gateway?, route.oif?);
        let plain = route.table == MAIN
            && route.kind == UNICAST
            && route.dst.prefix() > 0
            && !matches!(route.protocol, BY_REDIRECT | BY_KERNEL | BY_RA)
            && (route.priority == 0 || route.dst.is_ipv6() && route.priority == IP6_DEFAULT_METRIC);
        if !plain {
            return None;
        }
        let device = name_of(oif)?;
        let ours = if self.device(&device).is_some() {
            self.inside(route.dst) || route.onlink && gateway == route.dst.network()
        } else {
            self.host_routes_over.as_ref() == Some(&device)
                && !route.onlink
                && route.protocol == BY_BOOT
                && self.is_peer_subnet(route.dst)
        };
        ours.then_some(HostRoute {
            dst: route.dst,
            gateway,
            device,
            onlink: route.onlink,
        })
    }

    /// An address of ours on one of our devices: IPv4 inside the network, any IPv6 but link-local ones.
    pub fn address(&self, address: &Address) -> Option<IpNetwork> {
        match address.net.ip() {
            IpAddr::V4(_) => self.inside(address.net).then_some(address.net),
            IpAddr::V6(ip) => (!ip.is_unicast_link_local()).then_some(address.net),
        }
    }

    fn inside(&self, net: IpNetwork) -> bool {
        self.families
            .iter()
            .any(|ours| ours.network.contains(net.ip()) && net.prefix() > ours.network.prefix())
    }

    fn is_peer_subnet(&self, net: IpNetwork) -> bool {
        self.families.iter().any(|ours| {
            ours.network.contains(net.ip())
                && net.prefix() == ours.subnet.prefix()
                && net != ours.subnet
        })
    }
}

/// A neighbour as a backend makes them.
pub fn neighbour(entry: &Neighbour) -> Option<(IpAddr, linux_net::Mac)> {
    Some((entry.ip, entry.mac?)).filter(|_| entry.state & PERMANENT != 0)
}

/// A forwarding entry as a backend makes them: permanent, for one device's MAC (not the zero or a group address).
pub fn fdb(entry: &FdbEntry) -> Option<(linux_net::Mac, IpAddr)> {
    let unicast = entry.mac.0[0] & 1 == 0 && entry.mac != linux_net::Mac::default();
    Some((entry.mac, entry.dst?)).filter(|_| unicast && entry.state & PERMANENT != 0)
}

#[cfg(test)]
mod tests;
