//! By what an underlay is selected.

use crate::model::node_record::NodeRecord;
use ipnetwork::IpNetwork;
use regex::Regex;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the options and the network configuration ask for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selector {
    /// `-iface`: names or addresses; the first that matches wins
    pub(crate) interfaces: Vec<String>,
    /// `-iface-regex`: tried after `interfaces`
    pub(crate) patterns: Vec<Regex>,
    /// `-iface-can-reach`: tried last
    pub(crate) can_reach: Option<IpAddr>,
    /// `-public-ip`
    pub(crate) public_ip: Option<Ipv4Addr>,
    /// `-public-ipv6`
    pub(crate) public_ipv6: Option<Ipv6Addr>,
    /// the network has IPv4
    pub(crate) ipv4: bool,
    /// the network has IPv6
    pub(crate) ipv6: bool,
    /// the networks of the pods: no address inside of them is taken
    pub(crate) pod_networks: Vec<IpNetwork>,
}

impl Selector {
    /// With the addresses that the store gives this node in place of the options'.
    pub(crate) fn with_record(&self, record: &NodeRecord) -> Selector {
        Selector {
            public_ip: record.public_ip.or(self.public_ip),
            public_ipv6: record.public_ipv6.or(self.public_ipv6),
            ..self.clone()
        }
    }

    /// The network of pods that has the address: packets to it would go into the tunnel.
    pub(super) fn pod_network_of(&self, ip: IpAddr) -> Option<IpNetwork> {
        let mut networks = self.pod_networks.iter();
        networks.find(|network| network.contains(ip)).copied()
    }
}
