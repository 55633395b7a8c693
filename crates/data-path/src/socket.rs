//! UDP sockets that send and receive runs of datagrams (UDP_SEGMENT and UDP_GRO).

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{setsockopt, sockopt},
};
use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    io::{self, IoSliceMut},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// What the kernel may hold for a socket in each direction, in bytes.
const KERNEL_BUFFER: usize = 4 << 20;
/// How long a full socket is waited for, in milliseconds.
const FULL: u16 = 20;

/// Whether a datagram may be fragmented (ip(7)).
#[derive(Debug, Clone, Copy)]
struct IpMtuDiscover;

nix::setsockopt_impl!(
    IpMtuDiscover,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    usize,
    sockopt::SetUsize
);
/// The same of IPv6 (ipv6(7)).
#[derive(Debug, Clone, Copy)]
struct Ipv6MtuDiscover;

nix::setsockopt_impl!(
    Ipv6MtuDiscover,
    libc::IPPROTO_IPV6,
    libc::IPV6_MTU_DISCOVER,
    usize,
    sockopt::SetUsize
);

/// A socket of one worker. The kernel divides a port's datagrams among the sockets that are bound
/// to it by the addresses and ports of both sides: those of one peer come to one worker, in order.
#[derive(Debug)]
pub struct UdpSocket {
    socket: StdSocket,
    state: UdpSocketState,
}

impl UdpSocket {
    /// Binds one of the port's sockets. IPv6 has sockets of its own. The first one fails if another
    /// process has the port (EADDRINUSE): the kernel would divide the datagrams among both.
    pub fn bind(ipv6: bool, port: u16, is_first: bool) -> io::Result<UdpSocket> {
        let (domain, address): (_, SocketAddr) = match ipv6 {
            true => (Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into()),
            false => (Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into()),
        };
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if ipv6 {
            socket.set_only_v6(true)?;
        }
        if !is_first {
            setsockopt(&socket, sockopt::ReusePort, &true)?;
        }
        // more than net.core.rmem_max is a privilege, and the smaller buffer works as well
        if setsockopt(&socket, sockopt::RcvBufForce, &KERNEL_BUFFER).is_err() {
            socket.set_recv_buffer_size(KERNEL_BUFFER)?;
        }
        if setsockopt(&socket, sockopt::SndBufForce, &KERNEL_BUFFER).is_err() {
            socket.set_send_buffer_size(KERNEL_BUFFER)?;
        }
        socket.bind(&SockAddr::from(address))?;
        // now for those that follow
        setsockopt(&socket, sockopt::ReusePort, &true)?;
        UdpSocket::from_descriptor(socket.into())
    }

    /// A socket that another process has bound.
    pub fn from_descriptor(descriptor: OwnedFd) -> io::Result<UdpSocket> {
        let socket = StdSocket::from(descriptor);
        let state = new_state(&socket)?;
        Ok(UdpSocket { socket, state })
    }

    /// True if it sends to IPv6 addresses.
    pub fn is_ipv6(&self) -> io::Result<bool> {
        Ok(self.socket.local_addr()?.is_ipv6())
    }

    /// The most datagrams of a run.
    pub(crate) fn most_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Sends a run of datagrams of `segment` bytes, of which the last may be shorter. EMSGSIZE: the
    /// path to the address does not take that length, and nothing was sent.
    pub(crate) fn send(
        &mut self,
        to: SocketAddr,
        ecn: u8,
        contents: &[u8],
        segment: usize,
    ) -> io::Result<()> {
        let transmit = Transmit {
            destination: to,
            ecn: EcnCodepoint::from_bits(ecn),
            contents,
            segment_size: Some(segment),
            src_ip: None,
        };
        match self.try_send(&transmit) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut full = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
                poll(&mut full, PollTimeout::from(FULL))?;
                self.try_send(&transmit)
            }
            result => result,
        }
    }

    fn try_send(&mut self, transmit: &Transmit<'_>) -> io::Result<()> {
        let result = self.state.try_send((&self.socket).into(), transmit);
        let run = transmit
            .segment_size
            .is_some_and(|segment| segment < transmit.contents.len());
        match result {
            // kernels before 6.13 say so of a run that the path does not take
            Err(error) if run && error.raw_os_error() == Some(libc::EINVAL) => {
                // the state has given up on runs for ever
                self.state = new_state(&self.socket)?;
                Err(Errno::EMSGSIZE.into())
            }
            result => result,
        }
    }

    /// Receives into the buffers. Returns how many were filled.
    pub(crate) fn receive(
        &self,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> io::Result<usize> {
        self.state.recv((&self.socket).into(), buffers, meta)
    }
}

/// The kernel refuses what is longer than the path it has learned, instead of fragmenting it.
fn new_state(socket: &StdSocket) -> io::Result<UdpSocketState> {
    let state = UdpSocketState::new(socket.into())?;
    if socket.local_addr()?.is_ipv6() {
        setsockopt(socket, Ipv6MtuDiscover, &(libc::IPV6_PMTUDISC_DO as usize))?;
    } else {
        setsockopt(socket, IpMtuDiscover, &(libc::IP_PMTUDISC_DO as usize))?;
    }
    Ok(state)
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<UdpSocket> for OwnedFd {
    fn from(socket: UdpSocket) -> OwnedFd {
        socket.socket.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_has_sockets_of_one_process() {
        for ipv6 in [false, true] {
            let first = UdpSocket::bind(ipv6, 0, true).unwrap();
            let port = first.socket.local_addr().unwrap().port();
            let further = UdpSocket::bind(ipv6, port, false).unwrap();
            // as another process begins
            let error = UdpSocket::bind(ipv6, port, true).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            drop((first, further));
            UdpSocket::bind(ipv6, port, true).unwrap();
        }
    }
}
