//! flanneld on hosts in namespaces: what it creates, what it restores, what it leaves alone.

mod alloc;
mod bad_leases;
mod blackhole;
mod boot;
mod bounds;
mod cleanup;
pub(crate) mod cluster;
mod configuration;
mod extension;
mod foreign;
mod full_disk;
mod host_gw;
mod instances;
mod ipsec;
mod iptables;
mod join;
mod lifecycle;
mod link_state;
mod nat;
mod own_certificate;
mod restore;
mod scale;
mod start;
pub(crate) mod store_away;
mod udp;
mod underlay_changes;
mod user_space_wireguard;
