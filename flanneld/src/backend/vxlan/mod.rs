//! vxlan: one device a family; a neighbour, an FDB entry and an onlink route a peer (upstream:
//! pkg/backend/vxlan).

use super::{
    Backend, CandidateRoute, Error, Input, OwnFamily, PeerData, PeerError, Plan, PlannedPeer,
    SkippedLease,
    backend_type::{BackendType, Meaning, NodeIdentity},
    direct_route, mtu, own_families, peers,
};
use crate::{
    best_effort::best_effort,
    model::{
        host_state::{Device, DeviceKind, DeviceLink, DeviceName, HostRoute},
        network_config::NetworkConfig,
    },
    underlay::Underlay,
};
use go_compat::{cidr, json};
use linux_net::{
    Mac,
    link::{self, Kind, Link},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, net::IpAddr, sync::Arc};

/// Outer IPv4 (20), UDP (8), vxlan (8) and inner Ethernet (14) headers, in bytes.
const OVERHEAD: u32 = 50;
/// The same with an outer IPv6 header (40).
const OVERHEAD_V6: u32 = 70;
/// The kernel's port unless a parameter of its module changes it: the one that Go flannel's nodes
/// have.
const UPSTREAM_PORT: u16 = 8472;
/// The parameter.
const PORT_PARAMETER: &str = "/sys/module/vxlan/parameters/udp_port";
/// The longest name of a device (IFNAMSIZ without its final zero), in bytes.
pub(super) const NAME_MAX: usize = 15;
/// In a node's backend data: false if its public address is a router's.
const DIRECT_ROUTING: &str = "DirectRouting";
/// The first VNI beyond the 24 bits of the header.
const VNI_END: u32 = 1 << 24;

pub(super) const TYPE: BackendType = BackendType {
    name: "vxlan",
    build: |config, node| Ok(Arc::new(Vxlan::new(config, node)?)),
    keys: &["VNI", "Port", "MTU", "GBP", "Learning", "DirectRouting"],
    check: |config| Ok(Keys::read(config)?.describe(config)),
    owns_device,
};

/// The keys of `Backend`, named as upstream names them.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(default, rename_all = "UPPERCASE")]
struct Keys {
    vni: u32,
    #[serde(rename = "Port")]
    port: u16,
    mtu: u32,
    gbp: bool,
    #[serde(rename = "Learning")]
    learning: bool,
    #[serde(rename = "DirectRouting")]
    direct_routing: bool,
}

impl Default for Keys {
    fn default() -> Self {
        Keys {
            vni: 1,
            port: 0,
            mtu: 0,
            gbp: false,
            learning: false,
            direct_routing: false,
        }
    }
}

/// The backend.
#[derive(Debug)]
struct Vxlan {
    keys: Keys,
    /// `flannel.VNI` and `flannel-v6.VNI`.
    names: [DeviceName; 2],
    /// None for a disabled family.
    macs: [Option<Mac>; 2],
}

impl Vxlan {
    /// Reads `Backend`. The device of each enabled family gets its MAC from the node's identity.
    fn new(config: &NetworkConfig, node: &mut NodeIdentity<'_>) -> Result<Vxlan, Error> {
        let keys = Keys::read(config)?;
        let names = device_names(keys.vni).map(DeviceName::from);
        let record = node.record;
        let mut mac = |enabled: bool, name: &DeviceName, published: &Option<Value>| {
            let is_vxlan = |kind: &Kind| matches!(kind, Kind::Vxlan(_));
            let published = best_effort(vtep_mac(published.as_ref()), "another MAC is as good");
            let mac = enabled
                .then(|| node.mac(name, is_vxlan, published))
                .transpose();
            mac.map_err(|source| Error::Mac {
                device: name.clone(),
                source,
            })
        };
        let macs = [
            mac(config.enable_ipv4, &names[0], &record.backend_data)?,
            mac(config.enable_ipv6, &names[1], &record.backend_v6_data)?,
        ];
        Ok(Vxlan { keys, names, macs })
    }

    fn link(&self, own: &OwnFamily, underlay: &Underlay, mac: Mac) -> DeviceLink {
        let overhead = if own.family.network.is_ipv6() {
            OVERHEAD_V6
        } else {
            OVERHEAD
        };
        DeviceLink {
            kind: DeviceKind::Vxlan(link::Vxlan {
                vni: self.keys.vni,
                lower: Some(underlay.index),
                // never the public IP: behind a NAT no packet with that source leaves the host
                local: Some(own.local),
                port: Some(self.keys.port),
                learning: self.keys.learning,
                gbp: self.keys.gbp,
                ..link::Vxlan::default()
            }),
            mtu: mtu::outer(self.keys.mtu, underlay).saturating_sub(overhead),
            mac: Some(mac),
            up: true,
            master: None,
        }
    }

    fn plan_family(&self, input: &Input<'_>, own: &OwnFamily, plan: &mut Plan) {
        let position = usize::from(own.family.network.is_ipv6());
        let (name, Some(mac)) = (&self.names[position], self.macs[position]) else {
            return;
        };
        let mut device = Device::bare(self.link(own, input.underlay, mac));
        device
            .addresses
            .insert(cidr::host(own.family.subnet.network()));
        let mut vteps = BTreeMap::from([(mac, own.public_ip)]);
        for (peer, data) in peers::usable(own, self.kind(), input.leases, &mut plan.skipped) {
            let behind_nat = matches!(data, Ok(PeerData::Vxlan { behind_nat, .. }) if *behind_nat);
            let is_on_link = || direct_route::is_on_link(input, peer.public_ip);
            if self.keys.direct_routing && !behind_nat && is_on_link() {
                let route = direct_route::to(&peer, &input.underlay.name);
                plan.state.routes.insert(route);
                plan.peers.push(peer);
                continue;
            }
            let vtep = match data.clone() {
                Ok(PeerData::Vxlan { vtep, .. }) => {
                    claim(&mut vteps, vtep, peer.public_ip).map(|()| vtep)
                }
                Ok(_) => Err(PeerError::NoData(TYPE.name)),
                Err(reason) => Err(reason),
            };
            match vtep {
                Ok(vtep) => {
                    plan.state.routes.insert(overlay_route(&peer, name));
                    device.neighbours.insert((peer.subnet.network(), vtep));
                    device.fdb.insert((vtep, peer.public_ip));
                    plan.peers.push(peer);
                }
                Err(reason) => plan.skipped.push(SkippedLease {
                    subnet: peer.subnet,
                    node: Some(peer.public_ip),
                    reason,
                }),
            }
        }
        plan.state.devices.insert(name.clone(), device);
    }
}

impl Vxlan {
    /// A peer with another VNI or port receives nothing that this node sends. Nodes of older
    /// versions publish no VNI, and Go flannel's no port.
    fn check_settings(&self, data: Option<&Value>) -> Result<(), PeerError> {
        let own = [
            ("VNI", self.keys.vni.into()),
            ("Port", self.keys.port.into()),
        ];
        for (key, own) in own {
            let peer = data.and_then(|data| data.get(key)).and_then(Value::as_u64);
            if let Some(peer) = peer.filter(|peer| *peer != own) {
                return Err(PeerError::OtherSetting { key, peer, own });
            }
        }
        Ok(())
    }
}

impl Keys {
    fn read(config: &NetworkConfig) -> Result<Keys, Error> {
        let backend = Value::Object(config.backend.clone());
        let mut keys: Keys = json::from_value(backend).map_err(Error::Decode)?;
        if keys.port == 0 {
            // an adopted device of another port is made again
            keys.port = kernel_port().unwrap_or(UPSTREAM_PORT);
        }
        keys.check(config)?;
        Ok(keys)
    }

    fn describe(&self, config: &NetworkConfig) -> Meaning {
        let enabled = [config.enable_ipv4, config.enable_ipv6];
        let names = device_names(self.vni).into_iter().zip(enabled);
        let names = names.filter_map(|(name, enabled)| enabled.then_some(name));
        let devices: Vec<_> = names.collect();
        let text = format!(
            "vxlan, VNI {}, UDP port {}, device {}{}",
            self.vni,
            self.port,
            devices.join(" and "),
            direct_route::description(self.direct_routing),
        );
        Meaning { text, devices }
    }

    fn check(&self, config: &NetworkConfig) -> Result<(), Error> {
        if self.vni >= VNI_END {
            return Err(Error::VniTooLarge(self.vni));
        }
        let enabled = [config.enable_ipv4, config.enable_ipv6];
        let names = device_names(self.vni).into_iter().zip(enabled);
        let mut names = names.filter_map(|(name, enabled)| enabled.then_some(name));
        if let Some(name) = names.find(|name| name.len() > NAME_MAX) {
            let vni = self.vni;
            return Err(Error::VniNameTooLong { vni, name });
        }
        let overhead = match config.enable_ipv6 {
            true => OVERHEAD_V6,
            false => OVERHEAD,
        };
        mtu::check(self.mtu, overhead, config)
    }
}

impl Backend for Vxlan {
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

    fn backend_data(&self, underlay: &Underlay) -> [Option<Value>; 2] {
        let data = |mac: Option<Mac>, behind_nat: bool| {
            mac.map(|mac| {
                let mut data = json!({"VNI": self.keys.vni, "VtepMAC": mac.to_string()});
                // upstream has no such keys: a network with the usual port, and nodes that have
                // their public addresses, have its bytes
                if self.keys.port != UPSTREAM_PORT {
                    data["Port"] = self.keys.port.into();
                }
                if self.keys.direct_routing && behind_nat {
                    data[DIRECT_ROUTING] = false.into();
                }
                data
            })
        };
        [
            data(self.macs[0], underlay.public_ip != underlay.address),
            data(self.macs[1], underlay.public_ipv6 != underlay.address_v6),
        ]
    }

    /// With IPv6, what its longer header leaves: a pod has one MTU. Go flannel writes what IPv4's
    /// leaves, and its pods' IPv6 packets of that size come back as too large.
    fn pod_mtu(&self, underlay: &Underlay) -> u32 {
        let overhead = match self.macs[1] {
            None => OVERHEAD,
            Some(_) => OVERHEAD_V6,
        };
        mtu::outer(self.keys.mtu, underlay).saturating_sub(overhead)
    }

    fn decode(&self, data: Option<&Value>) -> Result<PeerData, PeerError> {
        let vtep = vtep_mac(data)?;
        self.check_settings(data)?;
        let direct = data.and_then(|data| data.get(DIRECT_ROUTING));
        Ok(PeerData::Vxlan {
            vtep,
            behind_nat: direct.and_then(Value::as_bool) == Some(false),
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

fn device_names(vni: u32) -> [String; 2] {
    [format!("flannel.{vni}"), format!("flannel-v6.{vni}")]
}

/// True for a vxlan device whose name has its VNI.
fn owns_device(link: &Link) -> bool {
    match &link.kind {
        Kind::Vxlan(vxlan) => device_names(vxlan.vni).contains(&link.name),
        _ => false,
    }
}

/// True for a direct route, and for a route over a vxlan device of ours: inside the network, or
/// with the subnet's first address as onlink gateway, which an earlier network may have had.
pub(super) fn owns_route(candidate: &CandidateRoute<'_>) -> bool {
    let HostRoute {
        dst,
        gateway,
        onlink,
        ..
    } = candidate.route;
    if candidate.over_own_device {
        let inside = candidate
            .families
            .iter()
            .any(|family| family.contains(*dst));
        gateway.is_some() && inside || *onlink && *gateway == Some(dst.network())
    } else {
        direct_route::owns(candidate)
    }
}

fn overlay_route(peer: &PlannedPeer, device: &DeviceName) -> HostRoute {
    HostRoute {
        onlink: true,
        ..HostRoute::new(peer.subnet, peer.subnet.network(), device.clone())
    }
}

/// The port that the kernel gives a device for which none is named; None without the module.
fn kernel_port() -> Option<u16> {
    let text = fs::read_to_string(PORT_PARAMETER);
    let text = best_effort(text, "the kernel's default is known")?;
    text.trim().parse().ok().filter(|port| *port != 0)
}

/// The MAC in a peer's backend data.
fn vtep_mac(data: Option<&Value>) -> Result<Mac, PeerError> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Data {
        #[serde(rename = "VtepMAC")]
        vtep_mac: String,
    }
    let data = data
        .filter(|data| data.is_object())
        .ok_or(PeerError::NoData(TYPE.name))?;
    let Data { vtep_mac } = json::from_value(data.clone())
        .map_err(|error| PeerError::UnreadableData(error.to_string()))?;
    if vtep_mac.is_empty() {
        return Err(PeerError::NoVtepMac);
    }
    let mac: Mac = match vtep_mac.parse() {
        Ok(mac) => mac,
        Err(_) => return Err(PeerError::InvalidVtepMac(vtep_mac)),
    };
    if mac.0[0] & 1 != 0 || mac == Mac::default() {
        return Err(PeerError::GroupVtepMac(mac));
    }
    Ok(mac)
}

/// A MAC can be behind one address only: the kernel sends every packet for it there.
fn claim(vteps: &mut BTreeMap<Mac, IpAddr>, vtep: Mac, public_ip: IpAddr) -> Result<(), PeerError> {
    match *vteps.entry(vtep).or_insert(public_ip) {
        holder if holder == public_ip => Ok(()),
        holder => Err(PeerError::DuplicateVtepMac { vtep, holder }),
    }
}

#[cfg(test)]
mod tests;
