//! WireGuard devices by generic netlink (linux/wireguard.h WG_CMD_*): keys, port and peers. The
//! link itself is one of rtnetlink: [`create_wireguard`](crate::link::create_wireguard).

mod keys;
mod read;
mod write;

use crate::{
    Error, NetNs, Request, Result,
    generic::{self, Generic},
    netlink::Mode,
};
use ipnetwork::IpNetwork;
use netlink_packet_wireguard::{WireguardAttribute, WireguardCmd, WireguardMessage};
use std::{net::SocketAddr, time::Duration};

pub(crate) use read::fuzz;

pub use keys::{InvalidKey, KEY_LEN, PresharedKey, PrivateKey, PublicKey};

/// The family's name.
const FAMILY: &str = "wireguard";

/// A device as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// WGDEVICE_A_PRIVATE_KEY; None until one is set
    pub private_key: Option<PrivateKey>,
    /// WGDEVICE_A_PUBLIC_KEY; None until there is a private one
    pub public_key: Option<PublicKey>,
    /// WGDEVICE_A_LISTEN_PORT: the UDP port of both address families; 0 while the device is down
    /// and none was set
    pub listen_port: u16,
    /// WGDEVICE_A_FWMARK: the mark of the packets that leave; 0 is none
    pub fwmark: u32,
    /// in the kernel's order
    pub peers: Vec<Peer>,
}

/// A peer as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// WGPEER_A_PUBLIC_KEY
    pub public_key: PublicKey,
    /// WGPEER_A_PRESHARED_KEY
    pub preshared_key: Option<PresharedKey>,
    /// WGPEER_A_ENDPOINT: where packets go to; follows the source of the peer's own packets
    pub endpoint: Option<SocketAddr>,
    /// WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL in seconds; 0 is off
    pub keepalive: u16,
    /// WGPEER_A_LAST_HANDSHAKE_TIME since 1970; None before the first one
    pub last_handshake: Option<Duration>,
    /// WGPEER_A_RX_BYTES
    pub rx_bytes: u64,
    /// WGPEER_A_TX_BYTES
    pub tx_bytes: u64,
    /// WGPEER_A_ALLOWEDIPS: packets to them go to the peer, and it may send from them. None has
    /// host bits.
    pub allowed_ips: Vec<IpNetwork>,
}

/// A change of one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerChange {
    /// Adds it or changes it.
    Put(PutPeer),
    /// Removes it, if it is there.
    Remove(PublicKey),
    /// Begins a handshake with it, if it is there, unless it has a session or an attempt of the
    /// last five seconds: the kernel sends a keepalive packet when they are switched on
    /// (`set_peer` of drivers/net/wireguard/netlink.c).
    BeginHandshake {
        /// The peer.
        public_key: PublicKey,
        /// The interval that it has, as [`PutPeer::keepalive`]: it stays.
        keepalive: u16,
    },
}

/// A peer as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutPeer {
    /// Names it.
    pub public_key: PublicKey,
    /// None: one that it had is removed.
    pub preshared_key: Option<PresharedKey>,
    /// None: one that it had stays.
    pub endpoint: Option<SocketAddr>,
    /// In seconds; 0 turns it off.
    pub keepalive: u16,
    /// They are added. One that another peer of the device has moves to this one.
    pub allowed_ips: Vec<IpNetwork>,
    /// Those that it had go before.
    pub replace_allowed_ips: bool,
}

impl PeerChange {
    /// The peer.
    pub fn public_key(&self) -> PublicKey {
        match self {
            PeerChange::Put(peer) => peer.public_key,
            PeerChange::Remove(key) => *key,
            PeerChange::BeginHandshake { public_key, .. } => *public_key,
        }
    }
}

/// The socket of the family. It stays in the namespace that it was opened in.
#[derive(Debug)]
pub struct Wireguard {
    generic: Generic,
    family: u16,
}

impl Wireguard {
    /// Opens it in the calling thread's namespace. The error [`is_absent`](Error::is_absent) on a
    /// kernel without WireGuard.
    pub fn open() -> Result<Self> {
        Self::of(Generic::open()?)
    }

    /// Opens it in another namespace.
    pub fn open_in(ns: &NetNs) -> Result<Self> {
        Self::of(Generic::open_in(ns)?)
    }

    fn of(mut generic: Generic) -> Result<Self> {
        let family = generic.family(FAMILY)?;
        Ok(Self { generic, family })
    }

    /// The device with that ifindex. The error [`is_absent`](Error::is_absent) if there is none,
    /// and is EOPNOTSUPP if the link is of another kind.
    pub fn device(&mut self, index: u32) -> Result<Device> {
        let message = WireguardMessage {
            cmd: WireguardCmd::GetDevice,
            attributes: vec![WireguardAttribute::IfIndex(index)],
        };
        let what = format!("read WireGuard device of link {index}");
        let request = generic::request(self.family, Mode::Dump, message, what.clone());
        let client = &mut self.generic.client;
        let parts = client.dump(&request, |_, payload| read::part(payload).map(Some))?;
        read::merge(parts).map_err(|reason| Error::Decode {
            what,
            reason: reason.0,
        })
    }

    /// Sets the private key, the port or both. A port that another socket has is EADDRINUSE.
    pub fn set_device(
        &mut self,
        index: u32,
        private_key: Option<&PrivateKey>,
        listen_port: Option<u16>,
    ) -> Result<()> {
        let request = write::device(self.family, index, private_key, listen_port);
        self.generic.client.request(&request)
    }

    /// Changes peers, in order and in as few packets as the buffers allow. Returns an answer for
    /// each; one that is refused does not stop the others.
    pub fn change_peers(&mut self, index: u32, changes: &[PeerChange]) -> Vec<Result<()>> {
        let pieces = |change| write::peer(self.family, index, change);
        let pieces: Vec<_> = changes.iter().map(pieces).collect();
        let counts: Vec<_> = pieces.iter().map(Vec::len).collect();
        let requests: Vec<Request> = pieces.into_iter().flatten().collect();
        let mut answers = self.generic.client.batch(&requests).into_iter();
        let answer = |count| answers.by_ref().take(count).fold(Ok(()), Result::and);
        counts.into_iter().map(answer).collect()
    }
}
