//! GC: removes the objects of this network's attachments that are no longer valid.

use crate::{Error, device, error::Context, masquerade, names, spoof};
use linux_net::{
    Netlink,
    link::{Kind, Link},
};
use packet_filter::Nft;
use plugin::{Attachment, Call, Verb, best_effort, delegate};
use std::collections::HashSet;

/// A failed part does not prevent the others; the first error is returned. Addresses are released
/// only when all stale devices are gone.
pub(crate) fn gc(call: &Call) -> Result<(), Error> {
    let Some(valid) = call.valid_attachments() else {
        return Ok(delegate::ipam(call, Verb::Gc)?);
    };
    let network = &call.net.name;
    let mut nft = best_effort(Nft::open(), "a kernel without nf_tables has no rules");
    // before the links: an ADD creates its link first, so a rule in this list whose link is not in
    // the later one has lost it
    let spoof_checks = nft.as_mut().map_or(Ok(Vec::new()), spoof::installed);
    let devices = remove_devices(network, &valid);
    let ipam = match devices {
        Ok(_) => delegate::ipam(call, Verb::Gc).map_err(Error::from),
        Err(_) => Ok(()),
    };
    let masquerade = masquerade::retain(nft.as_mut(), network, &valid);
    let spoof_check = match (&devices, &mut nft, spoof_checks) {
        (Ok(links), Some(nft), Ok(checks)) => {
            spoof::remove_orphans(nft, &checks, |name| links.contains(name))
        }
        (.., checks) => checks.map(drop),
    };
    devices.map(drop).and(ipam).and(masquerade).and(spoof_check)
}

/// Returns the names of the remaining links.
fn remove_devices(network: &str, valid: &[Attachment]) -> Result<HashSet<String>, Error> {
    let mut host = Netlink::open().context("failed to open a netlink socket")?;
    let links = host.links().context("failed to list links")?;
    let valid: HashSet<String> = valid.iter().map(names::alias).collect();
    let (stale, remaining): (Vec<Link>, Vec<Link>) = links
        .into_iter()
        .partition(|link| is_stale(link, network, &valid));
    for link in stale {
        device::delete(&mut host, &link.name)
            .context(format!("failed to delete {:?}", link.name))?;
    }
    Ok(remaining.into_iter().map(|link| link.name).collect())
}

/// True for a host end with the alias of an attachment of this network that is not valid.
fn is_stale(link: &Link, network: &str, valid: &HashSet<String>) -> bool {
    link.kind == Kind::Veth
        && link.alias.as_ref().is_some_and(|alias| {
            alias.starts_with(&names::alias_prefix(network)) && !valid.contains(alias)
        })
}
