//! The file subnet.env, from which the plugins learn this node's subnet. Crate `subnet_env` has its
//! format; this module keeps the file in place.

use crate::{
    best_effort::best_effort, files::FILE, model::lease::Lease,
    model::network_config::NetworkConfig,
};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use std::{fs, io, path::Path};
use subnet_env::{Previous, SubnetEnv};

/// The content for this node's lease. A subnet is written as its first usable address.
pub(crate) fn content(config: &NetworkConfig, own: &Lease, mtu: u32, ip_masq: bool) -> String {
    let v4 = own.subnets.v4.filter(|_| config.enable_ipv4);
    let v6 = own.subnets.v6.filter(|_| config.enable_ipv6);
    SubnetEnv {
        networks: config.network.map(IpNetwork::V4).into_iter().collect(),
        subnet: v4.map(gateway_v4),
        ipv6_networks: config.ipv6_network.map(IpNetwork::V6).into_iter().collect(),
        ipv6_subnet: v6.map(gateway_v6),
        mtu,
        ip_masq,
    }
    .render()
}

/// Writes the file unless it has the content; true if it was written.
pub(crate) fn ensure(path: &Path, content: &str) -> io::Result<bool> {
    if is_current(path, content) {
        return Ok(false);
    }
    FILE.write(path, content.as_bytes())?;
    Ok(true)
}

/// True if the file has the content.
pub(crate) fn is_current(path: &Path, content: &str) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes == content.as_bytes())
}

/// The networks and subnets that an earlier run wrote. A missing or broken file has none.
pub(crate) fn previous(path: &Path) -> Previous {
    let bytes = best_effort(fs::read(path), "there is no earlier subnet to ask for");
    subnet_env::previous(&String::from_utf8_lossy(&bytes.unwrap_or_default()))
}

fn gateway_v4(subnet: Ipv4Network) -> IpNetwork {
    let first = subnet.network().to_bits().saturating_add(1);
    Ipv4Network::new(first.into(), subnet.prefix())
        .unwrap_or(subnet)
        .into()
}

fn gateway_v6(subnet: Ipv6Network) -> IpNetwork {
    let first = subnet.network().to_bits().saturating_add(1);
    Ipv6Network::new(first.into(), subnet.prefix())
        .unwrap_or(subnet)
        .into()
}
