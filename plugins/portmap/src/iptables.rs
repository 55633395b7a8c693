//! The iptables back end: one look and one change for each family, and for DEL and GC no process where there is no chain.
use crate::{
    conf::Conf,
    forward::Forward,
    iptables_rules::{self as rules, TABLE},
    owner::Owner,
};
use cni_conf::Error;
use ipnetwork::IpNetwork;
use packet_filter::{Iptables, Nft, iptables::Saved};
use std::{collections::BTreeSet, fs::File};

/// Held by the one that looks and adds.
const LOCK: &str = "/run/cni-portmap.lock";

fn failed(what: &str) -> impl Fn(packet_filter::Error) -> Error {
    move |error| Error::internal(format!("{what}: {error}"))
}

/// Makes the mappings of one family.
pub(crate) fn add(owner: &Owner, conf: &Conf, address: IpNetwork) -> Result<(), Error> {
    let forwards = conf.forwards(address.ip());
    if forwards.is_empty() {
        return Ok(());
    }
    let turn = take_turn()?;
    let iptables = Iptables::of(address.is_ipv6());
    let change = change(iptables, |saved| {
        rules::additions(owner, conf, &forwards, address, saved)
    });
    drop(turn);
    change.map(drop).map_err(failed("cannot map host ports"))
}

/// One process at a time looks and adds. iptables does not refuse a chain that somebody else made a moment ago, so two that see
/// no shared chain would both make the jumps to it.
fn take_turn() -> Result<File, Error> {
    let failed = |error| Error::internal(format!("cannot map host ports: lock {LOCK}: {error}"));
    let file = File::options()
        .create(true)
        .append(true)
        .open(LOCK)
        .map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

/// Changes what was just looked at, and looks again if somebody else was faster: then a chain is there that was not, or a rule
/// is gone, and the change is refused as a whole. Gives what was there before.
fn change(
    iptables: Iptables,
    lines: impl Fn(&Saved) -> Vec<String>,
) -> Result<Saved, packet_filter::Error> {
    let mut saved = iptables.save(TABLE)?;
    loop {
        let refused = match iptables.restore(TABLE, &lines(&saved)) {
            Ok(()) => return Ok(saved),
            Err(refused) => refused,
        };
        let now = iptables.save(TABLE)?;
        // nobody was: it is refused for what it says
        if now == saved {
            return Err(refused);
        }
        saved = now;
    }
}

/// Is every rule there?
pub(crate) fn check(owner: &Owner, conf: &Conf, address: IpNetwork) -> Result<(), Error> {
    let forwards = conf.forwards(address.ip());
    if forwards.is_empty() {
        return Ok(());
    }
    let saved = Iptables::of(address.is_ipv6())
        .save(TABLE)
        .map_err(failed("cannot check host ports"))?;
    match rules::missing(owner, conf, &forwards, address, &saved) {
        None => Ok(()),
        Some(rule) => Err(Error::internal(format!(
            "port mapping of container {}: rule `{rule}` is missing in iptables' table {TABLE}; \
             delete the container and start it again",
            owner.container_id
        ))),
    }
}

/// Takes the container's chains away, in both families; the mappings that it had.
pub(crate) fn del(nft: Option<&mut Nft>, owner: &Owner) -> Result<Vec<Forward>, Error> {
    let own = rules::chains_of(owner);
    let gone = |chain: &str| own.iter().any(|own| own == chain);
    remove(nft, &rules::chain(owner), |_| gone)
}

/// Takes the chains of this network's containers away that are not among these.
pub(crate) fn gc(
    nft: Option<&mut Nft>,
    network: &str,
    valid: &BTreeSet<&str>,
) -> Result<Vec<Forward>, Error> {
    remove(nft, rules::DNAT, |saved| {
        let stale: BTreeSet<String> = rules::containers(saved, network)
            .into_iter()
            .filter(|(id, _)| !valid.contains(id.as_str()))
            .map(|(_, chain)| chain.to_owned())
            .collect();
        move |chain: &str| stale.contains(chain)
    })
}

/// Where there is a chain `only_with`: removes those that `which` picks.
fn remove<Gone: Fn(&str) -> bool>(
    mut nft: Option<&mut Nft>,
    only_with: &str,
    which: impl Fn(&Saved) -> Gone,
) -> Result<Vec<Forward>, Error> {
    let failed = failed("cannot remove port mappings");
    let mut mapped = Vec::new();
    for ipv6 in [false, true] {
        let iptables = Iptables::of(ipv6);
        if !iptables.may_have_chain(nft.as_deref_mut(), TABLE, only_with)
            || !iptables.is_installed()
        {
            continue;
        }
        let saved =
            change(iptables, |saved| rules::removals(saved, which(saved))).map_err(&failed)?;
        mapped.extend(rules::forwards(&saved, which(&saved)));
    }
    Ok(mapped)
}
