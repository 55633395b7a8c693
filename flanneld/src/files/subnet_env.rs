//! subnet.env, by which the plugins learn what this node leased. Its text is `subnet_env`'s; here it is kept in
//! its place: written whole and durably, and again whenever it is missing or not what it should be.
use crate::{files::FILE, model::lease::Lease, model::network_config::NetworkConfig};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use std::{io, path::Path};
use subnet_env::SubnetEnv;

/// The content for our lease. A subnet is told as its first usable address.
pub fn content(config: &NetworkConfig, own: &Lease, mtu: u32, ip_masq: bool) -> String {
    let v4 = own.subnets.v4.filter(|_| config.enable_ipv4);
    let v6 = own.subnets.v6.filter(|_| config.enable_ipv6);
    let gateway = |subnet: Ipv4Network| {
        let first = u32::from(subnet.network()).saturating_add(1);
        Ipv4Network::new(first.into(), subnet.prefix()).unwrap_or(subnet)
    };
    let gateway_v6 = |subnet: Ipv6Network| {
        let first = u128::from(subnet.network()).saturating_add(1);
        Ipv6Network::new(first.into(), subnet.prefix()).unwrap_or(subnet)
    };
    SubnetEnv {
        networks: config.network.map(IpNetwork::V4).into_iter().collect(),
        subnet: v4.map(gateway).map(IpNetwork::V4),
        ipv6_networks: config.ipv6_network.map(IpNetwork::V6).into_iter().collect(),
        ipv6_subnet: v6.map(gateway_v6).map(IpNetwork::V6),
        mtu,
        ip_masq,
    }
    .render()
}

/// Writes it unless it is there already; true if it was written.
pub fn ensure(path: &Path, text: &str) -> io::Result<bool> {
    if is_current(path, text) {
        return Ok(false);
    }
    FILE.write(path, text.as_bytes())?;
    Ok(true)
}

/// True if the file is as it should be.
pub fn is_current(path: &Path, text: &str) -> bool {
    std::fs::read(path).is_ok_and(|bytes| bytes == text.as_bytes())
}
