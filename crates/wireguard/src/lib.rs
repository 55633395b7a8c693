//! WireGuard without a kernel module: a device with a key and peers that turns IP packets into
//! datagrams and datagrams into IP packets. It does no input and output of its own, so that tests
//! drive it in memory; the data path of `flanneld` gives it a TUN device and sockets.
//!
//! The protocol is `boringtun`'s `noise::Tunn`, one for each peer; what the kernel's module does
//! around it is here: peers by key and by receiver index, allowed IPs, the limit of handshakes,
//! packets that wait for a handshake, roaming, keepalives.

mod allowed_ips;
mod config;
mod device;
pub mod fuzz;
mod inner;
mod peer;
#[cfg(test)]
mod tests;
mod waiting;
mod worker;

pub use config::{DeviceConfig, PeerConfig, PresharedKey, PrivateKey, PublicKey, TooManyPeers};
pub use device::{Device, PeerStatus};
pub use worker::{Output, Sent, Worker};
