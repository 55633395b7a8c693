//! Operations on links of any kind.

use crate::{Error, error::Context};
use linux_net::{
    Mac, Netlink, Request,
    link::{self, Change, Link},
};

/// What the result shows of a link, and its ifindex.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Device {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: Option<Mac>,
    /// In bytes.
    pub(crate) mtu: u32,
}

impl From<Link> for Device {
    fn from(link: Link) -> Self {
        Device {
            index: link.index,
            name: link.name,
            mac: link.mac,
            mtu: link.mtu,
        }
    }
}

/// The request that sets a link up.
pub(crate) fn up(index: u32) -> Request {
    let change = Change {
        up: Some(true),
        ..Change::default()
    };
    link::change(index, &change)
}

/// The link with this name.
pub(crate) fn lookup(netlink: &mut Netlink, name: &str) -> Result<Option<Link>, Error> {
    netlink
        .link_by_name(name)
        .context(format!("failed to lookup {name:?}"))
}

/// Deletes a link. An absent one is no error.
pub(crate) fn delete(netlink: &mut Netlink, name: &str) -> linux_net::Result<()> {
    match netlink.request(&link::delete_by_name(name)) {
        Err(error) if error.is_absent() => Ok(()),
        other => other,
    }
}
