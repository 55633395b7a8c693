//! DEL: cleans by what can be found, whatever is missing: prevResult, the namespace, a valid configuration, or all of it.
use crate::{Error, error::Step, masquerade_iptables, masquerade_nft, names::Owner, pod, spoof};
use linux_net::{NetNs, Netlink, link};
use packet_filter::Nft;
use plugin::{Call, Verb, delegate};
use std::{path::Path, thread};

/// The whole verb. The addresses go after the device, so that nobody is given them while it is alive. A failure of one part
/// does not keep the others from being cleaned, and DEL can be repeated until all is gone.
///
/// What takes time overlaps: a device goes in some 20 ms of waiting. The kernel forgets nftables rules some milliseconds after
/// they are removed, and closing the socket waits for that, so they go before the device and the socket is closed after it;
/// iptables' processes run meanwhile. The spoof check stays until the device is gone.
pub fn del(call: &Call) -> Result<(), Error> {
    let owner = Owner::of_call(call);
    // a kernel without nf_tables holds no rules of ours
    let mut nft = Nft::open().ok();
    let families = masquerade_iptables::families(nft.as_mut(), &owner);
    let masquerade = match &mut nft {
        Some(nft) => masquerade_nft::remove(nft, &owner),
        None => Ok(()),
    };
    let (device, iptables) = thread::scope(|scope| {
        let iptables = (!families.is_empty())
            .then(|| scope.spawn(|| masquerade_iptables::remove(&families, &owner)));
        let device = remove_device(call, &owner);
        (device, iptables.map_or(Ok(()), join))
    });
    let spoof_check = match &mut nft {
        Some(nft) => spoof::remove(nft, &owner),
        None => Ok(()),
    };
    device?;
    delegate::ipam(call, Verb::Del)?;
    masquerade.and(iptables).and(spoof_check)
}

fn join(thread: thread::ScopedJoinHandle<'_, Result<(), Error>>) -> Result<(), Error> {
    thread.join().unwrap_or_else(|_| {
        let message = "the removal of the masquerade rules was interrupted";
        Err(cni_conf::Error::internal(message).into())
    })
}

/// In the container by its name; where that is not to be had, the host end by its own.
fn remove_device(call: &Call, owner: &Owner) -> Result<(), Error> {
    let failed = || format!("failed to delete {:?}", call.ifname);
    if let Some(ns) = namespace(call)? {
        let mut inside = Netlink::open_in(&ns).step(failed())?;
        match inside.request(&link::delete_by_name(&call.ifname)) {
            Err(error) if error.is_absent() => {}
            other => return other.step(failed()),
        }
    }
    let mut host = Netlink::open().step(failed())?;
    match pod::host_end(&mut host, owner).step(failed())? {
        Some(link) => pod::remove(&mut host, &link.name).step(failed()),
        None => Ok(()),
    }
}

/// None if it is gone: no path, or a path that is nothing or no namespace any more (an empty file, after a reboot).
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
