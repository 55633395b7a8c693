//! ipip: the pods' packets in another IP header (upstream: pkg/backend/ipip, for IPv4). IPv4 has a
//! device of kind ipip, and a route by each peer. IPv6 has one of kind ip6tnl whose routes name the
//! outer addresses: the kernel refuses a gateway that it reaches over another device.

use super::{
    Backend, CandidateRoute, Error, Input, OwnFamily, PeerData, PeerError, Plan, PlannedPeer,
    backend_type::{BackendType, Meaning, NodeIdentity},
    direct_route, own_families, peers,
};
use crate::{
    model::{
        host_state::{Device, DeviceKind, DeviceLink, DeviceName, HostRoute},
        network_config::NetworkConfig,
    },
    underlay::Underlay,
};
use go_compat::{cidr, json};
use linux_net::{
    link::{IpTunnel, Kind, Link, Outer},
    route::Ip6Encap,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{net::IpAddr, sync::Arc};

/// An outer IPv4 header, in bytes.
const OVERHEAD: u32 = 20;
/// An outer IPv6 header without an encapsulation limit, in bytes.
const OVERHEAD_V6: u32 = 40;
/// The devices of IPv4, as upstream names it, and of IPv6.
const NAMES: [&str; 2] = ["flannel.ipip", "flannel.ip6ip6"];
/// IPPROTO_IPV6 (linux/in.h).
const PROTOCOL_IPV6: u8 = 41;
/// In a node's backend data: false if its public address is a router's.
const DIRECT_ROUTING: &str = "DirectRouting";

pub(super) const TYPE: BackendType = BackendType {
    name: "ipip",
    build: |config, node| Ok(Arc::new(Ipip::new(config, node)?)),
    keys: &[DIRECT_ROUTING],
    check: |config| Ok(describe(&Keys::read(config)?, config)),
    owns_device,
};

/// The keys of `Backend`, named as upstream names them.
#[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
struct Keys {
    #[serde(rename = "DirectRouting")]
    direct_routing: bool,
}

/// The backend.
#[derive(Debug)]
struct Ipip {
    keys: Keys,
    /// [`NAMES`].
    names: [DeviceName; 2],
    ipv6: bool,
}

impl Keys {
    fn read(config: &NetworkConfig) -> Result<Keys, Error> {
        let backend = Value::Object(config.backend.clone());
        json::from_value(backend).map_err(Error::DecodeIpip)
    }
}

impl Ipip {
    /// Fails if a link of another kind has a device's name.
    fn new(config: &NetworkConfig, node: &NodeIdentity<'_>) -> Result<Ipip, Error> {
        let keys = Keys::read(config)?;
        let enabled = [config.enable_ipv4, config.enable_ipv6];
        let names = NAMES.into_iter().zip(enabled);
        let mut names = names.filter_map(|(name, enabled)| enabled.then_some(name));
        let has_other_kind = |name: &&str| {
            let mut links = node.links.iter();
            links.any(|link| link.name == **name && !owns_device(link))
        };
        if let Some(name) = names.find(has_other_kind) {
            let mode = outer(name).kind();
            return Err(Error::NotATunnel { name, mode });
        }
        Ok(Ipip {
            keys,
            names: NAMES.map(DeviceName::from),
            ipv6: config.enable_ipv6,
        })
    }

    fn link(own: &OwnFamily, underlay: &Underlay) -> DeviceLink {
        let (tunnel, overhead) = match own.local {
            IpAddr::V4(_) => {
                let tunnel = IpTunnel {
                    // never the public IP: behind a NAT no packet with that source leaves the host
                    local: Some(own.local),
                    ..IpTunnel::new(Outer::V4)
                };
                (tunnel, OVERHEAD)
            }
            IpAddr::V6(local) => {
                let tunnel = IpTunnel {
                    lower: local.is_unicast_link_local().then_some(underlay.index),
                    protocol: PROTOCOL_IPV6,
                    external: true,
                    ..IpTunnel::new(Outer::V6)
                };
                (tunnel, OVERHEAD_V6)
            }
        };
        DeviceLink {
            kind: DeviceKind::IpTunnel(tunnel),
            mtu: underlay.mtu.saturating_sub(overhead),
            mac: None,
            up: true,
            master: None,
        }
    }

    fn plan_family(&self, input: &Input<'_>, own: &OwnFamily, plan: &mut Plan) {
        let name = &self.names[usize::from(own.family.network.is_ipv6())];
        let mut device = Device::bare(Ipip::link(own, input.underlay));
        device
            .addresses
            .insert(cidr::host(own.family.subnet.network()));
        for (peer, data) in peers::usable(own, self.kind(), input.leases, &mut plan.skipped) {
            let is_direct = self.keys.direct_routing
                && !matches!(data, Ok(PeerData::BehindNat))
                && direct_route::is_on_link(input, peer.public_ip);
            plan.state.routes.insert(match is_direct {
                true => direct_route::to(&peer, &input.underlay.name),
                false => tunnel_route(own, &peer, name),
            });
            plan.peers.push(peer);
        }
        plan.state.devices.insert(name.clone(), device);
    }
}

impl Backend for Ipip {
    fn name(&self) -> &'static str {
        TYPE.name
    }

    fn device_names(&self) -> &[DeviceName] {
        &self.names
    }

    fn makes_direct_routes(&self) -> bool {
        self.keys.direct_routing
    }

    fn owns_route(&self, candidate: &CandidateRoute<'_>) -> bool {
        owns_route(candidate)
    }

    /// Upstream publishes none.
    fn backend_data(&self, underlay: &Underlay) -> [Option<Value>; 2] {
        let data = |behind_nat: bool| {
            (self.keys.direct_routing && behind_nat).then(|| json!({ DIRECT_ROUTING: false }))
        };
        [
            data(underlay.public_ip != underlay.address),
            data(underlay.public_ipv6 != underlay.address_v6),
        ]
    }

    /// With IPv6, what its longer header leaves: a pod has one MTU.
    fn pod_mtu(&self, underlay: &Underlay) -> u32 {
        let overhead = if self.ipv6 { OVERHEAD_V6 } else { OVERHEAD };
        underlay.mtu.saturating_sub(overhead)
    }

    fn decode(&self, data: Option<&Value>) -> Result<PeerData, PeerError> {
        let direct = data.and_then(|data| data.get(DIRECT_ROUTING));
        Ok(match direct.and_then(Value::as_bool) {
            Some(false) => PeerData::BehindNat,
            Some(true) | None => PeerData::Nothing,
        })
    }

    fn plan(&self, input: &Input<'_>) -> Plan {
        let mut plan = Plan::default();
        for own in own_families(input) {
            self.plan_family(input, &own, &mut plan);
        }
        plan
    }
}

fn describe(keys: &Keys, config: &NetworkConfig) -> Meaning {
    let enabled = [config.enable_ipv4, config.enable_ipv6];
    let names = NAMES.into_iter().zip(enabled);
    let names = names.filter(|(_, enabled)| *enabled);
    let devices: Vec<_> = names.map(|(name, _)| name.to_owned()).collect();
    let direct = direct_route::description(keys.direct_routing);
    let text = format!("ipip, device {}{direct}", devices.join(" and "));
    Meaning { text, devices }
}

/// The family of a device's outer header.
fn outer(name: &str) -> Outer {
    match name == NAMES[0] {
        true => Outer::V4,
        false => Outer::V6,
    }
}

/// True for a tunnel with the name of one of ours.
fn owns_device(link: &Link) -> bool {
    let is_tunnel =
        matches!(&link.kind, Kind::IpTunnel(tunnel) if tunnel.outer == outer(&link.name));
    NAMES.contains(&link.name.as_str()) && is_tunnel
}

/// True for a direct route, and for a route over a device of ours: inside the network, or by a
/// peer of an earlier network.
fn owns_route(candidate: &CandidateRoute<'_>) -> bool {
    let HostRoute { dst, onlink, .. } = candidate.route;
    let mut families = candidate.families.iter();
    match candidate.over_own_device {
        true => *onlink || families.any(|family| family.contains(*dst)),
        false => direct_route::has_shape(candidate),
    }
}

fn tunnel_route(own: &OwnFamily, peer: &PlannedPeer, device: &DeviceName) -> HostRoute {
    match (own.local, peer.public_ip) {
        (IpAddr::V6(src), IpAddr::V6(dst)) => HostRoute {
            encap: Some(Ip6Encap { dst, src }),
            ..HostRoute::on_link(peer.subnet, device.clone())
        },
        _ => HostRoute {
            onlink: true,
            ..HostRoute::new(peer.subnet, peer.public_ip, device.clone())
        },
    }
}

#[cfg(test)]
mod tests;
