//! The `portmap` plugin: traffic through host ports, the rules of both back ends, and their
//! removal.

mod cleaning;
mod iptables;
mod nftables;
mod stage;
mod traffic;
