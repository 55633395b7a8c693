//! What the process is configured with, and the engines that it has.

use super::wireguard;
use ::wireguard::{Device, TooManyPeers};
use data_path::{
    Descriptors, Opened, OverlappingPrefixes, PrefixTable, Settings, Shared, Workers,
    udp::{Peers, Udp},
    wireguard::Wireguard,
};
use ipnetwork::IpNetwork;
use linux_net::tun;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashSet,
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{BorrowedFd, OwnedFd},
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};

/// More workers than this do not make the kernel's part faster.
const MOST_WORKERS: usize = 8;

/// What the process does.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Config {
    /// The TUN device.
    pub(crate) device: String,
    /// The source of ICMP errors: this node's address on the device.
    pub(crate) address: Option<Ipv4Addr>,
    /// The same of IPv6.
    pub(crate) address_v6: Option<Ipv6Addr>,
    /// The UDP port of an outer IPv4.
    pub(crate) port: Option<u16>,
    /// The UDP port of an outer IPv6.
    pub(crate) port_v6: Option<u16>,
    /// Peers that the process has besides stay.
    pub(crate) keeps_peers: bool,
    pub(crate) engine: EngineConfig,
}

/// Which engine, and its peers.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum EngineConfig {
    /// The backend udp.
    Udp {
        /// This node's subnets.
        own: Vec<String>,
        /// Where packets for each subnet go.
        routes: Vec<(String, SocketAddr)>,
    },
    /// The backend wireguard, where the kernel has none.
    Wireguard(wireguard::Device),
}

/// Without peers: an engine's may have secrets.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("device", &self.device)
            .field("engine", &self.engine.name())
            .field("peers", &self.engine.peers())
            .finish_non_exhaustive()
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    DataPath(#[from] data_path::Error),
    #[error("{0:?} is not a subnet")]
    Subnet(String),
    #[error(transparent)]
    Overlap(#[from] OverlappingPrefixes),
    #[error(transparent)]
    Wireguard(#[from] wireguard::Error),
    #[error(transparent)]
    TooManyPeers(#[from] TooManyPeers),
    #[error("copy a descriptor: {0}")]
    Copy(#[source] io::Error),
    #[error("the process has descriptors already")]
    Running,
    #[error("the process has engine {0}: another one needs a process of its own")]
    OtherEngine(&'static str),
    #[error("the process has device {present}, not {asked}: it needs a process of its own")]
    OtherDevice { present: String, asked: String },
}

impl Config {
    /// What the workers work with.
    pub(super) fn settings(&self) -> Settings {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        Settings {
            device: self.device.clone(),
            workers: workers.min(MOST_WORKERS),
            port: self.port,
            port_v6: self.port_v6,
            address: self.address,
            address_v6: self.address_v6,
        }
    }

    /// Whether the other configuration has another port, of IPv4 and of IPv6.
    pub(super) fn other_ports(&self, other: &Config) -> [bool; 2] {
        [self.port != other.port, self.port_v6 != other.port_v6]
    }

    /// Adds the peers of the present configuration, if they are to stay.
    pub(super) fn keep(&mut self, present: &Config) {
        if !self.keeps_peers {
            return;
        }
        let alone = self.engine.clone();
        match (&mut self.engine, &present.engine) {
            (EngineConfig::Udp { routes, .. }, EngineConfig::Udp { routes: before, .. }) => {
                let known: HashSet<_> = routes.iter().map(|(subnet, _)| subnet.clone()).collect();
                let before = before.iter().filter(|(subnet, _)| !known.contains(subnet));
                routes.extend(before.cloned());
            }
            (EngineConfig::Wireguard(device), EngineConfig::Wireguard(before)) => {
                device.keep(before);
            }
            (EngineConfig::Udp { .. } | EngineConfig::Wireguard(_), _) => {}
        }
        // a subnet that became larger leaves no room for those that it had before
        if self.check().is_err() {
            self.engine = alone;
        }
    }

    /// Fails as an engine would that gets it.
    pub(super) fn check(&self) -> Result<(), Error> {
        match &self.engine {
            EngineConfig::Udp { own, routes } => udp_peers(own, routes).map(drop),
            EngineConfig::Wireguard(device) => Ok(device.config().map(drop)?),
        }
    }
}

impl EngineConfig {
    pub(super) fn name(&self) -> &'static str {
        match self {
            EngineConfig::Udp { .. } => "udp",
            EngineConfig::Wireguard(_) => "wireguard",
        }
    }

    /// The number of subnets of peers.
    pub(super) fn peers(&self) -> usize {
        match self {
            EngineConfig::Udp { routes, .. } => routes.len(),
            EngineConfig::Wireguard(device) => device.peers(),
        }
    }
}

/// Running workers with what they share.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) workers: Workers,
    /// Copies of the workers' descriptors, the queues' first.
    pub(super) copies: (Descriptors, Vec<OwnedFd>),
    pub(super) settings: Settings,
    shared: SharedState,
}

/// What the workers of each engine share.
#[derive(Debug)]
enum SharedState {
    Udp(Shared<Peers>),
    Wireguard(Arc<Device>),
}

impl Running {
    /// Starts the workers.
    pub(super) fn start(
        config: &Config,
        opened: Opened,
        ended: &mpsc::Sender<io::Error>,
    ) -> Result<Running, Error> {
        let settings = config.settings();
        let (arranged, open) = opened.descriptors();
        let copies = open.iter().map(BorrowedFd::try_clone_to_owned);
        let copies = copies.collect::<Result<_, _>>().map_err(Error::Copy)?;
        let copies = (arranged, copies);
        let (workers, shared) = match &config.engine {
            EngineConfig::Udp { own, routes } => {
                let peers = Shared::new(udp_peers(own, routes)?);
                let engine = |_| Udp::new(peers.reader());
                let workers = Workers::start(opened, &settings, engine, ended)?;
                (workers, SharedState::Udp(peers))
            }
            EngineConfig::Wireguard(wanted) => {
                let device = Device::new(wanted.config()?, Instant::now())?;
                let count = opened.len();
                let engine = |number| Wireguard::new(device.clone(), number, count);
                let workers = Workers::start(opened, &settings, engine, ended)?;
                (workers, SharedState::Wireguard(device))
            }
        };
        Ok(Running {
            workers,
            copies,
            settings,
            shared,
        })
    }

    /// True if the device still has this name. Of one that is deleted, the workers' end tells.
    fn has_device(&self, name: &str) -> bool {
        let (_, open) = &self.copies;
        // the queues precede the sockets
        let mut queue = open.iter().take(1);
        queue.all(|queue| !tun::device_name(queue).is_ok_and(|present| present != name))
    }

    /// Takes over new peers while the workers run. False if they have to be started again.
    pub(super) fn update(&mut self, config: &Config) -> Result<bool, Error> {
        let mut settings = config.settings();
        // queues stay as they are, however many processors there are now
        settings.workers = self.settings.workers;
        if settings != self.settings || !self.has_device(&settings.device) {
            return Ok(false);
        }
        match (&mut self.shared, &config.engine) {
            (SharedState::Udp(shared), EngineConfig::Udp { own, routes }) => {
                shared.set(udp_peers(own, routes)?);
            }
            (SharedState::Wireguard(device), EngineConfig::Wireguard(wanted)) => {
                device.configure(wanted.config()?, Instant::now())?;
            }
            (SharedState::Udp(_) | SharedState::Wireguard(_), _) => {
                return Err(Error::OtherEngine(config.engine.name()));
            }
        }
        Ok(true)
    }
}

fn udp_peers(own: &[String], routes: &[(String, SocketAddr)]) -> Result<Peers, Error> {
    let subnet = |text: &String| -> Result<IpNetwork, Error> {
        text.parse().map_err(|_| Error::Subnet(text.clone()))
    };
    let own: Vec<_> = own
        .iter()
        .map(|text| Ok((subnet(text)?, ())))
        .collect::<Result<_, Error>>()?;
    let routes: Vec<_> = routes
        .iter()
        .map(|(text, peer)| Ok((subnet(text)?, *peer)))
        .collect::<Result<_, Error>>()?;
    Ok(Peers {
        routes: PrefixTable::new(routes)?,
        own: PrefixTable::new(own)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_checked() {
        let config = |own: &str, route: &str| Config {
            device: "flannel0".to_owned(),
            address: None,
            address_v6: None,
            port: Some(8285),
            port_v6: None,
            keeps_peers: false,
            engine: EngineConfig::Udp {
                own: vec![own.to_owned()],
                routes: vec![
                    (route.to_owned(), ([192, 0, 2, 1], 8285).into()),
                    ("10.1.3.0/24".to_owned(), ([192, 0, 2, 3], 8285).into()),
                ],
            },
        };
        config("10.1.1.0/24", "10.1.2.0/24").check().unwrap();
        for (own, route) in [
            ("10.1.1.0/33", "10.1.2.0/24"),
            ("10.1.1.0/24", ""),
            ("10.1.1.0/24", "10.1.0.0/16"),
        ] {
            assert!(config(own, route).check().is_err(), "{own} {route}");
        }
    }

    #[test]
    fn peers_stay_if_asked_for() {
        let config = |keeps_peers: bool, routes: &[(&str, u8)]| Config {
            device: "flannel0".to_owned(),
            address: None,
            address_v6: None,
            port: Some(8285),
            port_v6: None,
            keeps_peers,
            engine: EngineConfig::Udp {
                own: vec!["10.1.1.0/24".to_owned()],
                routes: routes
                    .iter()
                    .map(|(subnet, n)| ((*subnet).to_owned(), ([192, 0, 2, *n], 8285).into()))
                    .collect(),
            },
        };
        let present = config(false, &[("10.1.2.0/24", 2), ("10.1.3.0/24", 3)]);
        let after = |keeps_peers: bool, routes: &[(&str, u8)]| {
            let mut later = config(keeps_peers, routes);
            later.keep(&present);
            later
        };
        let moved = ("10.1.2.0/24", 9);
        assert!(after(false, &[moved]) == config(false, &[moved]));
        let both = [moved, ("10.1.3.0/24", 3)];
        assert!(after(true, &[moved]) == config(true, &both));
        let wide = ("10.1.2.0/23", 9);
        assert!(after(true, &[wide]) == config(true, &[wide]));
    }
}
