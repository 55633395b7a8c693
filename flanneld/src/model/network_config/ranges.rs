//! Which networks pods can have, on any host, on this host, and with this node's lease.

use super::{Error, NetworkConfig};
use crate::model::Subnets;
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that no pod can have, by what they are for.
const UNUSABLE: [(&str, IpAddr, u8); 7] = [
    ("loopback", IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    ("link-local", IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    ("multicast", IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4),
    ("\"this network\"", IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8),
    ("loopback", IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    (
        "link-local",
        IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)),
        10,
    ),
    (
        "multicast",
        IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)),
        8,
    ),
];

impl NetworkConfig {
    /// The networks of the enabled families, with their keys.
    pub(crate) fn networks(&self) -> impl Iterator<Item = (&'static str, IpNetwork)> {
        let v4 = self.network.filter(|_| self.enable_ipv4);
        let v6 = self.ipv6_network.filter(|_| self.enable_ipv6);
        let v4 = v4.map(|network: Ipv4Network| ("Network", network.into()));
        let v6 = v6.map(|network: Ipv6Network| ("IPv6Network", network.into()));
        v4.into_iter().chain(v6)
    }

    /// The networks of the pods.
    pub(crate) fn pod_networks(&self) -> impl Iterator<Item = IpNetwork> {
        self.networks().map(|(_, network)| network)
    }

    /// Refuses a network of which no host can route every address. 0.0.0.0/0 and ::/0 mean "not
    /// set".
    pub(super) fn check_ranges(&self) -> Result<(), Error> {
        for (key, network) in self.networks().filter(|(_, network)| network.prefix() > 0) {
            let overlaps = |(_, first, prefix): &&(&str, IpAddr, u8)| {
                network.contains(*first)
                    || IpNetwork::new(*first, *prefix)
                        .is_ok_and(|range| range.contains(network.ip()))
            };
            if let Some((range, _, _)) = UNUSABLE.iter().find(overlaps) {
                return Err(Error::UnusableRange {
                    key,
                    network,
                    range,
                });
            }
        }
        Ok(())
    }

    /// Refuses a network that contains an address by which this node is reached.
    pub(crate) fn check_underlay(
        &self,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<(), Error> {
        for address in addresses {
            let contains = |(_, network): &(&str, IpNetwork)| network.contains(address);
            if let Some((key, network)) = self.networks().find(contains) {
                return Err(Error::ContainsUnderlay {
                    key,
                    network,
                    address,
                });
            }
        }
        Ok(())
    }

    /// True if these are subnets that this configuration leases. It has passed `check_subnets`.
    pub(crate) fn may_lease(&self, subnets: &Subnets) -> bool {
        let v4 = subnets.v4.is_some_and(|subnet| {
            let range = self.subnet_min..=self.subnet_max;
            subnet.prefix() == self.subnet_len && range.contains(&Some(subnet.network()))
        });
        let v6 = subnets.v6.is_some_and(|subnet| {
            let range = self.ipv6_subnet_min..=self.ipv6_subnet_max;
            subnet.prefix() == self.ipv6_subnet_len && range.contains(&Some(subnet.network()))
        });
        (v4, v6) == (self.enable_ipv4, self.enable_ipv6)
    }

    /// Refuses a lease without a subnet of each enabled family's network.
    pub(crate) fn check_lease(&self, subnets: &Subnets) -> Result<(), Error> {
        for (key, network) in self.networks() {
            let subnet: Option<IpNetwork> = match network {
                IpNetwork::V4(_) => subnets.v4.map(Into::into),
                IpNetwork::V6(_) => subnets.v6.map(Into::into),
            };
            let subnet = subnet.ok_or(Error::LeaseWithout { key, network })?;
            if !network.contains(subnet.ip()) || subnet.prefix() < network.prefix() {
                return Err(Error::LeaseOutside {
                    key,
                    network,
                    subnet,
                });
            }
        }
        Ok(())
    }
}
