//! The etcd subnet manager, and the Go flanneld at the same etcd.

mod bad_values;
mod beside_go;
mod both_makes;
pub(crate) mod cluster;
mod go_flanneld;
mod host_gw;
mod ipip;
mod ipsec;
mod iptables;
mod leases;
mod outages;
mod scale;
mod security;
mod server;
mod start;
mod wireguard;
