//! Backends: how packets get to the other nodes. A backend is a pure function from configuration,
//! underlay and leases to the state that this host should have; `reconcile` does the rest.

mod alloc;
mod backend_type;
mod direct_route;
#[cfg(test)]
mod documentation;
mod extension;
#[cfg(test)]
pub(crate) mod fixtures;
mod host_gw;
mod ipip;
mod ipsec;
mod mtu;
mod peer_leases;
mod peers;
mod registry;
mod udp;
mod vxlan;
mod wireguard;

pub(crate) use backend_type::NodeIdentity;
pub(crate) use direct_route::has_shape as is_direct_route;
pub(crate) use extension::{Extension, Progress, Wanted, commands_record, fuzz_record};
pub(crate) use ipsec::{fuzz as fuzz_vici, retire as retire_charon, tunnels};
pub(crate) use peer_leases::PeerLeases;
pub(crate) use peers::{PeerData, PeerError, PlannedPeer, SkippedLease};
pub(crate) use registry::{build, check, keys, owns_device};

use crate::{
    data_path,
    model::{
        Family,
        host_state::{DeviceName, HostRoute, HostState},
        lease::{Lease, LeaseAttrs},
        network_config::NetworkConfig,
    },
    subnet::BoxFuture,
    underlay::{Underlay, UnderlayRoutes},
};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use std::{
    convert::Infallible,
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;

/// The time between passes without any notification, for a host of which notifications tell all.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// What a plan depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) config: &'a NetworkConfig,
    pub(crate) underlay: &'a Underlay,
    /// This node's lease.
    pub(crate) own: &'a Lease,
    /// Every lease of the network, this node's too.
    pub(crate) leases: &'a PeerLeases,
    /// How the host reaches other nodes.
    pub(crate) routes: &'a UnderlayRoutes,
}

/// What a backend wants.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    /// Devices, routes and the backend's own tables; those that every backend needs are added
    /// later.
    pub(crate) state: HostState,
    /// The peers that `state` leads to, each family of a lease apart.
    pub(crate) peers: Vec<PlannedPeer>,
    /// Leases that cannot be used.
    pub(crate) skipped: Vec<SkippedLease>,
    /// For the processes that move packets, one for each device: each knows a peer before a route
    /// leads there.
    pub(crate) data_path: Vec<Arc<data_path::Config>>,
    /// What the commands of `extension` are to be given.
    pub(crate) commands: Option<Wanted>,
}

/// The files with this node's secret keys, of the daemon with this file of the node's state.
pub(crate) fn key_files(state_file: &Path) -> Vec<PathBuf> {
    wireguard::key_files(state_file)
}

/// A backend.
pub(crate) trait Backend: fmt::Debug + Send + Sync {
    /// `Backend.Type`, for messages.
    fn name(&self) -> &'static str;
    /// `BackendType` in leases.
    fn kind(&self) -> &'static str {
        self.name()
    }
    /// Names of devices that are ours whatever the configuration enables: one that is not planned
    /// is removed.
    fn device_names(&self) -> &[DeviceName] {
        &[]
    }
    /// True if this backend makes routes over the underlay's interface.
    fn makes_direct_routes(&self) -> bool {
        false
    }
    /// True if the route has a shape that this backend makes.
    fn owns_route(&self, _route: &CandidateRoute<'_>) -> bool {
        false
    }
    /// Why no packet of a peer's pods would come by this underlay. At the start it ends the daemon;
    /// later the data path stays, and the status says why.
    fn refuses(&self, _underlay: &Underlay) -> Option<Error> {
        None
    }
    /// What this node publishes: how it is reached, and [`Backend::backend_data`].
    fn lease_attrs(&self, underlay: &Underlay) -> LeaseAttrs {
        let [backend_data, backend_v6_data] = self.backend_data(underlay);
        LeaseAttrs {
            public_ip: underlay.public_ip,
            public_ipv6: underlay.public_ipv6,
            backend_type: self.kind().to_owned(),
            backend_data,
            backend_v6_data,
        }
    }
    /// `BackendData` and `BackendV6Data`. For None etcd's value has no such key, and the annotation
    /// is `null`, as upstream's.
    fn backend_data(&self, _underlay: &Underlay) -> [Option<Value>; 2] {
        [None, None]
    }
    /// The MTU of pods' interfaces in bytes (FLANNEL_MTU).
    fn pod_mtu(&self, underlay: &Underlay) -> u32;
    /// Reads what a peer of the same backend type published (`BackendData` or `BackendV6Data`).
    /// Called once for each lease.
    fn decode(&self, _data: Option<&Value>) -> Result<PeerData, PeerError> {
        Ok(PeerData::Nothing)
    }
    /// What the status says of the way of packets, where it is not the one that the backend's name
    /// promises.
    fn note(&self) -> Option<String> {
        None
    }
    /// The devices whose packets a process of ours moves, each one of its own.
    fn data_path_devices(&self) -> &[DeviceName] {
        &[]
    }
    /// The state that this host should have.
    fn plan(&self, input: &Input<'_>) -> Plan;
    /// The time between passes without any notification.
    fn look_interval(&self) -> Duration {
        LOOK_INTERVAL
    }
    /// The backend that runs commands, if this is it.
    fn commands(&self) -> Option<&Extension> {
        None
    }
    /// True if [`key_exchange`](Backend::key_exchange) negotiates.
    fn negotiates_keys(&self) -> bool {
        false
    }
    /// Negotiates keys with the peers as long as the daemon runs, for backends that need some.
    /// Returns only on failure.
    fn key_exchange(&self, _: KeyExchange) -> BoxFuture<'_, Result<Infallible, Error>> {
        Box::pin(std::future::pending())
    }
}

/// What a backend that negotiates keys is told, and what it tells.
#[derive(Debug, Clone)]
pub(crate) struct KeyExchange {
    /// None until the peers are known.
    pub(crate) tunnels: watch::Receiver<Option<Arc<[Tunnel]>>>,
    /// Why there are no new keys, and what to do; without secrets. None: nothing is in the way.
    pub(crate) fault: watch::Sender<Option<String>>,
}

/// A tunnel that needs keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tunnel {
    /// This node's end, on the underlay's interface.
    pub(crate) own_address: IpAddr,
    pub(crate) own_subnet: IpNetwork,
    pub(crate) peer_address: IpAddr,
    pub(crate) peer_subnet: IpNetwork,
}

/// Why the network configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// `Backend.Type` names no backend of this build.
    #[error(
        "unknown backend type: {name} (this build has: {known}; set Backend.Type in the network configuration){hint}"
    )]
    UnknownType {
        name: String,
        known: String,
        /// What to use in its place, or nothing.
        hint: &'static str,
    },
    /// A key of `Backend` has the wrong type.
    #[error("error decoding VXLAN backend config: {0}")]
    Decode(#[source] go_compat::json::Error),
    /// A key of udp's `Backend` has the wrong type.
    #[error("error decoding UDP backend config: {0}")]
    DecodeUdp(#[source] go_compat::json::Error),
    /// A key of extension's `Backend` has the wrong type.
    #[error("error decoding extension backend config: {0}")]
    Extension(#[source] go_compat::json::Error),
    /// A command may run longer than a peer can wait.
    #[error("Backend.CommandTimeout {seconds} is too long: at most {longest} seconds")]
    CommandTimeout { seconds: u32, longest: u32 },
    /// A key of `Backend` has the wrong type.
    #[error("error decoding IPIP backend config: {0}")]
    DecodeIpip(#[source] go_compat::json::Error),
    /// A link of another kind has the device's name. Upstream's words.
    #[error("{name} isn't an {mode} mode device, please remove device and try again")]
    NotATunnel {
        name: &'static str,
        mode: &'static str,
    },
    /// `VNI` does not fit a vxlan header.
    #[error("vxlan VNI {0} is too large: it has 24 bits; change Backend.VNI")]
    VniTooLarge(u32),
    /// The kernel's names of devices have 15 characters.
    #[error(
        "Backend.VNI {vni} is too large: the device's name {name} would have more than {longest} characters; the \
         largest VNI is 9999999, and 9999 with IPv6",
        longest = vxlan::NAME_MAX
    )]
    VniNameTooLong { vni: u32, name: String },
    /// `MTU` leaves pods less than their address family needs.
    #[error(
        "Backend.MTU {mtu} is too small: pods would have less than {minimum}; at least {needed} is needed"
    )]
    MtuTooSmall { mtu: u32, minimum: u32, needed: u32 },
    /// The underlay's public address is not on its interface. Upstream's words first.
    #[error(
        "your PublicIP differs from interface IP, meaning that probably you're on a NAT, which is not supported by \
         host-gw backend (the interface has {address}, peers send to {public_ip}; set -public-ip and -public-ipv6 to \
         addresses of the interface, or take the vxlan or wireguard backend)"
    )]
    BehindNat { public_ip: IpAddr, address: IpAddr },
    /// The wireguard backend.
    #[error(transparent)]
    Wireguard(#[from] wireguard::Error),
    /// The ipsec backend.
    #[error(transparent)]
    Ipsec(#[from] ipsec::Error),
    /// The system has no random numbers for a new MAC.
    #[error("failed to choose a MAC for {device}: {source}")]
    Mac {
        device: DeviceName,
        source: std::io::Error,
    },
}

/// An observed route of the main table, unicast, without metric, made by a program that names no
/// protocol of its own, as Go flannel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CandidateRoute<'a> {
    pub(crate) route: &'a HostRoute,
    /// False if it leads over the underlay's interface.
    pub(crate) over_own_device: bool,
    pub(crate) families: &'a [Family],
}

/// An address family of this node with the addresses by which it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OwnFamily {
    family: Family,
    /// As this node's lease has it: peers use it.
    public_ip: IpAddr,
    /// What the underlay makes of it: another one while an address changes, and where a subnet
    /// manager overwrites the public IP.
    selected_public_ip: IpAddr,
    /// The address on the underlay's interface. Behind a NAT it differs from the public ones.
    local: IpAddr,
}

impl OwnFamily {
    /// True if no other node can have the address.
    fn is_own(&self, ip: IpAddr) -> bool {
        [self.public_ip, self.selected_public_ip, self.local].contains(&ip)
    }
}

/// The families of this node: those for which there is a network and a subnet.
pub(crate) fn families(config: &NetworkConfig, own: &Lease) -> Vec<Family> {
    let family = |network: Option<IpNetwork>, subnet: Option<IpNetwork>| {
        let (network, subnet) = network.zip(subnet)?;
        Some(Family { network, subnet })
    };
    let v4 = config.network.filter(|_| config.enable_ipv4);
    let v6 = config.ipv6_network.filter(|_| config.enable_ipv6);
    let v4 = family(v4.map(Into::into), own.subnets.v4.map(Into::into));
    let v6 = family(v6.map(Into::into), own.subnets.v6.map(Into::into));
    v4.into_iter().chain(v6).collect()
}

/// A secret of the configuration. What stands in its place may be one without its quotes: no error
/// repeats it.
fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    String::deserialize(from).map_err(|_| D::Error::custom("it is not a string"))
}

/// Those families by which this node can be reached.
fn own_families(input: &Input<'_>) -> Vec<OwnFamily> {
    let Input { underlay, own, .. } = input;
    let with_addresses = |family: Family| {
        let (public_ip, selected_public_ip, local) = if family.network.is_ipv6() {
            let published = own.attrs.public_ipv6.map(IpAddr::V6);
            let selected = underlay.public_ipv6.map(IpAddr::V6);
            (published, selected, underlay.address_v6.map(IpAddr::V6))
        } else {
            let published = own.attrs.public_ip.map(IpAddr::V4);
            let selected = underlay.public_ip.map(IpAddr::V4);
            (published, selected, underlay.address.map(IpAddr::V4))
        };
        Some(OwnFamily {
            family,
            public_ip: public_ip?,
            selected_public_ip: selected_public_ip?,
            local: local?,
        })
    };
    let families = families(input.config, own).into_iter();
    families.filter_map(with_addresses).collect()
}
