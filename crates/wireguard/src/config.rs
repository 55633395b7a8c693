//! What a device is told: its private key and its peers.

use boringtun::x25519;
use ipnetwork::IpNetwork;
use std::{fmt, net::SocketAddr};

/// The length of every key in bytes.
pub(crate) const KEY_LENGTH: usize = 32;

/// More peers than receiver indices: 24 bits of an index name the peer.
#[derive(Debug, thiserror::Error)]
#[error("{0} peers are too many for one device: it has room for {limit}", limit = MAX_PEERS)]
pub struct TooManyPeers(pub usize);

/// The peers that a device takes. Random indices of 24 bits are then found at once.
pub(crate) const MAX_PEERS: usize = 1 << 20;

/// A peer's public key: its identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; KEY_LENGTH]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// The device's private key. It is overwritten when it is dropped, and never printed.
#[derive(Clone)]
pub struct PrivateKey(x25519::StaticSecret);

impl PrivateKey {
    /// A key of these bytes. Curve25519's arithmetic clamps them, as the kernel does.
    pub fn new(bytes: [u8; KEY_LENGTH]) -> Self {
        Self(bytes.into())
    }

    /// The public key that belongs to it.
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519::PublicKey::from(&self.0).to_bytes())
    }

    pub(crate) fn secret(&self) -> &x25519::StaticSecret {
        &self.0
    }
}

impl PartialEq for PrivateKey {
    fn eq(&self, other: &Self) -> bool {
        self.public() == other.public()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PrivateKey(hidden)")
    }
}

/// A secret that both ends of a pair mix into their handshakes. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PresharedKey(pub [u8; KEY_LENGTH]);

impl fmt::Debug for PresharedKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PresharedKey(hidden)")
    }
}

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Names the peer; the key of two entries is never the same.
    pub public_key: PublicKey,
    /// Absent: 32 zero bytes, as the protocol says.
    pub preshared_key: Option<PresharedKey>,
    /// Where it is reached until a packet of it comes from elsewhere. Absent: it must speak first.
    pub endpoint: Option<SocketAddr>,
    /// What it may send from, and what is sent to it.
    pub allowed_ips: Vec<IpNetwork>,
    /// Seconds without a packet after which an empty one goes to it; 0 is never.
    pub persistent_keepalive: u16,
}

/// A device's whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceConfig {
    /// Its own key.
    pub private_key: PrivateKey,
    /// The longest IP packet inside of the tunnel, in bytes.
    pub mtu: usize,
    /// Its peers. Of two with one allowed network the later one has it, as in the kernel.
    pub peers: Vec<PeerConfig>,
}
