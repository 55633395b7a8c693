//! The part of a host's network that a backend and the rules manage, as plain data. One type says
//! what is wanted and what was observed; `reconcile::diff` compares the two.
//!
//! A new field does not compile until `diff` and `observe` handle it: both list every field.

use super::{rule_set::RuleSet, wireguard::Wireguard};
use ipnetwork::IpNetwork;
use linux_net::{
    Mac,
    link::{IpTunnel, Vxlan},
    route::{Ip6Encap, RouteProtocol},
    wireguard::PublicKey,
    xfrm::{Direction, Policy},
};
use packet_filter::Table;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

/// Who made a route, as `ip route` shows it: `proto 70`. No other program is known to use the
/// number; docs/flanneld.md tells how `ip` learns its name.
pub(crate) const ROUTE_PROTOCOL: RouteProtocol = RouteProtocol::Other(70);

/// In [`Device::fdb`], the remote of an entry whose port, VNI or link another program changed: no
/// VTEP has it.
pub(crate) const ALTERED_REMOTE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The name of a device. Shared, since every entry of every peer carries one.
pub(crate) type DeviceName = Arc<str>;

/// Devices by name, routes of the main table, policies of IPsec, tables of nftables, rules of
/// iptables.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct HostState {
    pub(crate) devices: BTreeMap<DeviceName, Device>,
    /// Routes to other nodes' subnets.
    pub(crate) routes: BTreeSet<HostRoute>,
    /// What has to be encrypted on the way to other nodes' subnets.
    pub(crate) policies: BTreeSet<Policy>,
    pub(crate) tables: Vec<Table>,
    /// One a family, where the rules are in iptables.
    pub(crate) rule_sets: Vec<RuleSet>,
    /// To this node's subnets.
    pub(crate) blackholes: BTreeSet<Blackhole>,
}

/// A device and its entries.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Device {
    pub(crate) link: DeviceLink,
    /// Without link-local ones.
    pub(crate) addresses: BTreeSet<IpNetwork>,
    /// Permanent neighbours.
    pub(crate) neighbours: BTreeSet<(IpAddr, Mac)>,
    /// Permanent FDB entries: a MAC and the underlay address behind which it is.
    pub(crate) fdb: BTreeSet<(Mac, IpAddr)>,
    /// The kernel leaves checksums to it. None: as it is; observed of vxlan devices.
    pub(crate) tx_checksum: Option<bool>,
    /// Of a WireGuard device.
    pub(crate) wireguard: Option<Wireguard>,
}

/// A link's attributes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct DeviceLink {
    pub(crate) kind: DeviceKind,
    /// In bytes.
    pub(crate) mtu: u32,
    /// None for kinds without MAC. A wanted device then takes what the kernel gives it.
    pub(crate) mac: Option<Mac>,
    /// IFF_UP.
    pub(crate) up: bool,
    /// The ifindex of a bridge that it is a port of, or of another master. Never wanted.
    pub(crate) master: Option<u32>,
}

/// A kind of device with its own attributes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum DeviceKind {
    /// `lower` is an ifindex.
    Vxlan(Vxlan),
    /// Its public key finds it under another name. None where only the link was observed.
    Wireguard(Option<PublicKey>),
    /// A TUN device with several queues: its packets go to a process of ours.
    Tun,
    /// IPv4 or IPv6 packets in another IP header.
    IpTunnel(IpTunnel),
    /// A kind that no backend creates, by its name: observed under a name of ours, never wanted.
    Foreign(String),
}

/// A unicast route of the main table without metric.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct HostRoute {
    pub(crate) dst: IpNetwork,
    /// None: the destination is on the device's link (`scope link` in IPv4).
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) device: DeviceName,
    /// RTNH_F_ONLINK.
    pub(crate) onlink: bool,
    /// The outer header that the device gives its packets, where the route says it.
    pub(crate) encap: Option<Ip6Encap>,
    /// RTPROT_*: [`ROUTE_PROTOCOL`] where flanneld made it; boot where Go flannel did, or an
    /// earlier version.
    pub(crate) protocol: u8,
    /// Another program gave it attributes that flanneld does not set, as a source address or an
    /// MTU.
    pub(crate) altered: bool,
}

/// A blackhole route of the main table to a subnet of this node (`-ip-blackhole-route`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Blackhole {
    pub(crate) dst: IpNetwork,
    pub(crate) metric: u32,
    /// As [`HostRoute::protocol`].
    pub(crate) protocol: u8,
}

impl Blackhole {
    /// A blackhole as flanneld makes it, with the worst metric: the kernel's route to the bridge of
    /// the pods has the same destination and precedes it. Without a metric the blackhole would
    /// precede it, if it was there first.
    pub(crate) fn new(dst: IpNetwork) -> Blackhole {
        Blackhole {
            dst,
            metric: u32::MAX,
            protocol: ROUTE_PROTOCOL.into(),
        }
    }
}

impl HostRoute {
    /// A route as flanneld makes it.
    pub(crate) fn new(dst: IpNetwork, gateway: IpAddr, device: DeviceName) -> HostRoute {
        HostRoute {
            dst,
            gateway: Some(gateway),
            device,
            onlink: false,
            encap: None,
            protocol: ROUTE_PROTOCOL.into(),
            altered: false,
        }
    }

    /// A route without gateway, as flanneld makes it.
    pub(crate) fn on_link(dst: IpNetwork, device: DeviceName) -> HostRoute {
        HostRoute {
            gateway: None,
            ..HostRoute::new(dst, Ipv4Addr::UNSPECIFIED.into(), device)
        }
    }
}

impl DeviceLink {
    /// True if this observed device can become `wanted` without being created again. Attributes
    /// that
    /// `wanted` leaves to the kernel are not compared: Go flannel adopts a device by the same rule.
    pub(crate) fn adoptable_as(&self, wanted: &DeviceLink) -> bool {
        match (&self.kind, &wanted.kind) {
            (DeviceKind::Vxlan(observed), DeviceKind::Vxlan(wanted)) => {
                vxlan_adoptable(observed, wanted)
            }
            (DeviceKind::Wireguard(_), DeviceKind::Wireguard(_)) => true,
            (DeviceKind::Tun, DeviceKind::Tun) => true,
            (DeviceKind::IpTunnel(observed), DeviceKind::IpTunnel(wanted)) => observed == wanted,
            (
                DeviceKind::Vxlan(_)
                | DeviceKind::Wireguard(_)
                | DeviceKind::Tun
                | DeviceKind::IpTunnel(_)
                | DeviceKind::Foreign(_),
                _,
            ) => false,
        }
    }

    /// True if an adopted device needs no change.
    pub(crate) fn matches(&self, wanted: &DeviceLink) -> bool {
        self.adoptable_as(wanted)
            && self.mtu == wanted.mtu
            && (wanted.mac.is_none() || self.mac == wanted.mac)
            && self.up == wanted.up
            && self.master == wanted.master
    }
}

fn vxlan_adoptable(observed: &Vxlan, wanted: &Vxlan) -> bool {
    let open_or_same =
        |observed: Option<u32>, wanted: Option<u32>| wanted.is_none() || observed == wanted;
    observed.vni == wanted.vni
        && open_or_same(observed.lower, wanted.lower)
        && open_or_same(observed.port.map(u32::from), wanted.port.map(u32::from))
        && (wanted.local.is_none() || observed.local == wanted.local)
        && observed.group.is_none_or(|group| group.is_unspecified())
        && observed.gbp == wanted.gbp
        && !observed.l2miss
        && observed.learning == wanted.learning
}

impl Device {
    /// A device without entries.
    pub(crate) fn bare(link: DeviceLink) -> Device {
        Device {
            link,
            addresses: BTreeSet::new(),
            neighbours: BTreeSet::new(),
            fdb: BTreeSet::new(),
            tx_checksum: None,
            wireguard: None,
        }
    }
}

impl HostState {
    /// The route to exactly that subnet.
    pub(crate) fn route_to(&self, dst: IpNetwork) -> Option<&HostRoute> {
        self.routes_to(dst).next()
    }

    /// All routes to exactly that subnet.
    pub(crate) fn routes_to(&self, dst: IpNetwork) -> impl Iterator<Item = &HostRoute> {
        let first = HostRoute {
            protocol: 0,
            ..HostRoute::on_link(dst, "".into())
        };
        let from_there = self.routes.range(first..);
        from_there.take_while(move |route| route.dst == dst)
    }

    /// The narrowest route to a wider network.
    pub(crate) fn route_around(&self, subnet: IpNetwork) -> Option<&HostRoute> {
        let mut lengths = (0..subnet.prefix()).rev();
        lengths.find_map(|length| {
            let wider = IpNetwork::new(subnet.network(), length).ok()?;
            self.route_to(go_compat::cidr::masked(wider))
        })
    }

    /// The route that packets to the subnet take: to it, or the narrowest to a wider network.
    pub(crate) fn way_to(&self, subnet: IpNetwork) -> Option<&HostRoute> {
        self.route_to(subnet).or_else(|| self.route_around(subnet))
    }

    /// Adds every peer's entry of `observed`. As long as the peers are unknown, those of an earlier
    /// run stay.
    pub(crate) fn keep_peers_of(&mut self, observed: &HostState) {
        self.keep_ways_of(observed);
        self.keep_entries_of(observed, |_| true);
    }

    /// Leaves the way to each peer as `observed` has it: its route, and the policy about what is
    /// sent to it.
    pub(crate) fn keep_ways_of(&mut self, observed: &HostState) {
        self.routes.retain(|route| {
            let present = observed.way_to(route.dst);
            present.is_none_or(|present| present == route)
        });
        self.routes.extend(observed.routes.iter().cloned());
        self.keep_policies_of(observed, |direction| direction == Direction::Out);
    }

    /// Adds what these devices have for peers, and the policies about what comes from them.
    pub(crate) fn keep_entries_of(
        &mut self,
        observed: &HostState,
        is_kept: impl Fn(&DeviceName) -> bool,
    ) {
        self.keep_policies_of(observed, |direction| direction != Direction::Out);
        for (name, device) in self.devices.iter_mut().filter(|(name, _)| is_kept(name)) {
            let Device {
                link: _,
                addresses: _,
                neighbours,
                fdb,
                tx_checksum: _,
                wireguard,
            } = device;
            if let Some(observed) = observed.devices.get(name) {
                neighbours.extend(&observed.neighbours);
                fdb.extend(&observed.fdb);
                if let (Some(wireguard), Some(observed)) = (wireguard, &observed.wireguard) {
                    let peers = observed.peers.iter();
                    wireguard
                        .peers
                        .extend(peers.map(|(key, peer)| (*key, peer.clone())));
                }
            }
        }
    }

    /// Adds those of these directions in the place of which no other one is planned.
    fn keep_policies_of(&mut self, observed: &HostState, is_kept: impl Fn(Direction) -> bool) {
        let planned: BTreeSet<_> = self.policies.iter().map(Policy::place).collect();
        let kept = observed
            .policies
            .iter()
            .filter(|policy| is_kept(policy.direction) && !planned.contains(&policy.place()));
        self.policies.extend(kept.cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_that_are_kept_precede_planned_ones() {
        let net = |text: &str| text.parse::<IpNetwork>().unwrap();
        let over = |subnet: &str, device: &str| HostRoute::on_link(net(subnet), device.into());
        let state = |routes: &[HostRoute]| HostState {
            routes: routes.iter().cloned().collect(),
            ..HostState::default()
        };
        let kept = |planned: &[HostRoute], observed: &[HostRoute]| {
            let mut planned = state(planned);
            planned.keep_ways_of(&state(observed));
            Vec::from_iter(planned.routes)
        };
        let whole = |device: &str| over("10.244.0.0/16", device);
        let peer = |device: &str| over("10.244.2.0/24", device);
        let other = over("10.245.0.0/24", "flannel.1");
        // by the route of the whole network
        let observed = [whole("flannel0")];
        assert_eq!(
            kept(&[peer("flannel.1"), other.clone()], &observed),
            [whole("flannel0"), other]
        );
        // by a route of its own
        let observed = [peer("flannel.1")];
        let ways = kept(&[peer("flannel.7"), whole("flannel-wg")], &observed);
        assert_eq!(ways, [whole("flannel-wg"), peer("flannel.1")]);
        // the narrower one is the way
        let both = [whole("flannel0"), peer("flannel.1")];
        assert_eq!(kept(&[peer("flannel.1")], &both), both);
    }
}
