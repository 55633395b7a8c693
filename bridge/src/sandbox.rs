//! The container's network namespace.

use crate::Error;
use linux_net::{NetNs, Netlink};
use std::path::Path;

/// An open namespace and a netlink socket in it.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) ns: NetNs,
    pub(crate) netlink: Netlink,
}

impl Sandbox {
    /// Opens CNI_NETNS.
    pub(crate) fn open(path: &str) -> Result<Sandbox, Error> {
        let failed = |source| Error::Namespace {
            path: path.to_owned(),
            source,
        };
        let ns = NetNs::open(Path::new(path)).map_err(failed)?;
        let netlink = Netlink::open_in(&ns).map_err(failed)?;
        Ok(Sandbox { ns, netlink })
    }
}
