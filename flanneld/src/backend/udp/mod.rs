//! udp: packets travel in UDP datagrams as they are, by way of a TUN device and a process of ours
//! (upstream: pkg/backend/udp). One device has both families, each of which travels by its own.

use super::{
    Backend, CandidateRoute, Error, Input, Plan,
    backend_type::{BackendType, Meaning},
    mtu, own_families, peers,
};
use crate::{
    data_path::{Config, EngineConfig},
    model::{
        host_state::{Device, DeviceKind, DeviceLink, DeviceName, HostRoute},
        network_config::NetworkConfig,
    },
    underlay::Underlay,
};
use go_compat::{cidr, json};
use linux_net::link::{Kind, Link};
use serde::Deserialize;
use serde_json::Value;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Outer headers of IPv4 (20) and UDP (8), in bytes.
const OVERHEAD: u32 = 28;
/// The same with an outer IPv6 header (40).
const OVERHEAD_V6: u32 = 48;
/// Upstream's.
const DEFAULT_PORT: u16 = 8285;
/// Upstream asks the kernel for `flannel%d`, which is this unless the name is taken.
const DEVICE: &str = "flannel0";
/// `BackendType` in leases: upstream publishes none.
const LEASE_TYPE: &str = "";

pub(super) const TYPE: BackendType = BackendType {
    name: "udp",
    build: |config, _| Ok(Arc::new(Udp::new(config)?)),
    keys: &["Port", "MTU"],
    check: |config| {
        let backend = Udp::new(config)?;
        Ok(Meaning {
            text: format!("udp, UDP port {}, device {DEVICE}", backend.port),
            devices: vec![DEVICE.to_owned()],
        })
    },
    owns_device: |link: &Link| link.name == DEVICE && link.kind == Kind::Other("tun".to_owned()),
};

/// The keys of `Backend`. Upstream has no `MTU`.
#[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
struct Keys {
    #[serde(rename = "Port")]
    port: u16,
    #[serde(rename = "MTU")]
    mtu: u32,
}

/// The backend.
#[derive(Debug)]
struct Udp {
    names: [DeviceName; 1],
    port: u16,
    /// `MTU`; 0: that of the underlay.
    mtu: u32,
    /// Headers around a packet of the family that needs more, in bytes: the device has one MTU.
    overhead: u32,
}

impl Udp {
    fn new(config: &NetworkConfig) -> Result<Udp, Error> {
        let backend = Value::Object(config.backend.clone());
        let Keys { port, mtu } = json::from_value(backend).map_err(Error::DecodeUdp)?;
        let overhead = match config.enable_ipv6 {
            true => OVERHEAD_V6,
            false => OVERHEAD,
        };
        mtu::check(mtu, overhead, config)?;
        Ok(Udp {
            names: [DEVICE.into()],
            port: if port == 0 { DEFAULT_PORT } else { port },
            mtu,
            overhead,
        })
    }
}

impl Backend for Udp {
    fn name(&self) -> &'static str {
        TYPE.name
    }

    fn kind(&self) -> &'static str {
        LEASE_TYPE
    }

    fn device_names(&self) -> &[DeviceName] {
        &self.names
    }

    /// The route to the whole network, over the device.
    fn owns_route(&self, candidate: &CandidateRoute<'_>) -> bool {
        let mut families = candidate.families.iter();
        candidate.over_own_device
            && families.any(|family| family.network.contains(candidate.route.dst.ip()))
    }

    fn pod_mtu(&self, underlay: &Underlay) -> u32 {
        mtu::outer(self.mtu, underlay).saturating_sub(self.overhead)
    }

    fn data_path_devices(&self) -> &[DeviceName] {
        &self.names
    }

    fn plan(&self, input: &Input<'_>) -> Plan {
        let mut plan = Plan::default();
        let [name] = &self.names;
        let mut device = Device::bare(DeviceLink {
            kind: DeviceKind::Tun,
            mtu: self.pod_mtu(input.underlay),
            mac: None,
            up: true,
            master: None,
        });
        let mut config = Config {
            device: name.to_string(),
            address: None,
            address_v6: None,
            port: None,
            port_v6: None,
            keeps_peers: false,
            engine: EngineConfig::Udp {
                own: Vec::new(),
                routes: Vec::new(),
            },
        };
        let (mut own_subnets, mut routes) = (Vec::new(), Vec::new());
        for own in own_families(input) {
            let subnet = own.family.subnet;
            match subnet.network() {
                IpAddr::V4(ip) => (config.address, config.port) = (Some(ip), Some(self.port)),
                IpAddr::V6(ip) => {
                    (config.address_v6, config.port_v6) = (Some(ip), Some(self.port));
                }
            }
            own_subnets.push(subnet.to_string());
            device.addresses.insert(cidr::host(subnet.network()));
            let route = HostRoute::on_link(own.family.network, name.clone());
            plan.state.routes.insert(route);
            for (peer, _) in peers::usable(&own, LEASE_TYPE, input.leases, &mut plan.skipped) {
                let to = SocketAddr::new(peer.public_ip, self.port);
                routes.push((peer.subnet.to_string(), to));
                plan.peers.push(peer);
            }
        }
        plan.state.devices.insert(name.clone(), device);
        config.engine = EngineConfig::Udp {
            own: own_subnets,
            routes,
        };
        plan.data_path.push(Arc::new(config));
        plan
    }
}

#[cfg(test)]
mod tests;
