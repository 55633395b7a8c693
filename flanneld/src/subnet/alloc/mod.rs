//! Chooses the subnets of a node: those that it holds, else its reservation, else its previous
//! ones, else free ones.
//!
//! Pure, and the same for every store. The rules are upstream's (local_manager.go), applied to each
//! family by itself: a node keeps what fits of its old lease when the other half has to change, and
//! a node without IPv4 is identified by its public IPv6 address.

use crate::{model::Subnets, model::lease::LeaseAttrs, model::network_config::NetworkConfig};
use ipnetwork::{Ipv4Network, Ipv6Network};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A new subnet is picked at random among this many free ones, so that two nodes that ask two
/// stores at the same time rarely get the same.
const CANDIDATES: usize = 100;

/// Subnets that are kept for one node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reservation {
    pub(crate) subnets: Subnets,
    /// The node, identified by its public addresses; the other attributes are not used.
    pub(crate) attrs: LeaseAttrs,
}

/// The node that asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'a> {
    pub(crate) attrs: &'a LeaseAttrs,
    /// The addresses by which it holds a lease, if they have changed.
    pub(crate) former: Option<&'a LeaseAttrs>,
}

impl Node<'_> {
    /// True if a lease with these attributes is the node's.
    pub(crate) fn holds(&self, owner: &LeaseAttrs) -> bool {
        owner.same_node(self.attrs) || self.held_formerly(owner)
    }

    /// True if a lease with these attributes is the one that the node has until now.
    pub(crate) fn held_formerly(&self, owner: &LeaseAttrs) -> bool {
        self.former.is_some_and(|former| owner.same_node(former))
    }
}

/// Subnets with the attributes of the node that they belong to.
pub(crate) type Owned<'a> = (Subnets, &'a LeaseAttrs);

/// Why no subnet can be chosen or reserved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// Every subnet of the range is taken.
    #[error(
        "out of subnets: every subnet between {min} and {max} is leased or reserved; enlarge Network, \
         increase SubnetLen, or delete leases of nodes that no longer exist"
    )]
    OutOfSubnets {
        /// First address of the first subnet.
        min: String,
        /// First address of the last subnet.
        max: String,
    },
    /// The configuration has not passed `check_subnets`.
    #[error("the network configuration has no {0} subnets")]
    NoRange(&'static str),
    /// A reservation in a family that the network does not have.
    #[error("{subnets}: {family} is not enabled in this network")]
    FamilyDisabled {
        subnets: Subnets,
        family: &'static str,
    },
    /// A reservation of the wrong length or outside of the range.
    #[error(
        "{subnets} is not a subnet of this network: subnets are /{len} between {min} and {max}"
    )]
    OutsideRange {
        subnets: Subnets,
        len: u8,
        min: String,
        max: String,
    },
}

/// Chooses for a node among what the `leases` and `reservations` of the network leave. `config` has
/// passed `check_subnets`; `random` decides among free subnets.
pub(crate) fn choose(
    config: &NetworkConfig,
    node: Node<'_>,
    previous: Subnets,
    leases: &[Owned<'_>],
    reservations: &[Owned<'_>],
    random: u64,
) -> Result<Subnets, Error> {
    let holds = |(_, owner): &&Owned<'_>| node.holds(owner);
    let reserved = |(_, owner): &&Owned<'_>| node.attrs.same_node(owner);
    // a node that takes over the address of one that is gone keeps its own subnets
    let running = leases.iter().find(|(_, owner)| node.held_formerly(owner));
    let own = running.into_iter().chain(leases.iter().find(holds));
    let own = own.chain(reservations.iter().find(reserved));
    let preferred: Vec<Subnets> = own.map(|(subnets, _)| *subnets).chain([previous]).collect();
    let others = leases.iter().filter(|lease| !holds(lease));
    let others = others.chain(reservations.iter().filter(|other| !reserved(other)));
    let others: Vec<Subnets> = others.map(|(subnets, _)| *subnets).collect();

    let mut chosen = Subnets::default();
    // the lengths are valid: check_subnets has bounded them
    if config.enable_ipv4 {
        let block = Range::v4(config)?.choose(
            preferred.iter().filter_map(Block::v4),
            others.iter().filter_map(Block::v4).collect(),
            random,
        )?;
        chosen.v4 = Ipv4Network::new(ipv4(block.first), config.subnet_len).ok();
    }
    if config.enable_ipv6 {
        let block = Range::v6(config)?.choose(
            preferred.iter().filter_map(Block::v6),
            others.iter().filter_map(Block::v6).collect(),
            random,
        )?;
        chosen.v6 = Ipv6Network::new(block.first.into(), config.ipv6_subnet_len).ok();
    }
    Ok(chosen)
}

/// Checks that subnets can be reserved under this configuration.
pub(crate) fn check_reservable(config: &NetworkConfig, subnets: &Subnets) -> Result<(), Error> {
    let check = |family, enabled: bool, block: Block, range: Result<Range, Error>| {
        if !enabled {
            return Err(Error::FamilyDisabled {
                subnets: *subnets,
                family,
            });
        }
        let range = range?;
        if range.fits(&block) {
            return Ok(());
        }
        Err(Error::OutsideRange {
            subnets: *subnets,
            len: range.len,
            min: range.show(range.min),
            max: range.show(range.max),
        })
    };
    if let Some(block) = Block::v4(subnets) {
        check("IPv4", config.enable_ipv4, block, Range::v4(config))?;
    }
    if let Some(block) = Block::v6(subnets) {
        check("IPv6", config.enable_ipv6, block, Range::v6(config))?;
    }
    Ok(())
}

/// A subnet as numbers: its first and its last address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Block {
    first: u128,
    last: u128,
}

impl Block {
    fn v4(subnets: &Subnets) -> Option<Block> {
        subnets.v4.map(|net| Block {
            first: net.network().to_bits().into(),
            last: net.broadcast().to_bits().into(),
        })
    }

    fn v6(subnets: &Subnets) -> Option<Block> {
        subnets.v6.map(|net| Block {
            first: net.network().to_bits(),
            last: net.broadcast().to_bits(),
        })
    }

    fn overlaps(&self, other: &Block) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// The subnets of a network in one family: those of length `len` from `min` to `max`.
struct Range {
    min: u128,
    max: u128,
    len: u8,
    bits: u8,
}

impl Range {
    fn v4(config: &NetworkConfig) -> Result<Range, Error> {
        let ends = config.subnet_min.zip(config.subnet_max);
        let (min, max) = ends.ok_or(Error::NoRange("IPv4"))?;
        Ok(Range {
            min: min.to_bits().into(),
            max: max.to_bits().into(),
            len: config.subnet_len,
            bits: 32,
        })
    }

    fn v6(config: &NetworkConfig) -> Result<Range, Error> {
        let ends = config.ipv6_subnet_min.zip(config.ipv6_subnet_max);
        let (min, max) = ends.ok_or(Error::NoRange("IPv6"))?;
        Ok(Range {
            min: min.to_bits(),
            max: max.to_bits(),
            len: config.ipv6_subnet_len,
            bits: 128,
        })
    }

    /// Addresses in a subnet.
    fn size(&self) -> u128 {
        1u128
            .checked_shl(u32::from(self.bits.saturating_sub(self.len)))
            .unwrap_or(u128::MAX)
    }

    fn show(&self, address: u128) -> String {
        if self.bits == 32 {
            ipv4(address).to_string()
        } else {
            Ipv6Addr::from_bits(address).to_string()
        }
    }

    /// True for a block of the right length inside of the range.
    fn fits(&self, block: &Block) -> bool {
        (self.min..=self.max).contains(&block.first) && block.last - block.first == self.size() - 1
    }

    /// The first preferred block that fits and is free, else a random one of the first free blocks.
    fn choose(
        &self,
        mut preferred: impl Iterator<Item = Block>,
        mut others: Vec<Block>,
        random: u64,
    ) -> Result<Block, Error> {
        // blocks of other nodes may overlap each other after SubnetLen was changed
        let free = |block: &Block| !others.iter().any(|other| other.overlaps(block));
        if let Some(block) = preferred.find(|block| self.fits(block) && free(block)) {
            return Ok(block);
        }
        others.sort_unstable();
        let candidates = self.first_free(&others);
        let index = (random as usize).checked_rem(candidates.len());
        match index.and_then(|index| candidates.get(index)) {
            Some(&first) => Ok(Block {
                first,
                last: first + (self.size() - 1),
            }),
            None => Err(Error::OutOfSubnets {
                min: self.show(self.min),
                max: self.show(self.max),
            }),
        }
    }

    /// First addresses of up to [`CANDIDATES`] free subnets from the low end. It walks over what is
    /// taken, never over the range: a range of 2^64 subnets costs no more than one of 2^8.
    fn first_free(&self, taken: &[Block]) -> Vec<u128> {
        let size = self.size();
        let mut free = Vec::new();
        let mut taken = taken.iter().peekable();
        let mut next = Some(self.min);
        while let Some(first) = next.filter(|first| *first <= self.max && free.len() < CANDIDATES) {
            while taken.next_if(|block| block.last < first).is_some() {}
            match taken.peek() {
                Some(block) if block.first <= first + (size - 1) => {
                    // on to the first subnet after the taken block
                    let steps = (block.last - first) / size + 1;
                    next = steps
                        .checked_mul(size)
                        .and_then(|step| first.checked_add(step));
                }
                _ => {
                    free.push(first);
                    next = first.checked_add(size);
                }
            }
        }
        free
    }
}

/// The address whose number came from an IPv4 address.
fn ipv4(number: u128) -> Ipv4Addr {
    Ipv4Addr::from_bits((number & u128::from(u32::MAX)) as u32)
}

#[cfg(test)]
mod tests;
