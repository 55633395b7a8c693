//! The iptables back end: one save and one restore for each family; DEL and GC start no process
//! where no chain can be.

use crate::{
    error::Failure,
    forward::Forward,
    holder::Container,
    iptables_rules::{self as rules, TABLE},
    leftover::Owners,
    mappings::Mappings,
};
use packet_filter::{Iptables, Lock, Nft, Saved};
use plugin::Attachment;
use std::collections::BTreeSet;

/// Adds the mappings of one family.
pub(crate) fn add(mappings: &Mappings<'_>) -> Result<(), Failure> {
    let lock = Lock::take()?;
    let changed =
        Iptables::of(mappings.ipv6()).try_change(TABLE, |saved| rules::additions(mappings, saved));
    drop(lock);
    changed.map(drop)
}

pub(crate) fn check(mappings: &Mappings<'_>) -> Result<(), Failure> {
    let saved = Iptables::of(mappings.ipv6()).save(TABLE);
    match rules::missing(mappings, &saved.map_err(Failure::Check)?) {
        None => Ok(()),
        Some(rule) => Err(Failure::Missing {
            container_id: mappings.owner.container_id.clone(),
            what: format!("rule `{rule}`"),
            table: format!("iptables' table {TABLE}"),
        }),
    }
}

/// Removes the attachment's chains in both families. Returns the mappings that it had.
pub(crate) fn del(
    nft: Option<&mut Nft>,
    owner: &Attachment,
    container: &Container,
) -> Result<Vec<Forward>, Failure> {
    let own = BTreeSet::from(rules::chains_of(owner));
    let shared = BTreeSet::from(rules::shared_chains_of(owner));
    let indicators = [rules::chain(owner), rules::shared_chain(owner)];
    remove(nft, &indicators, |saved| {
        let of_others = |forward: &Forward| container.others().contains(&forward.container);
        match own == shared || rules::forwards(saved, &shared).iter().any(of_others) {
            true => own.clone(),
            // the Go plugin's, or of an earlier version, for this interface
            false => &own | &shared,
        }
    })
}

/// Removes the chains of this network's containers that have no valid attachment. Returns their
/// mappings.
pub(crate) fn gc(
    nft: Option<&mut Nft>,
    network: &str,
    valid: &[Attachment],
) -> Result<Vec<Forward>, Failure> {
    remove(nft, &[rules::DNAT.to_owned()], |saved| {
        rules::stale(saved, network, valid)
    })
}

/// The chains of all containers, with the addresses that their rules lead to.
pub(crate) fn owners(mut nft: Option<&mut Nft>) -> Result<Owners, Failure> {
    let mut owners = Owners::new();
    for iptables in [false, true].map(Iptables::of) {
        let may_have = iptables.may_have_chain(nft.as_deref_mut(), TABLE, rules::DNAT);
        // without the programs, `flanneld cleanup` removes the chains once no rule is in them
        if may_have.map_err(Failure::Check)? && iptables.is_installed() {
            let saved = iptables.save(TABLE).map_err(Failure::Check)?;
            for (chain, addresses) in rules::owners(&saved) {
                owners.entry(chain).or_default().extend(addresses);
            }
        }
    }
    Ok(owners)
}

/// Removes these chains.
pub(crate) fn remove_owners(
    nft: Option<&mut Nft>,
    owners: &Owners,
) -> Result<Vec<Forward>, Failure> {
    remove(nft, &[rules::DNAT.to_owned()], |saved| {
        let present = saved.chains.iter();
        let theirs = present.filter(|chain| owners.contains_key(*chain));
        theirs.cloned().collect()
    })
}

/// In each family where one of the chains `indicators` may exist, removes the chains that `select`
/// picks from the saved table.
fn remove(
    mut nft: Option<&mut Nft>,
    indicators: &[String],
    select: impl Fn(&Saved) -> BTreeSet<String>,
) -> Result<Vec<Forward>, Failure> {
    let mut mapped = Vec::new();
    for ipv6 in [false, true] {
        let iptables = Iptables::of(ipv6);
        let mut found = false;
        for chain in indicators {
            let may_have = iptables.may_have_chain(nft.as_deref_mut(), TABLE, chain);
            found = found || may_have.map_err(Failure::Remove)?;
        }
        if !found {
            continue;
        }
        let saved = iptables
            .change(TABLE, |saved| rules::removals(saved, &select(saved)))
            .map_err(Failure::Remove)?;
        mapped.extend(rules::forwards(&saved, &select(&saved)));
    }
    Ok(mapped)
}
