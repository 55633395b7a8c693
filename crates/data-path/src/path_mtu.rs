//! How long a datagram to an address can be. The kernel learns it from ICMP and forgets it after a
//! time (`net.ipv4.route.mtu_expires`); a connected socket tells it.

use nix::libc;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// How long an answer of the kernel is used.
const VALID: Duration = Duration::from_secs(1);
/// The most addresses that are remembered.
const MOST: usize = 4096;
/// Headers of IPv4 and UDP, in bytes.
const HEADERS_V4: usize = 28;
/// Headers of IPv6 and UDP, in bytes.
const HEADERS_V6: usize = 48;

/// The MTU of the path to the connected address, in bytes (ip(7)).
#[derive(Debug, Clone, Copy)]
struct IpMtu;

nix::getsockopt_impl!(
    IpMtu,
    libc::IPPROTO_IP,
    libc::IP_MTU,
    libc::c_int,
    nix::sys::socket::sockopt::GetStruct<libc::c_int>
);
/// The same of IPv6 (ipv6(7)).
#[derive(Debug, Clone, Copy)]
struct Ipv6Mtu;

nix::getsockopt_impl!(
    Ipv6Mtu,
    libc::IPPROTO_IPV6,
    libc::IPV6_MTU,
    libc::c_int,
    nix::sys::socket::sockopt::GetStruct<libc::c_int>
);

/// What is known, from the first datagram on that was too long.
#[derive(Debug, Default)]
pub(crate) struct PathMtu {
    known: HashMap<IpAddr, (usize, Instant)>,
}

impl PathMtu {
    /// The longest datagram to the address in bytes, without its headers; None if none was too
    /// long yet.
    pub(crate) fn known(&mut self, to: SocketAddr) -> Option<usize> {
        let (limit, until) = *self.known.get(&to.ip())?;
        if Instant::now() < until {
            return Some(limit);
        }
        self.look(to)
    }

    /// Asks the kernel after a datagram was too long.
    pub(crate) fn look(&mut self, to: SocketAddr) -> Option<usize> {
        if self.known.len() >= MOST {
            self.known.clear();
        }
        let limit = ask(to).ok()?;
        self.known.insert(to.ip(), (limit, Instant::now() + VALID));
        Some(limit)
    }
}

fn ask(to: SocketAddr) -> io::Result<usize> {
    let domain = Domain::for_address(to);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.connect(&SockAddr::from(to))?;
    let (mtu, headers) = match to {
        SocketAddr::V4(_) => (nix::sys::socket::getsockopt(&socket, IpMtu)?, HEADERS_V4),
        SocketAddr::V6(_) => (nix::sys::socket::getsockopt(&socket, Ipv6Mtu)?, HEADERS_V6),
    };
    Ok(usize::try_from(mtu)
        .unwrap_or_default()
        .saturating_sub(headers))
}
