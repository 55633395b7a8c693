//! The configuration of the engine of WireGuard, as it is sent to the process: keys are base64.

use crate::model::wireguard::{Interface, Peer, Peers, Wireguard};
use ipnetwork::IpNetwork;
use linux_net::wireguard::{InvalidKey, PresharedKey, PrivateKey, PublicKey};
use serde::{Deserialize, Serialize};
use std::{collections::HashSet, net::SocketAddr, sync::Arc};

/// A device. Not `Debug`: it has secrets.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Device {
    private_key: String,
    /// Of packets inside of the tunnel, in bytes.
    mtu: u32,
    peers: Vec<PeerOfDevice>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PeerOfDevice {
    public_key: String,
    preshared_key: Option<String>,
    endpoint: Option<SocketAddr>,
    keepalive: u16,
    allowed_ips: Vec<String>,
}

/// Why a device cannot be served. No text has a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("the private key: {0}")]
    PrivateKey(#[source] InvalidKey),
    #[error("a key of a peer: {0}")]
    PeerKey(#[source] InvalidKey),
    #[error("{0:?} is not a subnet of a peer")]
    Subnet(String),
}

impl Device {
    /// The wanted state of a device; None if it has no private key.
    pub(crate) fn of(wanted: &Wireguard, mtu: u32) -> Option<Device> {
        let Wireguard { interface, peers } = wanted;
        let Interface {
            private_key,
            listen_port: _,
        } = interface;
        Some(Device {
            private_key: private_key.as_ref()?.text(),
            mtu,
            peers: of_peers(peers),
        })
    }

    /// Adds the peers of another configuration whose key and subnets this has not.
    pub(super) fn keep(&mut self, before: &Device) {
        let keys: HashSet<_> = self.peers.iter().map(|peer| &peer.public_key).collect();
        let nets = self.peers.iter().flat_map(|peer| &peer.allowed_ips);
        let nets: HashSet<_> = nets.collect();
        let is_further = |peer: &&PeerOfDevice| {
            !keys.contains(&peer.public_key)
                && !peer.allowed_ips.iter().any(|net| nets.contains(net))
        };
        let further: Vec<_> = before.peers.iter().filter(is_further).cloned().collect();
        self.peers.extend(further);
    }

    /// The number of peers.
    pub(super) fn peers(&self) -> usize {
        self.peers.len()
    }

    /// What the engine reads.
    pub(super) fn config(&self) -> Result<::wireguard::DeviceConfig, Error> {
        let key: PrivateKey = self.private_key.parse().map_err(Error::PrivateKey)?;
        let peers = self.peers.iter().map(PeerOfDevice::config);
        Ok(::wireguard::DeviceConfig {
            private_key: ::wireguard::PrivateKey::new(*key.bytes()),
            mtu: usize::try_from(self.mtu).unwrap_or(usize::MAX),
            peers: peers.collect::<Result<_, Error>>()?,
        })
    }
}

fn of_peers(peers: &Peers) -> Vec<PeerOfDevice> {
    let each = |(key, peer): (&PublicKey, &Arc<Peer>)| {
        let Peer {
            preshared_key,
            endpoint,
            keepalive,
            allowed_ips,
            session: _,
        } = &**peer;
        PeerOfDevice {
            public_key: key.to_string(),
            preshared_key: preshared_key.as_ref().map(PresharedKey::text),
            endpoint: *endpoint,
            keepalive: *keepalive,
            allowed_ips: allowed_ips.iter().map(ToString::to_string).collect(),
        }
    };
    peers.iter().map(each).collect()
}

impl PeerOfDevice {
    fn config(&self) -> Result<::wireguard::PeerConfig, Error> {
        let public_key: PublicKey = self.public_key.parse().map_err(Error::PeerKey)?;
        let preshared_key = self.preshared_key.as_ref().map(|key| key.parse());
        let preshared_key: Option<PresharedKey> =
            preshared_key.transpose().map_err(Error::PeerKey)?;
        let nets = self.allowed_ips.iter().map(|text| {
            let net: Result<IpNetwork, _> = text.parse();
            net.map_err(|_| Error::Subnet(text.clone()))
        });
        Ok(::wireguard::PeerConfig {
            public_key: ::wireguard::PublicKey(public_key.0),
            preshared_key: preshared_key.map(|key| ::wireguard::PresharedKey(*key.bytes())),
            endpoint: self.endpoint,
            allowed_ips: nets.collect::<Result<_, Error>>()?,
            persistent_keepalive: self.keepalive,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::wireguard::Session;

    fn wanted() -> Wireguard {
        let peer = Peer {
            preshared_key: Some(PresharedKey::new([3; 32])),
            endpoint: Some(([192, 0, 2, 2], 51820).into()),
            keepalive: 25,
            allowed_ips: vec!["10.244.2.0/24".parse().unwrap()],
            session: Session::None,
        };
        Wireguard {
            interface: Interface {
                private_key: Some(PrivateKey::new([1; 32])),
                listen_port: 51820,
            },
            peers: [(PublicKey([2; 32]), Arc::new(peer))].into(),
        }
    }

    #[test]
    fn device_arrives_whole() {
        let device = Device::of(&wanted(), 1420).unwrap();
        let text = serde_json::to_string(&device).unwrap();
        let received: Device = serde_json::from_str(&text).unwrap();
        let config = received.config().unwrap();
        let key = ::wireguard::PrivateKey::new(*PrivateKey::new([1; 32]).bytes());
        assert_eq!((config.mtu, config.private_key), (1420, key));
        let [peer] = config.peers.try_into().unwrap();
        let expected = ::wireguard::PeerConfig {
            public_key: ::wireguard::PublicKey([2; 32]),
            preshared_key: Some(::wireguard::PresharedKey([3; 32])),
            endpoint: Some(([192, 0, 2, 2], 51820).into()),
            allowed_ips: vec!["10.244.2.0/24".parse().unwrap()],
            persistent_keepalive: 25,
        };
        assert_eq!(peer, expected);
    }

    #[test]
    fn device_without_key_is_none_and_bad_ones_are_refused() {
        let mut without = wanted();
        without.interface.private_key = None;
        assert!(Device::of(&without, 1420).is_none());
        let good = Device::of(&wanted(), 1420).unwrap();
        let mut bad = good.clone();
        bad.private_key = "secret".to_owned();
        let error = bad.config().unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        let mut bad = good.clone();
        bad.peers[0].preshared_key = Some("secret".to_owned());
        let error = bad.config().unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        let mut bad = good;
        bad.peers[0].allowed_ips = vec!["10.0.0.0/33".to_owned()];
        let error = bad.config().unwrap_err();
        assert_eq!(error, Error::Subnet("10.0.0.0/33".to_owned()));
    }
}
