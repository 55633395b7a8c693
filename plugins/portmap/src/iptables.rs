//! The iptables back end: one save and one restore for each family; DEL and GC start no process
//! where no chain can be.

use crate::{
    error::Failure,
    forward::Forward,
    iptables_rules::{self as rules, TABLE},
    mappings::Mappings,
};
use packet_filter::{Iptables, Nft, Saved};
use plugin::Attachment;
use std::{collections::BTreeSet, fs::File, io};

const LOCK: &str = "/run/cni-portmap.lock";

/// Adds the mappings of one family.
pub(crate) fn add(mappings: &Mappings<'_>) -> Result<(), Failure> {
    // iptables accepts a chain that another process has just created, so two processes that find no
    // shared chain would both add the jumps to it
    let lock = lock().map_err(|source| Failure::Lock { file: LOCK, source })?;
    let changed =
        Iptables::of(mappings.ipv6()).change(TABLE, |saved| rules::additions(mappings, saved));
    drop(lock);
    changed.map(drop).map_err(Failure::Map)
}

fn lock() -> io::Result<File> {
    let file = File::options().create(true).append(true).open(LOCK)?;
    file.lock()?;
    Ok(file)
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

/// Removes the container's chains in both families. Returns the mappings that it had.
pub(crate) fn del(nft: Option<&mut Nft>, owner: &Attachment) -> Result<Vec<Forward>, Failure> {
    let own = BTreeSet::from(rules::chains_of(owner));
    remove(nft, &rules::chain(owner), |_| own.clone())
}

/// Removes the chains of this network's containers that have no valid attachment. Returns their
/// mappings.
pub(crate) fn gc(
    nft: Option<&mut Nft>,
    network: &str,
    valid: &[Attachment],
) -> Result<Vec<Forward>, Failure> {
    let valid: BTreeSet<_> = valid.iter().map(|one| one.container_id.as_str()).collect();
    remove(nft, rules::DNAT, |saved| {
        let containers = rules::containers(saved, network).into_iter();
        let stale = containers.filter(|(id, _)| !valid.contains(id.as_str()));
        stale.map(|(_, chain)| chain.to_owned()).collect()
    })
}

/// In each family where the chain `indicator` may exist, removes the chains that `select` picks
/// from the saved table.
fn remove(
    mut nft: Option<&mut Nft>,
    indicator: &str,
    select: impl Fn(&Saved) -> BTreeSet<String>,
) -> Result<Vec<Forward>, Failure> {
    let mut mapped = Vec::new();
    for ipv6 in [false, true] {
        let iptables = Iptables::of(ipv6);
        if !(iptables.may_have_chain(nft.as_deref_mut(), TABLE, indicator))
            .map_err(Failure::Remove)?
        {
            continue;
        }
        let saved = iptables
            .change(TABLE, |saved| rules::removals(saved, &select(saved)))
            .map_err(Failure::Remove)?;
        mapped.extend(rules::forwards(&saved, &select(&saved)));
    }
    Ok(mapped)
}
