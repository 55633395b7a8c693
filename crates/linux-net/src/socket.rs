//! The NETLINK_ROUTE socket: extended ACKs, and strict checking of dump requests, so that the kernel filters.

use crate::{
    Error, NetNs, Request, Result,
    attributes::Read,
    exchange::{Channel, Exchange},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::{errno::Errno, libc};
use std::io;

/// The socket. It stays in the namespace it was opened in, whatever its thread does later.
#[derive(Debug)]
pub struct Netlink {
    exchange: Exchange<Socket>,
}

impl Netlink {
    /// In the calling thread's namespace.
    pub fn open() -> Result<Self> {
        match socket() {
            Ok(socket) => Ok(Self {
                exchange: Exchange::new(socket),
            }),
            Err(error) => Err(Error::io("open netlink socket", error)),
        }
    }

    /// In another namespace.
    pub fn open_in(ns: &NetNs) -> Result<Self> {
        ns.run(Netlink::open)?
    }

    /// Sends one request and waits for its ACK.
    pub fn request(&mut self, request: &Request) -> Result<()> {
        self.exchange.request(request)
    }

    /// Sends all in as few packets as the buffers allow; an answer for each, in order. One refused request does not stop the
    /// others. Where answers were lost (ENOBUFS, or no errno at all) it is open whether the request was carried out.
    pub fn batch(&mut self, requests: &[Request]) -> Vec<Result<()>> {
        self.exchange.batch(requests)
    }

    /// Asks for one object.
    pub(crate) fn get<T>(
        &mut self,
        request: &Request,
        read: impl FnMut(u16, &[u8]) -> Read<T>,
    ) -> Result<T> {
        self.exchange.get(request, read)
    }

    /// Asks for all objects; `read` gives None for those that are not wanted.
    pub(crate) fn dump<T>(
        &mut self,
        request: &Request,
        read: impl FnMut(u16, &[u8]) -> Read<Option<T>>,
    ) -> Result<Vec<T>> {
        self.exchange.dump(request, read)
    }
}

fn socket() -> io::Result<Socket> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    known(socket.set_ext_ack(true))?;
    known(socket.set_cap_ack(true))?;
    known(socket.set_netlink_get_strict_chk(true))?;
    Ok(socket)
}

/// Kernels before 4.20 lack one or the other of these options; what they would do is done here as well, or missed little.
fn known(set: io::Result<()>) -> io::Result<()> {
    match set {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        other => other,
    }
}

impl Channel for Socket {
    fn send(&mut self, packet: &[u8]) -> nix::Result<()> {
        match self.send_to(packet, &SocketAddr::new(0, 0), 0) {
            Ok(_) => Ok(()),
            Err(error) => Err(errno(&error)),
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> nix::Result<usize> {
        loop {
            let mut space = &mut *buffer;
            match self.recv_from(&mut space, libc::MSG_TRUNC | libc::MSG_DONTWAIT) {
                // what has another sender than port 0 is another process's, not the kernel's
                Ok((length, sender)) if sender.port_number() == 0 => return Ok(length),
                Ok(_) => {}
                Err(error) => return Err(errno(&error)),
            }
        }
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}
