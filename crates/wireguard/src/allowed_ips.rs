//! Cryptokey routing: the peer of an address is that of the longest allowed network around it.

use ipnetwork::IpNetwork;
use std::{collections::HashMap, net::IpAddr};

/// One table for a family: the entries by prefix length, the longest first. A cluster's peers have
/// one or two lengths, so that a look-up is one or two reads of a hash table.
#[derive(Debug)]
struct Lengths<T> {
    /// Bits of an address.
    width: u8,
    by_length: Vec<(u8, HashMap<u128, T>)>,
}

impl<T: Copy> Lengths<T> {
    fn masked(&self, address: u128, length: u8) -> u128 {
        let host = u32::from(self.width - length);
        address.checked_shr(host).unwrap_or(0)
    }

    fn insert(&mut self, address: u128, length: u8, value: T) {
        let key = self.masked(address, length);
        let found = self
            .by_length
            .binary_search_by(|(present, _)| length.cmp(present));
        let position = found.unwrap_or_else(|position| {
            self.by_length.insert(position, (length, HashMap::new()));
            position
        });
        if let Some((_, entries)) = self.by_length.get_mut(position) {
            entries.insert(key, value);
        }
    }

    fn get(&self, address: u128) -> Option<T> {
        let mut lengths = self.by_length.iter();
        lengths.find_map(|(length, entries)| entries.get(&self.masked(address, *length)).copied())
    }
}

/// The values of networks of both families.
#[derive(Debug)]
pub(crate) struct AllowedIps<T> {
    v4: Lengths<T>,
    v6: Lengths<T>,
}

impl<T: Copy> AllowedIps<T> {
    pub(crate) fn new() -> Self {
        let lengths = |width| Lengths {
            width,
            by_length: Vec::new(),
        };
        Self {
            v4: lengths(32),
            v6: lengths(128),
        }
    }

    /// Gives the network to `value`, also where another one had it.
    pub(crate) fn insert(&mut self, network: IpNetwork, value: T) {
        match network {
            IpNetwork::V4(network) => {
                let address = u32::from(network.ip());
                self.v4.insert(address.into(), network.prefix(), value);
            }
            IpNetwork::V6(network) => {
                self.v6.insert(network.ip().into(), network.prefix(), value);
            }
        }
    }

    pub(crate) fn get(&self, address: IpAddr) -> Option<T> {
        match address {
            IpAddr::V4(address) => self.v4.get(u32::from(address).into()),
            IpAddr::V6(address) => self.v6.get(address.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn network() -> impl Strategy<Value = IpNetwork> {
        let v4 = (0..=u32::MAX, 0..=32u8).prop_map(|(address, length)| {
            IpNetwork::new(IpAddr::V4(Ipv4Addr::from(address)), length).unwrap()
        });
        let v6 = (0..=u128::MAX, 0..=128u8).prop_map(|(address, length)| {
            IpNetwork::new(IpAddr::V6(Ipv6Addr::from(address)), length).unwrap()
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        /// The table agrees with a look at every network.
        #[test]
        fn the_longest_network_around_an_address_is_found(
            networks in vec(network(), 0..40),
            other in network(),
        ) {
            let mut table = AllowedIps::new();
            for (value, network) in networks.iter().enumerate() {
                table.insert(*network, value);
            }
            for address in networks.iter().chain([&other]).map(IpNetwork::ip) {
                let around = networks.iter().enumerate().filter(|(_, each)| each.contains(address));
                // of equal ones the last
                let expected = around.max_by_key(|(_, each)| each.prefix()).map(|(value, _)| value);
                prop_assert_eq!(table.get(address), expected);
            }
        }
    }
}
