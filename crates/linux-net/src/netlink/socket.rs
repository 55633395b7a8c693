//! The socket: extended ACKs, strict checking of dump requests (so that the kernel filters), large
//! packets.

use super::Transport;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::{
    errno::Errno,
    libc,
    sys::socket::{setsockopt, sockopt},
};
use std::io;

/// Bytes that the kernel takes in one packet by default (net.core.wmem_default), less its own
/// overhead.
const DEFAULT_PACKET: usize = 96 * 1024;

/// Opens a socket of a protocol (`NETLINK_*`) in the calling thread's network namespace.
pub(super) fn open(protocol: isize) -> io::Result<Socket> {
    let socket = Socket::new(protocol)?;
    if_supported(socket.set_ext_ack(true))?;
    if_supported(socket.set_cap_ack(true))?;
    if protocol == NETLINK_ROUTE {
        if_supported(socket.set_netlink_get_strict_chk(true))?;
    }
    Ok(socket)
}

/// Kernels before 4.20 lack some of these options. Error texts are missing then, and dumps are
/// filtered here alone.
fn if_supported(set: io::Result<()>) -> io::Result<()> {
    match set {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        other => other,
    }
}

impl Transport for Socket {
    fn send(&mut self, packet: &[u8]) -> nix::Result<()> {
        if packet.len() > DEFAULT_PACKET {
            enlarge_send_buffer(self, packet.len());
        }
        match self.send_to(packet, &SocketAddr::new(0, 0), 0) {
            Ok(_) => Ok(()),
            Err(error) => Err(errno(&error)),
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> nix::Result<usize> {
        loop {
            let mut space = &mut *buffer;
            match self.recv_from(&mut space, libc::MSG_TRUNC | libc::MSG_DONTWAIT) {
                // the kernel sends from port 0; any other port is a process
                Ok((length, sender)) if sender.port_number() == 0 => return Ok(length),
                Ok(_) => {}
                Err(error) => return Err(errno(&error)),
            }
        }
    }
}

/// Enlarges the buffer as far as the limits allow. If that is too little, sending fails with
/// EMSGSIZE.
fn enlarge_send_buffer(socket: &Socket, packet: usize) {
    let size = packet * 2;
    if setsockopt(socket, sockopt::SndBufForce, &size).is_err()
        && let Err(errno) = setsockopt(socket, sockopt::SndBuf, &size)
    {
        debug_assert_ne!(errno, Errno::EBADF, "an open socket");
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}
