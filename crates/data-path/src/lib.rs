//! Moves packets between a TUN device and UDP sockets: what the backends share whose packets the
//! kernel does not move. Threads and epoll(7), no async runtime, no allocation for a packet.

mod batch;
mod checksum;
mod coalesce;
mod counters;
mod engine;
pub mod fuzz;
mod icmp;
mod io;
mod ip;
mod packet;
mod path_mtu;
mod prefixes;
mod shared;
mod socket;
mod tun;
pub mod udp;
mod vnet;
mod watch;
pub mod wireguard;
mod worker;
mod workers;

pub use batch::MAX_DATAGRAM;
pub use counters::{Counter, Counters, Totals};
pub use engine::Engine;
pub use icmp::Unreachable;
pub use io::Io;
pub use ip::{Header, Malformed, decrement_ttl, fragment};
pub use packet::{Segment, Segments, TunPacket};
pub use prefixes::{OverlappingPrefixes, PrefixTable};
pub use shared::{Reader, Shared};
pub use socket::UdpSocket;
pub use tun::Queue;
pub use workers::{Descriptors, Error, Opened, Settings, Workers};

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, Error>;
