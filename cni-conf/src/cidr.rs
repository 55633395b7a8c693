//! Strict addresses and CIDRs, as Go's `net.ParseIP` and `net.ParseCIDR` accept them
//! (no missing length, no netmask form, no leading zeros, no `/+8`). Values are `ipnetwork::IpNetwork`, host bits kept.
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// `10.244.1.5/24` with host bits kept. Err text: `invalid CIDR address: x`.
pub fn parse(_text: &str) -> Result<IpNetwork, String> {
    todo!()
}
/// `net.ParseIP`; IPv4-mapped IPv6 becomes IPv4. Err text: `invalid IP address: x`.
pub fn parse_ip(_text: &str) -> Result<IpAddr, String> {
    todo!()
}
/// The network with host bits cleared: 10.244.1.5/24 -> 10.244.1.0/24.
pub fn masked(net: IpNetwork) -> IpNetwork {
    IpNetwork::new(net.network(), net.prefix()).unwrap_or(net)
}
/// The prefix as a host route: 10.1.2.3 -> 10.1.2.3/32.
pub fn host(ip: IpAddr) -> IpNetwork {
    IpNetwork::from(ip)
}
/// 0.0.0.0/0 or ::/0 of the family.
pub fn is_default(net: &IpNetwork) -> bool {
    net.prefix() == 0 && net.ip().is_unspecified()
}

/// `#[serde(with = "cni_conf::cidr::as_text")]` for a field of type IpNetwork.
pub mod as_text {
    use ipnetwork::IpNetwork;
    use serde::{Deserializer, Serializer};
    /// Writes `a.b.c.d/n`.
    pub fn serialize<S: Serializer>(_net: &IpNetwork, _s: S) -> Result<S::Ok, S::Error> {
        todo!()
    }
    /// Reads it strictly.
    pub fn deserialize<'de, D: Deserializer<'de>>(_d: D) -> Result<IpNetwork, D::Error> {
        todo!()
    }
}
