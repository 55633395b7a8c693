//! Who has a host port: a pod that exists keeps it, and one that is gone loses it to the next ADD.

use crate::{error::Failure, forward::Forward};
use linux_net::{
    NetNs, Netlink,
    in_use::{Here, InUse, inode},
    link::Link,
};
use plugin::{Call, attachment::container_of_alias};
use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

/// The owner of another mapping, as its comment tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    /// None: the comment does not tell.
    pub(crate) container_id: Option<String>,
    /// For a message.
    pub(crate) description: String,
}

impl Owner {
    /// True if a device with this alias is of another container.
    fn is_not(&self, alias: Option<&str>) -> bool {
        let other = alias.and_then(container_of_alias);
        let own = self.container_id.as_deref();
        own.zip(other).is_some_and(|(own, other)| own != other)
    }
}

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
    /// network namespace has the address, or that cannot be known. It does not count if the address
    /// has been given to another container since, which the link on the host names.
    pub(crate) fn judge(&self, held: &Forward, owner: &Owner) -> Result<Holder, Failure> {
        // the container that had the caller's address before no longer exists
        if self.addresses.contains(&held.container) {
            return Ok(Holder::Gone);
        }
        if self.others().contains(&held.container) {
            return Ok(Holder::OtherInterface);
        }
        let taken = |namespace: String| Failure::Taken {
            mapping: held.to_string(),
            owner: owner.description.clone(),
            namespace,
        };
        let unknown =
            |error: io::Error| taken(format!("which exists as far as can be known ({error})"));
        let other = |error: linux_net::Error| unknown(io::Error::other(error));
        let namespaces = InUse::read().map_err(unknown)?;
        let own = inode(&self.netns);
        let here = Here::read().map_err(other)?;
        let counts = |end: &Link| !owner.is_not(end.alias.as_deref());
        match namespaces.with_address(held.container, &here, own.as_slice(), counts) {
            Ok(Some(path)) => Err(taken(format!("which exists ({})", path.display()))),
            Ok(None) => Ok(Holder::Gone),
            Err(error) => Err(other(error)),
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
