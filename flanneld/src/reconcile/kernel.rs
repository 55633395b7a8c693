//! The sockets by which the daemon reads and changes the host.

use super::wireguard::WireguardSocket;
use crate::underlay::HostNetwork;
use linux_net::{
    Netlink,
    route::{Filter, MAIN_TABLE},
};
use packet_filter::Nft;
use std::net::IpAddr;

/// Sockets that stay open.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// For links, addresses, routes, neighbours and FDB entries.
    pub(crate) netlink: Netlink,
    /// Opened at first use: on a kernel without nftables only the rules are missing.
    nft: Option<Nft>,
    /// Opened at first use.
    wireguard: Option<WireguardSocket>,
}

impl Kernel {
    /// Opens the route socket in the calling thread's network namespace.
    pub(crate) fn open() -> linux_net::Result<Kernel> {
        Ok(Kernel {
            netlink: Netlink::open()?,
            nft: None,
            wireguard: None,
        })
    }

    /// The nftables socket.
    pub(crate) fn nft(&mut self) -> Result<&mut Nft, packet_filter::Error> {
        match &mut self.nft {
            Some(nft) => Ok(nft),
            none => Ok(none.insert(Nft::open()?)),
        }
    }

    /// The WireGuard socket. The error says that it is absent on a kernel without WireGuard.
    pub(super) fn wireguard(&mut self) -> linux_net::Result<&mut WireguardSocket> {
        match &mut self.wireguard {
            Some(socket) => Ok(socket),
            none => Ok(none.insert(WireguardSocket::open()?)),
        }
    }

    /// What an underlay is selected from; `can_reach` is the address of `-iface-can-reach`.
    pub(crate) fn host_network(
        &mut self,
        can_reach: Option<IpAddr>,
    ) -> linux_net::Result<HostNetwork> {
        Ok(HostNetwork {
            links: self.netlink.links()?,
            addresses: self.netlink.addresses(None)?,
            routes: self.netlink.routes(Filter {
                table: Some(MAIN_TABLE),
                ..Filter::default()
            })?,
            // "no route" is an answer: the selector reports it
            route_to_target: can_reach.and_then(|ip| self.netlink.route_to(ip).ok()),
        })
    }
}
