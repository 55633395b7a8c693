//! Whether a lease of an export is written to a store. Pure.

use crate::{
    model::{
        Subnets,
        lease::{Lease, LeaseAttrs},
        network_config::NetworkConfig,
    },
    subnet::alloc::{self, Owned},
};
use std::fmt;

/// What happens to a lease that is imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The store does not have it: it is written.
    Added,
    /// The node holds these subnets in the store: its attributes there are newer, and stay.
    Present,
    /// The store's network does not have such subnets.
    Outside(alloc::Error),
    /// The lease names no public address, so that no node could be recognised by it.
    NoAddress,
    /// Another node holds an overlapping lease.
    HeldBy { subnets: Subnets, node: String },
    /// The node holds other subnets.
    NodeHolds { node: String, subnets: Subnets },
}

impl Outcome {
    /// True if the store has the lease afterwards.
    pub(crate) fn is_success(&self) -> bool {
        matches!(self, Outcome::Added | Outcome::Present)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Added => f.write_str("added"),
            Outcome::Present => f.write_str("already there"),
            Outcome::Outside(error) => error.fmt(f),
            Outcome::NoAddress => f.write_str("it has neither PublicIP nor PublicIPv6"),
            Outcome::HeldBy { subnets, node } => write!(f, "{subnets} belongs to {node} there"),
            Outcome::NodeHolds { node, subnets } => write!(f, "{node} has {subnets} there"),
        }
    }
}

/// Decides for one lease; `held` are the leases and reservations of the store, and `config` its
/// network, which has passed `check_subnets`.
pub(crate) fn decide(config: &NetworkConfig, held: &[Owned<'_>], lease: &Lease) -> Outcome {
    let (subnets, attrs) = (lease.subnets, &lease.attrs);
    if attrs.public_ip.is_none() && attrs.public_ipv6.is_none() {
        return Outcome::NoAddress;
    }
    if let Err(error) = alloc::check_reservable(config, &subnets) {
        return Outcome::Outside(error);
    }
    let same_node = |(_, owner): &&Owned<'_>| LeaseAttrs::same_node(owner, attrs);
    let other_node = held.iter().filter(|owned| !same_node(owned));
    let mut taken = other_node.filter(|(other, _)| other.overlaps(&subnets));
    if let Some((other, owner)) = taken.next() {
        return Outcome::HeldBy {
            subnets: *other,
            node: owner.node(),
        };
    }
    let own: Vec<Subnets> = held.iter().filter(same_node).map(|(own, _)| *own).collect();
    match own.iter().find(|own| **own != subnets) {
        Some(other) => Outcome::NodeHolds {
            node: attrs.node(),
            subnets: *other,
        },
        None if own.is_empty() => Outcome::Added,
        None => Outcome::Present,
    }
}

/// Two overlapping entries of a sorted list.
///
/// In IPv4, blocks are nested or apart, so that an overlap shows between neighbours. IPv6 parts
/// follow another order, and are compared in a sorted list of their own.
pub(super) fn first_overlap(sorted: &[Subnets]) -> Option<(Subnets, Subnets)> {
    let mut by_v6: Vec<Subnets> = sorted
        .iter()
        .filter(|one| one.v6.is_some())
        .copied()
        .collect();
    by_v6.sort_unstable_by_key(|one| one.v6);
    [sorted, &by_v6]
        .into_iter()
        .flat_map(|list| list.windows(2))
        .find(|pair| pair[0].overlaps(&pair[1]))
        .map(|pair| (pair[0], pair[1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config() -> NetworkConfig {
        let mut config =
            NetworkConfig::parse(r#"{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}"#)
                .unwrap();
        config.check_subnets().unwrap();
        config
    }

    fn attrs(number: u8) -> LeaseAttrs {
        LeaseAttrs {
            public_ip: Some([192, 0, 2, number].into()),
            ..LeaseAttrs::default()
        }
    }

    fn decide_for(held: &[(&str, u8)], subnets: &str, node: u8) -> String {
        let held: Vec<_> = held
            .iter()
            .map(|(subnets, node)| (subnets.parse().unwrap(), attrs(*node)))
            .collect();
        let held: Vec<Owned<'_>> = held.iter().map(|(key, attrs)| (*key, attrs)).collect();
        let lease = Lease {
            subnets: subnets.parse().unwrap(),
            attrs: attrs(node),
            expiration: None,
        };
        decide(&config(), &held, &lease).to_string()
    }

    #[test]
    fn nothing_in_the_store_is_replaced() {
        assert_eq!(decide_for(&[], "10.1.2.0-24", 1), "added");
        assert_eq!(
            decide_for(&[("10.1.2.0-24", 1)], "10.1.2.0-24", 1),
            "already there"
        );
        assert_eq!(
            decide_for(&[("10.1.2.0-24", 2)], "10.1.2.0-24", 1),
            "10.1.2.0-24 belongs to 192.0.2.2 there"
        );
        assert_eq!(
            decide_for(&[("10.1.3.0-24", 1)], "10.1.2.0-24", 1),
            "192.0.2.1 has 10.1.3.0-24 there"
        );
    }

    #[test]
    fn subnets_of_another_network_are_refused() {
        for outside in ["10.2.2.0-24", "10.1.2.0-25", "10.1.0.0-24"] {
            let text = decide_for(&[], outside, 1);
            assert!(text.contains("is not a subnet of this network"), "{text}");
        }
        assert!(decide_for(&[], "10.1.2.0-24&fd00::-64", 1).contains("IPv6 is not enabled"));
    }

    proptest! {
        #[test]
        fn overlap_is_found_as_by_comparing_all(blocks in prop::collection::vec((0u32..16, 26u8..30, 0u128..8, 64u8..68), 0..8)) {
            let mut all: Vec<Subnets> = blocks.into_iter().map(|(v4, len4, v6, len6)| {
                let v4 = ipnetwork::Ipv4Network::new((0x0a01_0000 | v4 << 4).into(), len4).unwrap();
                let v6 = ipnetwork::Ipv6Network::new((0xfd00u128 << 112 | v6 << 61).into(), len6).unwrap();
                Subnets {
                    v4: ipnetwork::Ipv4Network::new(v4.network(), len4).ok(),
                    v6: ipnetwork::Ipv6Network::new(v6.network(), len6).ok(),
                }
            }).collect();
            all.sort_unstable();
            let expected = all.iter().enumerate().any(|(i, one)| all[i + 1..].iter().any(|other| one.overlaps(other)));
            prop_assert_eq!(first_overlap(&all).is_some(), expected);
        }
    }
}
