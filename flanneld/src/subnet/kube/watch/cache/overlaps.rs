//! Nodes whose podCIDRs overlap. A controller assigns them, so one of the two is a mistake. The
//! older node keeps its subnet, on every node of the cluster: its pods were there first. On this
//! node its own subnet is kept in any case, since its pods have addresses of it. A podCIDR whose
//! length is not the cluster's usual one comes behind all others: a /17 must not take the place of
//! a hundred /24.

use crate::model::Subnets;
use ipnetwork::IpNetwork;
use std::{cmp::Reverse, collections::BTreeMap, fmt, net::IpAddr};

/// A node that has subnets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) node: &'a str,
    /// This daemon's node.
    pub(super) own: bool,
    pub(super) created: i64,
    pub(super) subnets: Subnets,
}

/// Why a node's lease is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Overlap {
    subnet: IpNetwork,
    /// The node that keeps its subnet.
    holder: String,
    held: IpNetwork,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Overlap {
            subnet,
            holder,
            held,
        } = self;
        write!(
            f,
            "its podCIDR {subnet} overlaps {held} of node {holder}, which is older, or this node, or \
             has a podCIDR of the usual length: the node is skipped; delete and re-create it, so that it is assigned another podCIDR"
        )
    }
}

/// The nodes that overlap one with a better claim. Of two made in the same second, the name
/// decides.
pub(super) fn find(mut claims: Vec<Claim<'_>>) -> BTreeMap<Box<str>, Overlap> {
    let usual = UsualLengths::of(&claims);
    claims.sort_by_key(|claim| {
        let odd = usual.is_odd(&claim.subnets);
        (Reverse(claim.own), odd, claim.created, claim.node)
    });
    let (mut held, mut overlaps) = (BTreeMap::new(), BTreeMap::new());
    for claim in claims {
        let v4 = claim.subnets.v4.map(IpNetwork::V4);
        let v6 = claim.subnets.v6.map(IpNetwork::V6);
        let subnets = || v4.into_iter().chain(v6);
        match subnets().find_map(|subnet| overlapping(&held, subnet)) {
            Some(overlap) => {
                overlaps.insert(claim.node.into(), overlap);
            }
            None => held.extend(subnets().map(|net| (net.network(), (net, claim.node)))),
        }
    }
    overlaps
}

/// The prefix length that most nodes have, in each family. Of two that as many have, the longer
/// one.
struct UsualLengths {
    v4: Option<u8>,
    v6: Option<u8>,
}

impl UsualLengths {
    fn of(claims: &[Claim<'_>]) -> UsualLengths {
        let usual = |length: fn(&Subnets) -> Option<u8>| {
            let mut counts = BTreeMap::<u8, usize>::new();
            for length in claims.iter().filter_map(|claim| length(&claim.subnets)) {
                *counts.entry(length).or_default() += 1;
            }
            let most = counts
                .into_iter()
                .max_by_key(|(length, count)| (*count, *length));
            most.map(|(length, _)| length)
        };
        UsualLengths {
            v4: usual(v4_length),
            v6: usual(v6_length),
        }
    }

    fn is_odd(&self, subnets: &Subnets) -> bool {
        let differs = |length: Option<u8>, usual| length.is_some() && length != usual;
        differs(v4_length(subnets), self.v4) || differs(v6_length(subnets), self.v6)
    }
}

fn v4_length(subnets: &Subnets) -> Option<u8> {
    subnets.v4.map(|net| net.prefix())
}

fn v6_length(subnets: &Subnets) -> Option<u8> {
    subnets.v6.map(|net| net.prefix())
}

/// The entry that overlaps a subnet. No two entries overlap, so it is the one before or after.
fn overlapping(held: &BTreeMap<IpAddr, (IpNetwork, &str)>, subnet: IpNetwork) -> Option<Overlap> {
    let before = held.range(..=subnet.network()).next_back();
    let after = held.range(subnet.network()..).next();
    before
        .into_iter()
        .chain(after)
        .find(|(_, (other, _))| {
            other.contains(subnet.network()) || subnet.contains(other.network())
        })
        .map(|(_, (held, holder))| Overlap {
            subnet,
            holder: (*holder).to_owned(),
            held: *held,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claim<'a>(node: &'a str, created: i64, subnets: &str) -> Claim<'a> {
        Claim {
            node,
            own: false,
            created,
            subnets: subnets.parse().unwrap(),
        }
    }

    fn skipped(claims: &[Claim<'_>]) -> Vec<String> {
        let overlaps = find(claims.to_vec());
        overlaps.into_keys().map(String::from).collect()
    }

    #[test]
    fn older_node_keeps_its_subnet() {
        let old = claim("z", 1, "10.1.2.0-24&fd00::-64");
        let same_v6 = claim("a", 2, "10.1.3.0-24&fd00::-64");
        let wider = claim("b", 3, "10.1.0.0-16");
        let apart = claim("c", 4, "10.1.3.0-24");
        assert_eq!(skipped(&[same_v6, wider, apart, old]), ["a", "b"]);
        let text = find(vec![wider, old])["b"].to_string();
        for part in ["10.1.0.0/16", "10.1.2.0/24", "node z"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn odd_length_loses_against_all_that_it_overlaps() {
        let absurd = claim("absurd", 1, "10.1.128.0-17");
        let names: Vec<String> = (0..72).map(|n| format!("n{n}")).collect();
        let mut claims = vec![absurd];
        for (number, name) in names.iter().enumerate() {
            claims.push(claim(name, 2, &format!("10.1.{}.0-24", 128 + number)));
        }
        assert_eq!(skipped(&claims), ["absurd"]);
        assert_eq!(skipped(&claims[..1]), [""; 0]);
    }

    #[test]
    fn name_decides_between_nodes_of_one_second() {
        let (a, b) = (claim("a", 1, "10.1.2.0-24"), claim("b", 1, "10.1.2.0-24"));
        assert_eq!(skipped(&[a, b]), ["b"]);
        assert_eq!(skipped(&[b, a]), ["b"]);
    }

    #[test]
    fn own_subnet_is_kept() {
        let own = Claim {
            own: true,
            ..claim("z", 9, "10.1.2.0-24")
        };
        assert_eq!(skipped(&[claim("a", 1, "10.1.2.0-24"), own]), ["a"]);
    }

    proptest! {
        #[test]
        fn what_is_kept_does_not_overlap(nets in prop::collection::vec((0u8..16, 24u8..=28, 0i64..4), 0..20)) {
            let names: Vec<String> = (0..nets.len()).map(|n| format!("n{n:02}")).collect();
            let claims: Vec<Claim<'_>> = nets.iter().zip(&names).map(|((host, length, created), name)| {
                let net = ipnetwork::Ipv4Network::new([10, 0, 0, host << 4].into(), *length).unwrap();
                let net = ipnetwork::Ipv4Network::new(net.network(), *length).unwrap();
                claim(name, *created, &format!("{}-{}", net.ip(), net.prefix()))
            }).collect();
            let skipped = find(claims.clone());
            let kept: Vec<_> = claims.iter().filter(|claim| !skipped.contains_key(claim.node)).collect();
            for (index, claim) in kept.iter().enumerate() {
                prop_assert!(kept[..index].iter().all(|other| !other.subnets.overlaps(&claim.subnets)));
            }
            let mut reversed = claims;
            reversed.reverse();
            prop_assert_eq!(find(reversed), skipped);
        }
    }
}
