//! A table of subnets that do not overlap: which value belongs to an address.

use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// A sorted table. A look-up takes a number of steps that grows with the logarithm of its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixTable<T> {
    v4: Vec<(u32, u32, T)>,
    v6: Vec<(u128, u128, T)>,
}

/// Two of a table's subnets overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("subnets of the table overlap")]
pub struct OverlappingPrefixes;

impl<T> Default for PrefixTable<T> {
    fn default() -> Self {
        PrefixTable {
            v4: Vec::new(),
            v6: Vec::new(),
        }
    }
}

impl<T> PrefixTable<T> {
    /// Makes a table of subnets and their values.
    pub fn new(
        entries: impl IntoIterator<Item = (IpNetwork, T)>,
    ) -> Result<PrefixTable<T>, OverlappingPrefixes> {
        let mut table = PrefixTable::default();
        for (subnet, value) in entries {
            match subnet {
                IpNetwork::V4(net) => {
                    table
                        .v4
                        .push((net.network().to_bits(), net.broadcast().to_bits(), value));
                }
                IpNetwork::V6(net) => {
                    table
                        .v6
                        .push((net.network().to_bits(), net.broadcast().to_bits(), value));
                }
            }
        }
        table.v4.sort_unstable_by_key(|entry| entry.0);
        table.v6.sort_unstable_by_key(|entry| entry.0);
        let overlap = table.v4.windows(2).any(|pair| pair[0].1 >= pair[1].0)
            || table.v6.windows(2).any(|pair| pair[0].1 >= pair[1].0);
        if overlap {
            Err(OverlappingPrefixes)
        } else {
            Ok(table)
        }
    }

    /// The value of the subnet that has the address.
    pub fn get(&self, ip: IpAddr) -> Option<&T> {
        match ip {
            IpAddr::V4(ip) => find(&self.v4, ip.to_bits()),
            IpAddr::V6(ip) => find(&self.v6, ip.to_bits()),
        }
    }

    /// The number of subnets.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// True if it has no subnet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn find<K: Ord + Copy, T>(entries: &[(K, K, T)], key: K) -> Option<&T> {
    let after = entries.partition_point(|entry| entry.0 <= key);
    let (_, last, value) = entries.get(after.checked_sub(1)?)?;
    (key <= *last).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_belongs_to_the_subnet_that_has_it() {
        let subnets = [
            "10.1.2.0/24",
            "10.1.1.0/24",
            "10.1.4.0/22",
            "fd00:1::/64",
            "fd00:0:2::/64",
        ];
        let table = PrefixTable::new(
            subnets
                .iter()
                .enumerate()
                .map(|(at, net)| (net.parse().unwrap(), at)),
        );
        let table = table.unwrap();
        for (ip, expected) in [
            ("10.1.2.0", Some(0)),
            ("10.1.2.255", Some(0)),
            ("10.1.1.77", Some(1)),
            ("10.1.3.0", None),
            ("10.1.7.255", Some(2)),
            ("10.1.8.0", None),
            ("10.1.0.255", None),
            ("0.0.0.0", None),
            ("255.255.255.255", None),
            ("fd00:1::ffff", Some(3)),
            ("fd00:0:2::1", Some(4)),
            ("fd00:0:3::1", None),
        ] {
            assert_eq!(table.get(ip.parse().unwrap()).copied(), expected, "{ip}");
        }
        assert_eq!(table.len(), 5);
    }

    #[test]
    fn overlap_is_refused() {
        let table =
            |subnets: [&str; 2]| PrefixTable::new(subnets.map(|net| (net.parse().unwrap(), ())));
        assert_eq!(
            table(["10.1.0.0/16", "10.1.2.0/24"]),
            Err(OverlappingPrefixes)
        );
        assert_eq!(
            table(["10.1.2.0/24", "10.1.2.0/24"]),
            Err(OverlappingPrefixes)
        );
        assert!(table(["10.1.2.0/24", "::/0"]).is_ok());
    }
}
