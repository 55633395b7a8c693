//! What a node that asks for a lease does with the leases that are there. Pure.

use crate::{
    model::{Subnets, lease::LeaseAttrs, network_config::NetworkConfig},
    subnet::alloc::{self, Node, Owned},
};

/// A lease in etcd, as far as the decision needs it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Known {
    pub(super) subnets: Subnets,
    /// Without an address, and so of no node, where the value cannot be read.
    pub(super) attrs: LeaseAttrs,
    pub(super) mod_revision: i64,
    /// The etcd lease that the key ends with; 0 for a reservation.
    pub(super) lease_id: i64,
}

/// The key that becomes this node's lease, and those that go.
#[derive(Debug, PartialEq)]
pub(super) struct Plan<'a> {
    pub(super) subnets: Subnets,
    /// The key if it is there.
    pub(super) existing: Option<&'a Known>,
    /// Leases of this node that the configuration no longer allows, or that it leaves.
    pub(super) delete: Vec<&'a Known>,
}

/// Decides by upstream's rules, for each family by itself: the lease that the node has, else its
/// reservation, else `previous` if free, else a random one of the first free subnets.
pub(super) fn plan<'a>(
    config: &NetworkConfig,
    node: Node<'_>,
    previous: Subnets,
    known: &'a [Known],
    random: u64,
) -> Result<Plan<'a>, alloc::Error> {
    // a reservation that the node holds by its former address is a lease that does not end
    let is_reservation = |known: &Known| known.lease_id == 0 && !node.held_formerly(&known.attrs);
    let owned = |reserved: bool| -> Vec<Owned<'a>> {
        let known = known.iter();
        let of_kind = known.filter(|known| is_reservation(known) == reserved);
        of_kind.map(|known| (known.subnets, &known.attrs)).collect()
    };
    let subnets = alloc::choose(config, node, previous, &owned(false), &owned(true), random)?;
    let others = known.iter().filter(|known| known.subnets != subnets);
    let leaves = |known: &&Known| {
        node.holds(&known.attrs) && (known.lease_id != 0 || !is_compatible(config, &known.subnets))
    };
    Ok(Plan {
        subnets,
        existing: known.iter().find(|known| known.subnets == subnets),
        delete: others.filter(leaves).collect(),
    })
}

/// True for subnets of the configured families and lengths within the configured range.
fn is_compatible(config: &NetworkConfig, subnets: &Subnets) -> bool {
    config.enable_ipv4 == subnets.v4.is_some()
        && config.enable_ipv6 == subnets.v6.is_some()
        && alloc::check_reservable(config, subnets).is_ok()
}

#[cfg(test)]
mod tests;
