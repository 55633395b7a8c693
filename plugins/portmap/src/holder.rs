//! Who has a host port: a pod that exists keeps it, and one that is gone loses it to the next ADD.

use crate::{error::Failure, forward::Forward};
use linux_net::{
    NetNs, Netlink,
    in_use::{InUse, inode},
};
use plugin::Call;
use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

/// What a mapping of another owner says about its container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    /// No network namespace has the container's address, so the mapping leads nowhere.
    Gone,
    /// The calling container has the address, on another interface.
    OtherInterface,
}

/// The container of a call: its namespace and the addresses that its mappings lead to.
#[derive(Debug)]
pub(crate) struct Container {
    netns: PathBuf,
    ifname: String,
    addresses: Vec<IpAddr>,
}

impl Container {
    pub(crate) fn new(call: &Call, addresses: Vec<IpAddr>) -> Container {
        Container {
            netns: PathBuf::from(&call.netns),
            ifname: call.ifname.clone(),
            addresses,
        }
    }

    #[cfg(test)]
    pub(crate) fn at(netns: &str, ifname: &str, addresses: Vec<IpAddr>) -> Container {
        Container {
            netns: PathBuf::from(netns),
            ifname: ifname.to_owned(),
            addresses,
        }
    }

    /// Judges the holder of a host port by the address that its mapping leads to. Err: another
    /// network namespace has the address, or that cannot be known. `owner` is for the message.
    pub(crate) fn judge(&self, held: &Forward, owner: &str) -> Result<Holder, Failure> {
        // the container that had the caller's address before no longer exists
        if self.addresses.contains(&held.container) {
            return Ok(Holder::Gone);
        }
        if self.others().contains(&held.container) {
            return Ok(Holder::OtherInterface);
        }
        let taken = |namespace: String| Failure::Taken {
            mapping: held.to_string(),
            owner: owner.to_owned(),
            namespace,
        };
        let unknown =
            |error: io::Error| taken(format!("which exists as far as can be known ({error})"));
        let namespaces = InUse::read().map_err(unknown)?;
        let own = inode(&self.netns);
        let host = Netlink::open().and_then(|mut netlink| netlink.links());
        let host = host.map_err(|error| unknown(io::Error::other(error)))?;
        match namespaces.with_address(held.container, &host, own.as_slice()) {
            Some(path) => Err(taken(format!("which exists ({})", path.display()))),
            None => Ok(Holder::Gone),
        }
    }

    /// The addresses of the container's other interfaces; none if its namespace is gone.
    pub(crate) fn others(&self) -> BTreeSet<IpAddr> {
        addresses_except(&self.netns, &self.ifname).unwrap_or_default()
    }
}

fn addresses_except(netns: &Path, ifname: &str) -> linux_net::Result<BTreeSet<IpAddr>> {
    let mut netlink = Netlink::open_in(&NetNs::open(netns)?)?;
    let own = netlink.link_by_name(ifname)?.map(|link| link.index);
    let mut all = netlink.addresses(None)?;
    all.retain(|address| Some(address.index) != own);
    Ok(all.iter().map(|address| address.net.ip()).collect())
}
