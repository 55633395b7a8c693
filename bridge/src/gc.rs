//! GC: removes what no valid attachment of this network owns, as far as it can be proven to be this network's.
use crate::{
    Error,
    error::Step,
    masquerade,
    names::{Owner, alias_prefix},
    pod, spoof,
};
use linux_net::{
    Netlink,
    link::{Kind, Link},
};
use packet_filter::Nft;
use plugin::{Call, Verb, delegate};
use std::collections::HashSet;

/// The whole verb. A failure of one part does not keep the others from being cleaned; the first one is told.
pub fn gc(call: &Call) -> Result<(), Error> {
    let Some(valid) = &call.net.valid_attachments else {
        return Ok(delegate::ipam(call, Verb::Gc)?);
    };
    let network = &call.net.name;
    let valid: Vec<_> = valid
        .iter()
        .map(|attachment| Owner::of(network, attachment))
        .collect();
    let devices = remove_devices(network, &valid);
    let ipam = if devices.is_ok() {
        delegate::ipam(call, Verb::Gc).map_err(Error::from)
    } else {
        Ok(())
    };
    // a kernel without nf_tables holds no rules of ours
    let mut nft = Nft::open().ok();
    let masquerade = masquerade::retain(nft.as_mut(), network, &valid);
    let spoof_check = match (&devices, &mut nft) {
        (Ok(left), Some(nft)) => spoof::remove_orphans(nft, |name| left.contains(name)),
        _ => Ok(()),
    };
    devices.map(drop).and(ipam).and(masquerade).and(spoof_check)
}

/// Gives the names of the links that are left.
fn remove_devices(network: &str, valid: &[Owner]) -> Result<HashSet<String>, Error> {
    let mut host = Netlink::open().step("failed to open a netlink socket")?;
    let links = host.links().step("failed to list links")?;
    let valid: HashSet<String> = valid.iter().map(Owner::alias).collect();
    let (gone, left): (Vec<Link>, Vec<Link>) = links
        .into_iter()
        .partition(|link| is_stale(link, network, &valid));
    for link in gone {
        pod::remove(&mut host, &link.name).step(format!("failed to delete {:?}", link.name))?;
    }
    Ok(left.into_iter().map(|link| link.name).collect())
}

/// A host end that bears this network's mark and whose attachment is not among the valid ones.
fn is_stale(link: &Link, network: &str, valid: &HashSet<String>) -> bool {
    link.kind == Kind::Veth
        && link.alias.as_ref().is_some_and(|alias| {
            alias.starts_with(&alias_prefix(network)) && !valid.contains(alias)
        })
}
