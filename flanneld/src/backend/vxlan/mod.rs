//! vxlan: one device a family, a neighbour, a forwarding entry and an onlink route a peer (upstream: pkg/backend/vxlan).
use super::{Backend, Input, Plan, families};
use crate::{
    backend::peers::{self, Ours, Peer, Skipped},
    model::host_state::{Device, DeviceKind, DeviceLink, DeviceName, HostRoute},
    model::lease::LeaseAttrs,
    model::network_config::NetworkConfig,
    underlay::Underlay,
};
use go_compat::{cidr, json};
use linux_net::{Mac, link};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::IpAddr};

/// Outer IPv4 (20), UDP (8), vxlan (8) and inner Ethernet (14) headers.
const OVERHEAD: u32 = 50;
/// The same with an outer IPv6 header (40).
const OVERHEAD_V6: u32 = 70;
/// What IPv4 needs at least (RFC 791), and IPv6 (RFC 8200).
const MIN_MTU: u32 = 68;
const MIN_MTU_V6: u32 = 1280;

/// The keys of `Backend`, named as upstream names them.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(default)]
struct Keys {
    #[serde(rename = "VNI")]
    vni: u32,
    #[serde(rename = "Port")]
    port: u16,
    #[serde(rename = "MTU")]
    mtu: u32,
    #[serde(rename = "GBP")]
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
pub struct Vxlan {
    keys: Keys,
    /// `flannel.VNI` and `flannel-v6.VNI`
    names: [DeviceName; 2],
    macs: [Option<Mac>; 2],
}

impl Vxlan {
    /// Reads `Backend`. Each enabled family's device gets its MAC from `macs`.
    pub fn from_config(
        config: &NetworkConfig,
        mut macs: impl FnMut(&str) -> std::io::Result<Mac>,
    ) -> Result<Vxlan, String> {
        let keys: Keys = json::from_value(Value::Object(config.backend.clone()))
            .map_err(|error| format!("error decoding VXLAN backend config: {error}"))?;
        if keys.vni >= 1 << 24 {
            return Err(format!(
                "vxlan VNI {} is too large: it has 24 bits",
                keys.vni
            ));
        }
        let (least, overhead) = if config.enable_ipv6 {
            (MIN_MTU_V6, OVERHEAD_V6)
        } else {
            (MIN_MTU, OVERHEAD)
        };
        if keys.mtu != 0 && keys.mtu < least + overhead {
            return Err(format!(
                "vxlan MTU {} is too small: pods would have less than {least}; at least {} is needed",
                keys.mtu,
                least + overhead
            ));
        }
        let names: [DeviceName; 2] = [
            format!("flannel.{}", keys.vni).into(),
            format!("flannel-v6.{}", keys.vni).into(),
        ];
        let mut mac = |enabled: bool, name: &str| {
            let mac = enabled.then(|| macs(name)).transpose();
            mac.map_err(|error| format!("failed to choose a MAC for {name}: {error}"))
        };
        let macs = [
            mac(config.enable_ipv4, &names[0])?,
            mac(config.enable_ipv6, &names[1])?,
        ];
        Ok(Vxlan { keys, names, macs })
    }

    /// `MTU` as far as the underlay's interface allows it.
    fn outer_mtu(&self, underlay: &Underlay) -> u32 {
        match self.keys.mtu {
            0 => underlay.mtu,
            mtu => mtu.min(underlay.mtu),
        }
    }

    fn link(&self, ours: &Ours, underlay: &Underlay, mac: Mac) -> DeviceLink {
        let overhead = if ours.network.is_ipv6() {
            OVERHEAD_V6
        } else {
            OVERHEAD
        };
        DeviceLink {
            kind: DeviceKind::Vxlan(link::Vxlan {
                vni: self.keys.vni,
                lower: Some(underlay.index),
                // upstream gives the device the address that peers know, not the interface's
                local: Some(ours.public_ip),
                port: (self.keys.port != 0).then_some(self.keys.port),
                learning: self.keys.learning,
                gbp: self.keys.gbp,
                ..link::Vxlan::default()
            }),
            mtu: self.outer_mtu(underlay).saturating_sub(overhead),
            mac,
            up: true,
        }
    }

    fn family(&self, input: &Input<'_>, ours: &Ours, plan: &mut Plan) {
        let place = usize::from(ours.network.is_ipv6());
        let (name, Some(mac)) = (&self.names[place], self.macs[place]) else {
            return;
        };
        let mut device = Device::bare(self.link(ours, input.underlay, mac));
        device.addresses.insert(cidr::host(ours.subnet.network()));
        let mut vteps = BTreeMap::from([(mac, ours.public_ip)]);
        for peer in peers::peers(ours, self.kind(), input.leases, &mut plan.skipped) {
            if self.keys.direct_routing && input.direct_routes.is_on_link(peer.public_ip) {
                plan.state.routes.insert(HostRoute {
                    dst: peer.subnet,
                    gateway: peer.public_ip,
                    device: input.underlay.name.as_str().into(),
                    onlink: false,
                });
                plan.peers += 1;
                continue;
            }
            match vtep(&peer).and_then(|vtep| claim(&mut vteps, vtep, peer.public_ip)) {
                Ok(vtep) => {
                    add(&peer, vtep, name, &mut device, plan);
                    plan.peers += 1;
                }
                Err(reason) => plan.skipped.push(Skipped {
                    subnet: peer.subnet.to_string(),
                    reason,
                }),
            }
        }
        plan.state.devices.insert(name.clone(), device);
    }
}

impl Backend for Vxlan {
    fn kind(&self) -> &'static str {
        "vxlan"
    }

    fn device_names(&self) -> &[DeviceName] {
        &self.names
    }

    fn makes_host_routes(&self) -> bool {
        self.keys.direct_routing
    }

    fn lease_attrs(&self, underlay: &Underlay) -> LeaseAttrs {
        let data = |mac: Option<Mac>| {
            mac.map(|mac| json!({"VNI": self.keys.vni, "VtepMAC": mac.to_string()}))
        };
        LeaseAttrs {
            public_ip: underlay.public_ip,
            public_ipv6: underlay.public_ipv6,
            backend_type: self.kind().to_owned(),
            backend_data: data(self.macs[0]),
            backend_v6_data: data(self.macs[1]),
        }
    }

    fn pod_mtu(&self, underlay: &Underlay) -> u32 {
        self.outer_mtu(underlay).saturating_sub(OVERHEAD)
    }

    fn plan(&self, input: &Input<'_>) -> Plan {
        let mut plan = Plan::default();
        for ours in families(input.config, input.underlay, input.own) {
            self.family(input, &ours, &mut plan);
        }
        plan
    }
}

/// The three things that lead to a peer.
fn add(peer: &Peer<'_>, vtep: Mac, name: &DeviceName, device: &mut Device, plan: &mut Plan) {
    let gateway = peer.subnet.network();
    device.neighbours.insert((gateway, vtep));
    device.fdb.insert((vtep, peer.public_ip));
    plan.state.routes.insert(HostRoute {
        dst: peer.subnet,
        gateway,
        device: name.clone(),
        onlink: true,
    });
}

/// The MAC in a peer's backend data. Receivers do not look at the VNI, as upstream's do not.
fn vtep(peer: &Peer<'_>) -> Result<Mac, String> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Data {
        #[serde(rename = "VtepMAC")]
        vtep_mac: String,
    }
    let data = peer
        .data
        .filter(|data| data.is_object())
        .ok_or("it has no vxlan backend data")?;
    let data: Data = json::from_value(data.clone())
        .map_err(|error| format!("its backend data cannot be read: {error}"))?;
    let text = data.vtep_mac;
    if text.is_empty() {
        return Err("its backend data has no VtepMAC (yet)".to_owned());
    }
    let mac: Mac = text
        .parse()
        .map_err(|_| format!("its VtepMAC {text:?} is not a MAC address"))?;
    if mac.0[0] & 1 != 0 || mac == Mac::default() {
        return Err(format!("its VtepMAC {mac} is not a device's address"));
    }
    Ok(mac)
}

/// A MAC can be behind one address only: the kernel would send every packet for it there.
fn claim(vteps: &mut BTreeMap<Mac, IpAddr>, vtep: Mac, public_ip: IpAddr) -> Result<Mac, String> {
    match *vteps.entry(vtep).or_insert(public_ip) {
        holder if holder == public_ip => Ok(vtep),
        holder => Err(format!("its VtepMAC {vtep} is also that of {holder}")),
    }
}

#[cfg(test)]
mod tests;
