//! Packet-filter rules: ours by nftables, Go flanneld's by iptables, and the tables of the CNI plugins.
pub mod legacy_chains;
pub mod nftables;
pub mod plugin_tables;
