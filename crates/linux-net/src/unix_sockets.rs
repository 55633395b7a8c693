//! Unix sockets of this network namespace, as the kernel lists them (linux/unix_diag.h).

use crate::{
    Result,
    netlink::{Attributes, Client, Mode, NETLINK_SOCK_DIAG, Read, Request, header},
};
use netlink_packet_core::Emitable;
use nix::libc::AF_UNIX;

/// SOCK_DIAG_BY_FAMILY (linux/sock_diag.h)
const BY_FAMILY: u16 = 20;
/// struct unix_diag_req
const REQUEST_LENGTH: usize = 24;
/// struct unix_diag_msg
const MESSAGE_LENGTH: usize = 16;
/// UDIAG_SHOW_NAME and UDIAG_SHOW_UID
const SHOW: u32 = 0x1 | 0x40;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_UID: u16 = 7;

/// The user who bound a socket to the abstract name, as this process's user namespace numbers it;
/// None if nobody has, or the kernel does not tell the user (before 5.3).
pub fn owner_of_abstract(name: &[u8]) -> Result<Option<u32>> {
    let request = Request::new(BY_FAMILY, Mode::Dump, &All, "list Unix sockets");
    let mut socket = Client::open(NETLINK_SOCK_DIAG)?;
    let owners = socket.dump(&request, |_, payload| owner(payload, name))?;
    Ok(owners.first().copied())
}

/// The user who bound the socket of this message, if it is bound to the abstract name.
pub(crate) fn owner(payload: &[u8], name: &[u8]) -> Read<Option<u32>> {
    let (_, rest) = header::<MESSAGE_LENGTH>(payload)?;
    let attributes = Attributes::new(rest);
    let bound = attributes.get(UNIX_DIAG_NAME).unwrap_or_default();
    if bound.strip_prefix(&[0]) != Some(name) {
        return Ok(None);
    }
    let mut all = attributes.iter();
    let uid = all.find(|attribute| attribute.kind == UNIX_DIAG_UID);
    uid.map(|attribute| attribute.u32()).transpose()
}

/// A request for the sockets of every state.
struct All;

impl Emitable for All {
    fn buffer_len(&self) -> usize {
        REQUEST_LENGTH
    }

    fn emit(&self, buffer: &mut [u8]) {
        buffer[0] = AF_UNIX as u8;
        buffer[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        buffer[12..16].copy_from_slice(&SHOW.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::getuid;
    use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr, unix::net::UnixListener};

    #[test]
    fn owner_of_a_bound_name_is_known() {
        let name = format!("linux-net test {}", std::process::id());
        assert_eq!(owner_of_abstract(name.as_bytes()).unwrap(), None);
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _listener = UnixListener::bind_addr(&address).unwrap();
        let uid = Some(getuid().as_raw());
        assert_eq!(owner_of_abstract(name.as_bytes()).unwrap(), uid);
        assert_eq!(owner_of_abstract(&name.as_bytes()[1..]).unwrap(), None);
    }
}
