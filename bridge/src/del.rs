//! DEL: removes all that it finds, also without prevResult, namespace or valid configuration.

use crate::{
    Error, device,
    error::Context,
    filter::open_nft,
    masquerade::{Shared, families, remove_iptables, remove_nftables},
    spoof, veth,
};
use linux_net::{NetNs, Netlink, link};
use plugin::{Attachment, Call, Verb, delegate};
use std::{panic::resume_unwind, path::Path, thread};

/// Releases the addresses after the device is gone, so that no other pod gets them before. A failed
/// part does not prevent the others, and DEL can be repeated until all of them succeed.
///
/// The slow parts overlap. Deletion of a device takes about 20 ms. The kernel frees removed
/// nftables rules some milliseconds later, and closing the socket waits for that: they are removed
/// before the device, and the socket is closed after it. The processes of iptables run at the same
/// time. The spoof check stays until the device is gone.
pub(crate) fn del(call: &Call) -> Result<(), Error> {
    let owner = call.attachment();
    let (mut nft, unreadable) = match open_nft() {
        Ok(nft) => (nft, Ok(())),
        Err(error) => (None, Err(error)),
    };
    let families = families(nft.as_mut(), &owner);
    let nftables = (nft.as_mut()).map_or(Ok(()), |nft| remove_nftables(nft, &owner));
    let ns = namespace(call);
    let shared = Shared {
        all: matches!(ns, Ok(None)),
        addresses: (call.net.prev_result.iter())
            .flat_map(|result| result.ips.iter().map(|ip| ip.address.ip()))
            .collect(),
    };
    let possible = families.as_deref().unwrap_or_default();
    let (device, iptables) = thread::scope(|scope| {
        let iptables = (!possible.is_empty())
            .then(|| scope.spawn(|| remove_iptables(possible, &owner, &shared)));
        let device = ns.and_then(|ns| remove_device(call, ns, &owner));
        let iptables = iptables.map_or(Ok(()), |thread| {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        });
        (device, iptables)
    });
    let spoof_check = (nft.as_mut()).map_or(Ok(()), |nft| spoof::remove(nft, &owner));
    device?;
    delegate::ipam(call, Verb::Del)?;
    families?;
    unreadable.and(nftables).and(iptables).and(spoof_check)
}

/// Deletes the container's interface, or the host end where the interface or its namespace is
/// absent.
fn remove_device(call: &Call, ns: Option<NetNs>, owner: &Attachment) -> Result<(), Error> {
    let failed = || format!("failed to delete {:?}", call.ifname);
    if let Some(ns) = ns {
        let mut netlink = Netlink::open_in(&ns).context(failed())?;
        match netlink.request(&link::delete_by_name(&call.ifname)) {
            Err(error) if error.is_absent() => {}
            // the kernel deletes the host end with its peer
            deleted => return deleted.context(failed()),
        }
    }
    let mut host = Netlink::open().context(failed())?;
    match veth::find_host_end(&mut host, owner).context(failed())? {
        Some(link) => device::delete(&mut host, &link.name).context(failed()),
        None => Ok(()),
    }
}

/// None: there is no path, or no namespace at the path (after a reboot it is an empty file).
fn namespace(call: &Call) -> Result<Option<NetNs>, Error> {
    if call.netns.is_empty() {
        return Ok(None);
    }
    match NetNs::open(Path::new(&call.netns)) {
        Ok(ns) => Ok(Some(ns)),
        Err(linux_net::Error::NotANamespace { .. }) => Ok(None),
        Err(error) if error.is_absent() => Ok(None),
        Err(source) => Err(Error::Namespace {
            path: call.netns.clone(),
            source,
        }),
    }
}
