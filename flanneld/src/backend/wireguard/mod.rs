//! wireguard: a device for each family, or one for both; a peer each other node; one route for the
//! whole network, since a device refuses packets to what is no peer's subnet (upstream:
//! pkg/backend/wireguard).

mod error;
mod key;
mod settings;
mod user_space;

pub(crate) use error::Error;

use super::{
    Backend, CandidateRoute, Input, OwnFamily, PeerData, PeerError, Plan, PlannedPeer,
    SkippedLease, backend_type::BackendType, mtu, own_families, peers,
};
use crate::{
    backend::NodeIdentity,
    model::{
        host_state::{Device, DeviceKind, DeviceLink, DeviceName, HostRoute},
        network_config::NetworkConfig,
        wireguard::{Interface, Peer, Session, Wireguard},
    },
    underlay::Underlay,
};
use go_compat::{cidr, json};
use ipnetwork::IpNetwork;
use linux_net::{
    link::{Kind, Link},
    wireguard::{PrivateKey, PublicKey},
};
use serde::Deserialize;
use serde_json::{Value, json};
use settings::{Mode, Settings};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use user_space::UserSpace;

/// Outer IPv6 (40), UDP (8) and WireGuard (32) headers, in bytes. Upstream counts as many where the
/// outer header is IPv4.
const OVERHEAD: u32 = 80;
/// The device for IPv4, and for both families where there is one tunnel.
const V4_NAME: &str = "flannel-wg";
/// The device for IPv6 where it has its own.
const V6_NAME: &str = "flannel-wg-v6";
/// Changes of peers are not notified: they are looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

pub(super) const TYPE: BackendType = BackendType {
    name: "wireguard",
    build: |config, node| Ok(Arc::new(WireguardBackend::new(config, node)?)),
    keys: settings::KEYS,
    check: |config| Ok(Settings::read(config)?.describe(config)),
    owns_device,
};

/// The backend.
#[derive(Debug)]
struct WireguardBackend {
    settings: Settings,
    private_key: PrivateKey,
    public_key: PublicKey,
    /// Both, whatever the configuration enables.
    names: [DeviceName; 2],
    /// IPv4 and IPv6.
    enabled: [bool; 2],
    /// Why a process of ours has the devices. None: the kernel has them.
    user_space: Option<UserSpace>,
}

/// One family of a peer, as it published it.
type Claim = (PlannedPeer, u16);

/// What one peer published, by family.
#[derive(Debug, Default)]
struct Node {
    v4: Option<Claim>,
    v6: Option<Claim>,
}

impl WireguardBackend {
    /// Reads `Backend`, and finds or makes this node's key.
    fn new(
        config: &NetworkConfig,
        node: &mut NodeIdentity<'_>,
    ) -> Result<WireguardBackend, super::Error> {
        let settings = Settings::read(config)?;
        let files = key::Files::of(node.state.file());
        let private_key = key::of_node(node, &files)?;
        let user_space = user_space::chosen(&settings);
        Ok(WireguardBackend {
            user_space,
            ..WireguardBackend::with_key(config, settings, private_key)
        })
    }

    fn with_key(
        config: &NetworkConfig,
        settings: Settings,
        private_key: PrivateKey,
    ) -> WireguardBackend {
        WireguardBackend {
            settings,
            public_key: key::public(&private_key),
            private_key,
            names: [V4_NAME, V6_NAME].map(DeviceName::from),
            enabled: [config.enable_ipv4, config.enable_ipv6],
            user_space: None,
        }
    }

    /// `MTU` as far as the underlay's interface allows it, less the tunnel's headers.
    fn inner_mtu(&self, underlay: &Underlay) -> u32 {
        mtu::outer(self.settings.mtu, underlay).saturating_sub(OVERHEAD)
    }

    /// A device with the addresses of these families and the routes to their networks.
    fn device(
        &self,
        name: &DeviceName,
        port: u16,
        families: &[&OwnFamily],
        input: &Input<'_>,
        plan: &mut Plan,
    ) -> Device {
        let mut device = Device::bare(DeviceLink {
            kind: match self.user_space {
                Some(_) => DeviceKind::Tun,
                None => DeviceKind::Wireguard(Some(self.public_key)),
            },
            mtu: self.inner_mtu(input.underlay),
            mac: None,
            up: true,
            master: None,
        });
        for own in families {
            let address = cidr::host(own.family.subnet.network());
            device.addresses.insert(address);
            let route = HostRoute::on_link(own.family.network, name.clone());
            plan.state.routes.insert(route);
        }
        device.wireguard = Some(Wireguard {
            interface: Interface {
                private_key: Some(self.private_key.clone()),
                listen_port: port,
            },
            peers: BTreeMap::new(),
        });
        device
    }

    fn peer(&self, endpoint: SocketAddr, mut allowed_ips: Vec<IpNetwork>) -> Arc<Peer> {
        allowed_ips.sort();
        Arc::new(Peer {
            preshared_key: self.settings.psk.clone(),
            endpoint: Some(endpoint),
            keepalive: self.settings.keepalive,
            allowed_ips,
            session: Session::None,
        })
    }

    /// A device of its own for one family.
    fn plan_separate(&self, input: &Input<'_>, own: &OwnFamily, plan: &mut Plan) {
        let Settings {
            listen_port,
            listen_port_v6,
            ..
        } = self.settings;
        let (name, port) = match own.family.network.is_ipv6() {
            false => (&self.names[0], listen_port),
            true => (&self.names[1], listen_port_v6),
        };
        let mut device = self.device(name, port, &[own], input, plan);
        let claims = self.claims(input, own, plan);
        if let Some(wireguard) = &mut device.wireguard {
            for (key, (peer, published)) in claims {
                let port = if published == 0 { port } else { published };
                let endpoint = SocketAddr::new(peer.public_ip, port);
                let peer_state = self.peer(endpoint, vec![peer.subnet]);
                wireguard.peers.insert(key, peer_state);
                plan.peers.push(peer);
            }
        }
        plan.state.devices.insert(name.clone(), device);
    }

    /// One device for every family.
    fn plan_single(&self, input: &Input<'_>, families: &[OwnFamily], plan: &mut Plan) {
        let name = &self.names[0];
        let all: Vec<_> = families.iter().collect();
        let mut device = self.device(name, self.settings.listen_port, &all, input, plan);
        let mut nodes = BTreeMap::<PublicKey, Node>::new();
        for own in families {
            for (key, claim) in self.claims(input, own, plan) {
                let node = nodes.entry(key).or_default();
                match own.family.network.is_ipv6() {
                    false => node.v4 = Some(claim),
                    true => node.v6 = Some(claim),
                }
            }
        }
        let mut own_v6 = families.iter().filter(|own| own.family.network.is_ipv6());
        let own_v6_is_public = own_v6.next().is_some_and(|own| is_public(own.public_ip));
        for (key, node) in nodes {
            let claims = || node.v4.iter().chain(&node.v6);
            let Some(endpoint) = self.endpoint(&node, own_v6_is_public) else {
                let family = match self.settings.mode {
                    Mode::Ipv6 => "IPv6",
                    Mode::Ipv4 | Mode::Auto | Mode::Separate => "IPv4",
                };
                plan.skipped.extend(claims().map(|(peer, _)| SkippedLease {
                    subnet: peer.subnet,
                    node: Some(peer.public_ip),
                    reason: PeerError::NoEndpoint(family),
                }));
                continue;
            };
            let subnets = claims().map(|(peer, _)| peer.subnet).collect();
            if let Some(wireguard) = &mut device.wireguard {
                let peer_state = self.peer(endpoint, subnets);
                wireguard.peers.insert(key, peer_state);
            }
            // packets of either family go to the tunnel's end
            plan.peers.extend(claims().map(|(peer, _)| PlannedPeer {
                public_ip: endpoint.ip(),
                ..*peer
            }));
        }
        plan.state.devices.insert(name.clone(), device);
    }

    /// The end of the one tunnel to a peer; None if it has no address of the family.
    fn endpoint(&self, node: &Node, own_v6_is_public: bool) -> Option<SocketAddr> {
        let v4 = node.v4.as_ref().map(|(peer, _)| peer.public_ip);
        let v6 = node.v6.as_ref().map(|(peer, _)| peer.public_ip);
        let ip = match (self.settings.mode, v4, v6) {
            (Mode::Ipv4, v4, _) => v4?,
            (Mode::Ipv6, _, v6) => v6?,
            // upstream: IPv6 between two nodes with public addresses of it if the peer has none
            // of IPv4
            (Mode::Auto | Mode::Separate, Some(v4), Some(v6)) => {
                match !is_public(v4) && is_public(v6) && own_v6_is_public {
                    true => v6,
                    false => v4,
                }
            }
            (Mode::Auto | Mode::Separate, v4, v6) => v4.or(v6)?,
        };
        Some(SocketAddr::new(ip, self.port_of(node)))
    }

    /// The port of a peer with one tunnel. Go flannel publishes `ListenPortV6` for IPv6, which it
    /// does not open then.
    fn port_of(&self, node: &Node) -> u16 {
        let Settings {
            listen_port,
            listen_port_v6,
            ..
        } = self.settings;
        let v4 = node.v4.as_ref().map(|(_, port)| *port);
        let v6 = node.v6.as_ref().map(|(_, port)| *port);
        match v4.or(v6.filter(|port| *port != listen_port_v6)) {
            Some(0) | None => listen_port,
            Some(port) => port,
        }
    }

    /// The peers of one family by their keys. Two nodes with one key cannot both be peers: the one
    /// with the newer lease is.
    fn claims(
        &self,
        input: &Input<'_>,
        own: &OwnFamily,
        plan: &mut Plan,
    ) -> BTreeMap<PublicKey, Claim> {
        let mut claims = BTreeMap::<PublicKey, Claim>::new();
        for (peer, data) in peers::usable(own, TYPE.name, input.leases, &mut plan.skipped) {
            let claimed = self.key_of(data).and_then(|(key, port)| {
                let holder = claims.get(&key).map(|(holder, _)| holder.public_ip);
                match holder {
                    Some(holder) => Err(PeerError::DuplicatePublicKey { key, holder }),
                    None => Ok((key, port)),
                }
            });
            match claimed {
                Ok((key, port)) => {
                    claims.insert(key, (peer, port));
                }
                Err(reason) => plan.skipped.push(SkippedLease {
                    subnet: peer.subnet,
                    node: Some(peer.public_ip),
                    reason,
                }),
            }
        }
        claims
    }

    fn key_of(&self, data: &Result<PeerData, PeerError>) -> Result<(PublicKey, u16), PeerError> {
        match data {
            Ok(PeerData::Wireguard { public_key, .. }) if *public_key == self.public_key => {
                Err(PeerError::OwnPublicKey(*public_key))
            }
            Ok(PeerData::Wireguard { public_key, port }) => Ok((*public_key, *port)),
            Ok(_) => Err(PeerError::NoData(TYPE.name)),
            Err(error) => Err(error.clone()),
        }
    }
}

impl Backend for WireguardBackend {
    fn name(&self) -> &'static str {
        TYPE.name
    }

    fn device_names(&self) -> &[DeviceName] {
        &self.names
    }

    fn owns_route(&self, candidate: &CandidateRoute<'_>) -> bool {
        let HostRoute { dst, gateway, .. } = candidate.route;
        let mut families = candidate.families.iter();
        candidate.over_own_device
            && gateway.is_none()
            && families.any(|family| family.network == *dst || family.contains(*dst))
    }

    fn backend_data(&self, _: &Underlay) -> [Option<Value>; 2] {
        let Settings {
            listen_port,
            listen_port_v6,
            mode,
            ..
        } = self.settings;
        // the port that is open: with one tunnel upstream names another for IPv6
        let port_v6 = match mode {
            Mode::Separate => listen_port_v6,
            Mode::Auto | Mode::Ipv4 | Mode::Ipv6 => listen_port,
        };
        let data = |enabled: bool, port: u16| {
            enabled.then(|| json!({"PublicKey": self.public_key.to_string(), "Port": port}))
        };
        [
            data(self.enabled[0], listen_port),
            data(self.enabled[1], port_v6),
        ]
    }

    fn pod_mtu(&self, underlay: &Underlay) -> u32 {
        self.inner_mtu(underlay)
    }

    fn decode(&self, data: Option<&Value>) -> Result<PeerData, PeerError> {
        decode(data)
    }

    fn plan(&self, input: &Input<'_>) -> Plan {
        let mut plan = Plan::default();
        let families = own_families(input);
        match self.settings.mode {
            Mode::Separate => {
                for own in &families {
                    self.plan_separate(input, own, &mut plan);
                }
            }
            Mode::Auto | Mode::Ipv4 | Mode::Ipv6 => {
                if !families.is_empty() {
                    self.plan_single(input, &families, &mut plan);
                }
            }
        }
        if self.user_space.is_some() {
            user_space::serve(self.settings.mode, input, &mut plan);
        }
        plan
    }

    fn note(&self) -> Option<String> {
        let why = self.user_space?;
        Some(format!("WireGuard in user space ({why})"))
    }

    fn data_path_devices(&self) -> &[DeviceName] {
        let separate = self.settings.mode == Mode::Separate;
        match (self.user_space, self.enabled) {
            (None, _) => &[],
            (Some(_), [true, true]) if separate => &self.names,
            (Some(_), [false, _]) if separate => &self.names[1..],
            (Some(_), _) => &self.names[..1],
        }
    }

    fn look_interval(&self) -> Duration {
        LOOK_INTERVAL
    }
}

/// The files with the private key.
pub(super) fn key_files(state_file: &Path) -> Vec<PathBuf> {
    let key::Files { upstream, kept } = key::Files::of(state_file);
    vec![upstream, kept]
}

fn owns_device(link: &Link) -> bool {
    [V4_NAME, V6_NAME].contains(&link.name.as_str())
        && matches!(&link.kind, Kind::Other(kind) if kind == "wireguard" || kind == "tun")
}

/// True unless the address is of a private network (RFC 1918, RFC 4193) or of one link.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_private() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unique_local() && !ip.is_unicast_link_local(),
    }
}

/// The key and port in a peer's backend data.
fn decode(data: Option<&Value>) -> Result<PeerData, PeerError> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Data {
        #[serde(rename = "PublicKey")]
        public_key: String,
        #[serde(rename = "Port")]
        port: u16,
    }
    let data = data
        .filter(|data| data.is_object())
        .ok_or(PeerError::NoData(TYPE.name))?;
    let Data { public_key, port } = json::from_value(data.clone())
        .map_err(|error| PeerError::UnreadableData(error.to_string()))?;
    let key: PublicKey = public_key.parse().map_err(|_| PeerError::NoPublicKey)?;
    if key.0 == [0; linux_net::wireguard::KEY_LEN] {
        return Err(PeerError::NoPublicKey);
    }
    Ok(PeerData::Wireguard {
        public_key: key,
        port,
    })
}

#[cfg(test)]
pub(super) mod tests;
