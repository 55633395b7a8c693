//! The sockets by which the daemon reads and changes the host.

use super::wireguard::WireguardSocket;
use crate::{
    model::{host_state::HostState, rule_set::RuleSet},
    rules::{
        PacketFilter, RulePlace,
        host_iptables::{self, HostIptables},
    },
    underlay::HostNetwork,
};
use linux_net::{
    Netlink,
    ethtool::Ethtool,
    route::{Filter, MAIN_TABLE},
    xfrm::Xfrm,
};
use packet_filter::{Flavour, Nft, Table};
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
    /// Opened at first use: a kernel may have no IPsec.
    xfrm: Option<Xfrm>,
    /// None if the rules are in nftables.
    iptables: Option<HostIptables>,
    /// For offloads and drivers.
    pub(super) ethtool: Ethtool,
}

/// The rules of this daemon on the host.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rules {
    tables: Vec<Table>,
    rule_sets: Vec<RuleSet>,
}

impl Rules {
    pub(super) fn into_state(self, state: HostState) -> HostState {
        HostState {
            tables: self.tables,
            rule_sets: self.rule_sets,
            ..state
        }
    }
}

impl Kernel {
    /// Opens the route socket in the calling thread's network namespace.
    pub(crate) fn open() -> linux_net::Result<Kernel> {
        Ok(Kernel {
            netlink: Netlink::open()?,
            nft: None,
            wireguard: None,
            iptables: None,
            xfrm: None,
            ethtool: Ethtool::open()?,
        })
    }

    /// From now on the rules are in iptables.
    pub(crate) fn use_iptables(&mut self, iptables: HostIptables) {
        self.iptables = Some(iptables);
    }

    /// The flavour of iptables that the rules are in.
    pub(crate) fn iptables_flavour(&self) -> Option<Flavour> {
        self.iptables.as_ref().map(HostIptables::flavour)
    }

    /// Writes the rules of a family in iptables.
    pub(super) fn put_rule_set(&mut self, rules: &RuleSet) -> Result<(), host_iptables::Error> {
        // a plan has such rules only where there is iptables
        let iptables = self.iptables.as_mut();
        iptables.map_or(Ok(()), |iptables| iptables.put(rules))
    }

    /// Reads the rules. What cannot be read is missing: the write reports the error.
    pub(super) fn rules(&mut self, place: &RulePlace) -> Rules {
        let mut rules = Rules::default();
        match place.filter {
            PacketFilter::Nftables => {
                for (family, name) in &place.names.tables {
                    if let Ok(Some(table)) = self.nft().and_then(|nft| nft.table(*family, name)) {
                        rules.tables.push(table);
                    }
                }
            }
            PacketFilter::Iptables => {
                if let Some(mut iptables) = self.iptables.take() {
                    rules.rule_sets = iptables.read(self.nft().ok());
                    self.iptables = Some(iptables);
                }
            }
        }
        rules
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

    /// The socket for policies and security associations of IPsec.
    pub(crate) fn xfrm(&mut self) -> linux_net::Result<&mut Xfrm> {
        match &mut self.xfrm {
            Some(xfrm) => Ok(xfrm),
            none => Ok(none.insert(Xfrm::open()?)),
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
