//! Whether this process may change the host's network at all: without that every change would fail.

use linux_net::{Netlink, link};
use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket},
};

/// The index of the loopback device in every network namespace.
const LOOPBACK_INDEX: u32 = 1;

/// Why flanneld cannot do its work.
#[derive(Debug, thiserror::Error)]
#[error(
    "flanneld may not change this host's network ({missing}): run as root, or with CAP_NET_ADMIN and CAP_NET_RAW"
)]
pub(crate) struct Error {
    missing: &'static str,
}

/// Asks the kernel: a capability can be there and not count, as in a user namespace that the
/// network namespace does not belong to.
pub(crate) fn check() -> linux_net::Result<Result<(), Error>> {
    let missing = match (may_change_links()?, may_run_iptables()) {
        (true, true) => return Ok(Ok(())),
        (true, false) => "CAP_NET_RAW is missing, which iptables needs",
        (false, true) => "CAP_NET_ADMIN is missing",
        (false, false) => "CAP_NET_ADMIN and CAP_NET_RAW are missing",
    };
    Ok(Err(Error { missing }))
}

/// CAP_NET_ADMIN: a change of nothing.
fn may_change_links() -> linux_net::Result<bool> {
    let nothing = link::change(LOOPBACK_INDEX, &link::Change::default());
    let answer = Netlink::open()?.request(&nothing);
    // whatever else is wrong, the kernel did not refuse the caller
    Ok(!answer.is_err_and(|error| error.is_not_permitted()))
}

/// CAP_NET_RAW: the legacy variant of iptables, in which Go flanneld's rules may be, uses raw
/// sockets.
fn may_run_iptables() -> bool {
    let flags = SockFlag::SOCK_CLOEXEC;
    let raw = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Raw);
    !matches!(raw, Err(Errno::EPERM | Errno::EACCES))
}
