//! Whether this process may change the host's network at all: without that every change would be
//! tried for ever.

use linux_net::{Netlink, link};

/// The index of the loopback device in every network namespace.
const LOOPBACK_INDEX: u32 = 1;

/// Why the daemon cannot do its work.
#[derive(Debug, thiserror::Error)]
#[error(
    "flanneld may not change this host's network: run as root, or with CAP_NET_ADMIN and CAP_NET_RAW"
)]
pub(super) struct Error(#[source] linux_net::Error);

/// Asks the kernel for a change of nothing: a capability can be there and not count, as in a user
/// namespace that the network namespace does not belong to.
pub(super) fn check() -> linux_net::Result<Result<(), Error>> {
    let nothing = link::change(LOOPBACK_INDEX, &link::Change::default());
    match Netlink::open()?.request(&nothing) {
        Err(error) if error.is_not_permitted() => Ok(Err(Error(error))),
        // whatever else is wrong, the kernel did not refuse the caller
        Ok(()) | Err(_) => Ok(Ok(())),
    }
}
