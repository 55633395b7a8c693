//! net-conf.json: the network that the cluster shares (upstream: pkg/subnet/config.go).
use ipnetwork::{Ipv4Network, Ipv6Network};
use std::net::{Ipv4Addr, Ipv6Addr};
/// The configuration, defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkConfig {
    /// default true
    pub enable_ipv4: bool,
    /// default false
    pub enable_ipv6: bool,
    /// rules by nftables
    pub enable_nftables: bool,
    /// masked
    pub network: Option<Ipv4Network>,
    /// masked
    pub ipv6_network: Option<Ipv6Network>,
    /// first subnet that may be leased
    pub subnet_min: Option<Ipv4Addr>,
    /// last
    pub subnet_max: Option<Ipv4Addr>,
    /// prefix length of a subnet, 0 while not known
    pub subnet_len: u8,
    /// IPv6
    pub ipv6_subnet_min: Option<Ipv6Addr>,
    /// IPv6
    pub ipv6_subnet_max: Option<Ipv6Addr>,
    /// IPv6
    pub ipv6_subnet_len: u8,
    /// lower-cased `Backend.Type`; "udp" if Backend is absent, "" if it has no Type
    pub backend_type: String,
    /// the whole Backend object
    pub backend: serde_json::Map<String, serde_json::Value>,
    /// the text it was read from, for GET config
    pub raw: String,
}
impl NetworkConfig {
    /// Parses by Go's rules (case-insensitive keys) with upstream's messages; no checks of subnets.
    pub fn parse(_text: &str) -> Result<NetworkConfig, String> {
        todo!()
    }
    /// Fills in and checks SubnetLen, SubnetMin, SubnetMax (etcd and embedded managers), messages as upstream's.
    pub fn check_subnets(&mut self) -> Result<(), String> {
        todo!()
    }
}
