//! The file subnet.env, from which the plugins learn this node's subnet. Crate `subnet_env` has its
//! format; this module keeps the file in place.

use crate::{
    best_effort::best_effort, files::FILE, model::lease::Lease,
    model::network_config::NetworkConfig,
};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use std::{fs, io, path::Path};
use subnet_env::{Previous, SubnetEnv};

/// Bytes that are read of an earlier run's file: more than any has.
const MAX_SIZE: u64 = 64 << 10;

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

/// Writes the file unless it has the content; true if it was written. An empty folder of its name,
/// as a container runtime makes one for a volume that does not exist, is replaced.
pub(crate) fn ensure(path: &Path, content: &str) -> io::Result<bool> {
    if is_current(path, content) {
        return Ok(false);
    }
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
        fs::remove_dir(path)?;
    }
    FILE.write(path, content.as_bytes())?;
    Ok(true)
}

/// True if the file has the content.
pub(crate) fn is_current(path: &Path, content: &str) -> bool {
    // one byte more shows that the file is longer
    let max = u64::try_from(content.len()).unwrap_or(u64::MAX);
    let read = atomic_file::read(path, max.saturating_add(1));
    read.is_ok_and(|bytes| bytes == content.as_bytes())
}

/// The networks and subnets that an earlier run wrote. A missing or broken file has none.
pub(crate) fn previous(path: &Path) -> Previous {
    let read = atomic_file::read(path, MAX_SIZE);
    let bytes = best_effort(read, "there is no earlier subnet to ask for");
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
