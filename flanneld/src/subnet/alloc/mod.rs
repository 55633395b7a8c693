//! Which subnet a node gets: the one it has, else its reservation, else the one it had before, else a free one.
//!
//! Pure and the same for every store. Upstream's rules (local_manager.go), with the two families apart: a node keeps what
//! fits of its old lease when the other half has to change, and a node without IPv4 is known by its public IPv6 address.
use super::Error;
use crate::{
    model::Subnets,
    model::lease::{Lease, LeaseAttrs},
    model::network_config::NetworkConfig,
};
use ipnetwork::{Ipv4Network, Ipv6Network};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A new subnet is picked among that many free ones, so that two nodes that ask two stores at once seldom collide.
const CANDIDATES: usize = 100;

/// A subnet that is kept for one node.
#[derive(Debug, Clone, PartialEq)]
pub struct Reservation {
    /// The subnets.
    pub subnets: Subnets,
    /// Whose they are: only the public addresses count.
    pub attrs: LeaseAttrs,
}

/// What is known when a node asks.
pub struct Taken<'a> {
    /// All leases.
    pub leases: &'a [&'a Lease],
    /// All reservations.
    pub reservations: &'a [&'a Reservation],
}

/// What a node gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Its subnets.
    pub subnets: Subnets,
    /// Its lease until now, to be taken back in the same step unless its subnets are the same.
    pub held: Option<Subnets>,
}

/// Chooses for the node with these attributes. `config` has passed `check_subnets`; `random(n)` gives a number below n.
pub fn choose(
    config: &NetworkConfig,
    attrs: &LeaseAttrs,
    previous: Subnets,
    taken: &Taken,
    mut random: impl FnMut(usize) -> usize,
) -> Result<Choice, Error> {
    let held = taken
        .leases
        .iter()
        .find(|lease| lease.attrs.same_node(attrs))
        .map(|lease| lease.subnets);
    let reserved = taken
        .reservations
        .iter()
        .find(|reservation| reservation.attrs.same_node(attrs))
        .map(|reservation| reservation.subnets);
    let others = Others::of(attrs, taken);

    let mut key = Subnets::default();
    if config.enable_ipv4 {
        let wishes = [
            held.and_then(|key| key.v4),
            reserved.and_then(|key| key.v4),
            previous.v4,
        ];
        let wishes = wishes.map(|net| net.map(|net| Block::v4(net.ip(), net.prefix())));
        let pool = Pool::v4(config)?;
        let block = pool.choose(&wishes, others.v4, &mut random)?;
        key.v4 = Ipv4Network::new(block.ip4(), config.subnet_len).ok();
    }
    if config.enable_ipv6 {
        let wishes = [
            held.and_then(|key| key.v6),
            reserved.and_then(|key| key.v6),
            previous.v6,
        ];
        let wishes = wishes.map(|net| net.map(|net| Block::v6(net.ip(), net.prefix())));
        let pool = Pool::v6(config)?;
        let block = pool.choose(&wishes, others.v6, &mut random)?;
        key.v6 = Ipv6Network::new(block.ip6(), config.ipv6_subnet_len).ok();
    }
    Ok(Choice { subnets: key, held })
}

/// Why a subnet cannot be reserved under this configuration, if so.
pub fn fits(config: &NetworkConfig, key: &Subnets) -> Result<(), String> {
    let check = |block: Block, pool: Pool| {
        if pool.compatible(&block) {
            Ok(())
        } else {
            Err(format!(
                "{key} is not a subnet of this network: subnets are /{} between {} and {}",
                pool.len,
                pool.show(pool.min),
                pool.show(pool.max)
            ))
        }
    };
    let off = |family: &str| format!("{key}: {family} is not enabled in this network");
    if let Some(net) = key.v4 {
        let pool = Pool::v4(config).map_err(|error| error.to_string())?;
        config.enable_ipv4.then_some(()).ok_or(off("IPv4"))?;
        check(Block::v4(net.ip(), net.prefix()), pool)?;
    }
    if let Some(net) = key.v6 {
        config.enable_ipv6.then_some(()).ok_or(off("IPv6"))?;
        let pool = Pool::v6(config).map_err(|error| error.to_string())?;
        check(Block::v6(net.ip(), net.prefix()), pool)?;
    }
    Ok(())
}

/// What other nodes hold or have reserved.
struct Others {
    v4: Vec<Block>,
    v6: Vec<Block>,
}

impl Others {
    fn of(attrs: &LeaseAttrs, taken: &Taken) -> Others {
        let leases = taken
            .leases
            .iter()
            .filter(|lease| !lease.attrs.same_node(attrs))
            .map(|lease| lease.subnets);
        let reservations = taken
            .reservations
            .iter()
            .filter(|reservation| !reservation.attrs.same_node(attrs))
            .map(|reservation| reservation.subnets);
        let mut others = Others {
            v4: Vec::new(),
            v6: Vec::new(),
        };
        for key in leases.chain(reservations) {
            others
                .v4
                .extend(key.v4.map(|net| Block::v4(net.ip(), net.prefix())));
            others
                .v6
                .extend(key.v6.map(|net| Block::v6(net.ip(), net.prefix())));
        }
        others
    }
}

/// A subnet as numbers, first and last address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Block {
    first: u128,
    last: u128,
}

impl Block {
    fn v4(ip: Ipv4Addr, len: u8) -> Block {
        Block::new(u32::from(ip).into(), 32u8.saturating_sub(len))
    }
    fn v6(ip: Ipv6Addr, len: u8) -> Block {
        Block::new(ip.into(), 128u8.saturating_sub(len))
    }
    fn new(ip: u128, host_bits: u8) -> Block {
        let host = 1u128
            .checked_shl(host_bits.into())
            .map_or(u128::MAX, |size| size - 1);
        Block {
            first: ip & !host,
            last: ip | host,
        }
    }
    fn ip4(&self) -> Ipv4Addr {
        Ipv4Addr::from((self.first & u128::from(u32::MAX)) as u32)
    }
    fn ip6(&self) -> Ipv6Addr {
        Ipv6Addr::from(self.first)
    }
}

/// The subnets that a network has, of one family.
struct Pool {
    min: u128,
    max: u128,
    len: u8,
    bits: u8,
}

impl Pool {
    fn v4(config: &NetworkConfig) -> Result<Pool, Error> {
        match (config.subnet_min, config.subnet_max) {
            (Some(min), Some(max)) => Ok(Pool {
                min: u32::from(min).into(),
                max: u32::from(max).into(),
                len: config.subnet_len,
                bits: 32,
            }),
            _ => Err(Error::Other(
                "the network configuration has no IPv4 subnets".into(),
            )),
        }
    }

    fn v6(config: &NetworkConfig) -> Result<Pool, Error> {
        match (config.ipv6_subnet_min, config.ipv6_subnet_max) {
            (Some(min), Some(max)) => Ok(Pool {
                min: min.into(),
                max: max.into(),
                len: config.ipv6_subnet_len,
                bits: 128,
            }),
            _ => Err(Error::Other(
                "the network configuration has no IPv6 subnets".into(),
            )),
        }
    }

    fn size(&self) -> u128 {
        1u128
            .checked_shl(u32::from(self.bits.saturating_sub(self.len)))
            .unwrap_or(u128::MAX)
    }

    fn show(&self, number: u128) -> String {
        if self.bits == 32 {
            Ipv4Addr::from((number & u128::from(u32::MAX)) as u32).to_string()
        } else {
            Ipv6Addr::from(number).to_string()
        }
    }

    /// Of the right length and inside the range.
    fn compatible(&self, block: &Block) -> bool {
        (self.min..=self.max).contains(&block.first) && block.last - block.first == self.size() - 1
    }

    /// The first wish that fits and is free, else one of the first free subnets by chance.
    fn choose(
        &self,
        wishes: &[Option<Block>],
        mut others: Vec<Block>,
        random: &mut impl FnMut(usize) -> usize,
    ) -> Result<Block, Error> {
        others.sort_unstable();
        for wish in wishes.iter().flatten() {
            if self.compatible(wish) && free(wish, &others) {
                return Ok(*wish);
            }
        }
        let candidates = self.first_free(&others);
        if candidates.is_empty() {
            return Err(Error::OutOfSubnets {
                min: self.show(self.min),
                max: self.show(self.max),
            });
        }
        let index = random(candidates.len()).min(candidates.len() - 1);
        Ok(Block::new(candidates[index], self.bits - self.len))
    }

    /// Up to [`CANDIDATES`] free subnets from the low end. Walks over what is taken, never over the whole range: a range
    /// of 2^64 subnets costs no more than one of 2^8.
    fn first_free(&self, taken: &[Block]) -> Vec<u128> {
        let size = self.size();
        let mut free = Vec::new();
        let mut taken = taken.iter().peekable();
        let mut next = Some(self.min);
        while let Some(first) = next.filter(|first| *first <= self.max && free.len() < CANDIDATES) {
            while taken.next_if(|block| block.last < first).is_some() {}
            match taken.peek() {
                Some(block) if block.first <= first + (size - 1) => {
                    // on to the first subnet after what is taken
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

/// `others` may overlap each other, if SubnetLen was changed: so all are looked at.
fn free(wish: &Block, others: &[Block]) -> bool {
    others
        .iter()
        .all(|other| other.last < wish.first || wish.last < other.first)
}

#[cfg(test)]
mod tests;
