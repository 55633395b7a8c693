//! Packet-filter rules: this node's own in nftables or iptables, those that it left in the other
//! one, and what the CNI plugins share among pods.

pub(crate) mod host_iptables;
pub(crate) mod iptables;
pub(crate) mod nftables;
pub(crate) mod plugin_tables;
pub(crate) mod stale_chains;
pub(crate) mod stale_rules;

use crate::model::{host_state::DeviceName, lease::Lease, network_config::NetworkConfig};
use ipnetwork::IpNetwork;
use iptables::ChainNames;
use nftables::TableNames;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const MULTICAST_V4: (IpAddr, u8) = (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4);
const MULTICAST_V6: (IpAddr, u8) = (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8);

/// Which rules the options ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RuleSettings {
    /// `-ip-masq`
    pub(crate) masquerade: bool,
    /// not `-ip-masq-fully-random-disable`
    pub(crate) fully_random: bool,
    /// `-iptables-forward-rules`
    pub(crate) forward: bool,
}

/// Where a daemon's rules are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PacketFilter {
    /// In tables of its own.
    Nftables,
    /// In chains of its own in the tables nat and filter.
    Iptables,
}

/// The names of a daemon's rules in both packet filters: what it finds in the other one is of an
/// earlier configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuleNames {
    pub(crate) tables: TableNames,
    pub(crate) chains: ChainNames,
}

impl RuleNames {
    /// Upstream's.
    pub(crate) fn upstream() -> RuleNames {
        RuleNames {
            tables: nftables::names(),
            chains: ChainNames::upstream(),
        }
    }

    /// Those of a second daemon of a host, by its device; None: its backend has none.
    pub(crate) fn of_second(device: Option<&DeviceName>) -> RuleNames {
        let device = device.map_or("flannel", |name| name);
        RuleNames {
            tables: nftables::names_for(device),
            chains: ChainNames::of_device(device),
        }
    }
}

/// Where a daemon's rules are, and how they are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RulePlace {
    pub(crate) filter: PacketFilter,
    pub(crate) names: RuleNames,
}

/// What the rules of one family name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nets {
    /// the pod network
    pub(crate) network: IpNetwork,
    /// this node's part of it
    pub(crate) subnet: IpNetwork,
    pub(crate) multicast: IpNetwork,
}

/// None for a family that the network does not have.
fn nets<N: Into<IpNetwork>>(
    network: Option<N>,
    subnet: Option<N>,
    (multicast, prefix): (IpAddr, u8),
) -> Option<Nets> {
    Some(Nets {
        network: network?.into(),
        subnet: subnet?.into(),
        multicast: IpNetwork::new(multicast, prefix).ok()?,
    })
}

/// Of IPv4 and of IPv6; None for a family that the network does not have.
fn nets_of(config: &NetworkConfig, own: &Lease) -> [Option<Nets>; 2] {
    let v4 = config.network.filter(|_| config.enable_ipv4);
    let v6 = config.ipv6_network.filter(|_| config.enable_ipv6);
    [
        nets(v4, own.subnets.v4, MULTICAST_V4),
        nets(v6, own.subnets.v6, MULTICAST_V6),
    ]
}
