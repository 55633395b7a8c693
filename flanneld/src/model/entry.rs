//! One entry of a [`HostState`](super::host_state::HostState), with all that it takes to make,
//! remove, compare or report it. A new kind of entry is a new variant here; the compiler
//! then names every place that has to handle it.

use super::{
    host_state::{Blackhole, DeviceLink, DeviceName, HostRoute},
    rule_set::RuleSet,
    wireguard::{Interface, Peer},
};
use ipnetwork::IpNetwork;
use linux_net::{Mac, wireguard::PublicKey, xfrm::Policy};
use packet_filter::Table;
use std::{
    fmt,
    hash::{Hash, Hasher},
    net::IpAddr,
    sync::Arc,
};

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    /// A device.
    Device(DeviceName, DeviceLink),
    /// An address on a device of ours.
    Address(DeviceName, IpNetwork),
    /// A permanent neighbour: the MAC behind which an address is.
    Neighbour(DeviceName, IpAddr, Mac),
    /// A permanent FDB entry: the underlay address behind which a MAC is.
    Fdb(DeviceName, Mac, IpAddr),
    /// The kernel leaves the checksums of what a device sends to the underlay's interface.
    TxChecksum(DeviceName, bool),
    /// Key and port of a WireGuard device.
    WireguardInterface(DeviceName, Interface),
    /// A peer of a WireGuard device.
    WireguardPeer(DeviceName, PeerEntry),
    /// A route.
    Route(HostRoute),
    /// A policy of IPsec.
    Policy(Policy),
    /// An nftables table with all its chains.
    Table(WholeTable),
    /// The rules of a family in iptables.
    RuleSet(Arc<RuleSet>),
    /// A blackhole route to a subnet of this node.
    Blackhole(Blackhole),
}

/// A peer with the key that names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PeerEntry {
    pub(crate) key: PublicKey,
    pub(crate) peer: Arc<Peer>,
    /// It has allowed IPs that are not wanted: all are set anew.
    pub(crate) replace: bool,
}

/// A table, shared. Its identity is family and name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WholeTable(pub(crate) Arc<Table>);

impl Eq for WholeTable {}

impl Hash for WholeTable {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0.family, &self.0.name).hash(state);
    }
}

/// What an entry is, without its values: for log lines and counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum EntryKind {
    Device,
    Address,
    Neighbour,
    Fdb,
    TxChecksum,
    WireguardInterface,
    WireguardPeer,
    Route,
    Policy,
    Table,
    RuleSet,
    Blackhole,
}

impl Entry {
    pub(crate) fn kind(&self) -> EntryKind {
        match self {
            Entry::Device(..) => EntryKind::Device,
            Entry::Address(..) => EntryKind::Address,
            Entry::Neighbour(..) => EntryKind::Neighbour,
            Entry::Fdb(..) => EntryKind::Fdb,
            Entry::TxChecksum(..) => EntryKind::TxChecksum,
            Entry::WireguardInterface(..) => EntryKind::WireguardInterface,
            Entry::WireguardPeer(..) => EntryKind::WireguardPeer,
            Entry::Route(_) => EntryKind::Route,
            Entry::Policy(_) => EntryKind::Policy,
            Entry::Table(_) => EntryKind::Table,
            Entry::RuleSet(_) => EntryKind::RuleSet,
            Entry::Blackhole(_) => EntryKind::Blackhole,
        }
    }

    /// True for what every pod of the node needs, false for what leads to one peer. A table without
    /// chains, and rules without any, belong to a disabled family: nothing depends on them, and a
    /// kernel without that family cannot create them.
    pub(crate) fn is_node_setup(&self) -> bool {
        match self {
            Entry::Device(..) | Entry::Address(..) | Entry::WireguardInterface(..) => true,
            Entry::Neighbour(..)
            | Entry::Fdb(..)
            | Entry::TxChecksum(..)
            | Entry::WireguardPeer(..)
            | Entry::Route(_)
            | Entry::Policy(_) => false,
            // packets to pods that do not exist depend on it, no others
            Entry::Blackhole(_) => false,
            Entry::Table(table) => !table.0.chains.is_empty(),
            Entry::RuleSet(rules) => !rules.chains.is_empty(),
        }
    }

    /// True if the entry leads to the peer with this subnet and public address.
    pub(crate) fn leads_to(&self, subnet: IpNetwork, public_ip: IpAddr) -> bool {
        match self {
            Entry::Neighbour(_, ip, _) => *ip == subnet.network(),
            Entry::Fdb(_, _, remote) => *remote == public_ip,
            Entry::WireguardPeer(_, entry) => entry.peer.allowed_ips.contains(&subnet),
            Entry::Route(route) => route.dst == subnet,
            Entry::Policy(policy) => [policy.src, policy.dst].contains(&subnet),
            Entry::Device(..)
            | Entry::Address(..)
            | Entry::TxChecksum(..)
            | Entry::WireguardInterface(..)
            | Entry::Table(_)
            | Entry::RuleSet(_)
            | Entry::Blackhole(_) => false,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Entry::Device(name, _) => write!(f, "{kind} {name}"),
            Entry::Address(name, net) => write!(f, "{kind} {net} on {name}"),
            Entry::Neighbour(name, ip, mac) => write!(f, "{kind} {ip} at {mac} on {name}"),
            Entry::Fdb(name, mac, remote) => write!(f, "{kind} {mac} to {remote} on {name}"),
            Entry::WireguardInterface(name, interface) => {
                write!(f, "{kind} and port {} of {name}", interface.listen_port)
            }
            Entry::WireguardPeer(name, PeerEntry { key, .. }) => {
                write!(f, "{kind} {key} of {name}")
            }
            Entry::TxChecksum(name, on) => {
                let on = if *on { "on" } else { "off" };
                write!(f, "{kind} {on} of {name}")
            }
            Entry::Route(route) => {
                let HostRoute {
                    dst,
                    gateway,
                    device,
                    onlink,
                    encap,
                    protocol: _,
                    altered: _,
                } = route;
                let onlink = if *onlink { " onlink" } else { "" };
                let via = gateway.map(|ip| format!(" via {ip}")).unwrap_or_default();
                let encap = encap.map(|encap| format!(" encap ip6 dst {}", encap.dst));
                let encap = encap.unwrap_or_default();
                write!(f, "{kind} {dst}{encap}{via} dev {device}{onlink}")
            }
            Entry::Policy(policy) => write!(f, "{kind} {policy}"),
            Entry::Table(table) => {
                write!(f, "{kind} {} {}", table.0.family.as_str(), table.0.name)
            }
            Entry::RuleSet(rules) => {
                let family = if rules.ipv6 { "IPv6" } else { "IPv4" };
                write!(f, "{kind} of {family}")
            }
            Entry::Blackhole(route) => write!(f, "{kind} {}", route.dst),
        }
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EntryKind::Device => "device",
            EntryKind::Address => "address",
            EntryKind::Neighbour => "neighbour",
            EntryKind::Fdb => "FDB entry",
            EntryKind::TxChecksum => "checksum offload",
            EntryKind::WireguardInterface => "WireGuard key",
            EntryKind::WireguardPeer => "WireGuard peer",
            EntryKind::Route => "route",
            EntryKind::Policy => "IPsec policy",
            EntryKind::Table => "nftables table",
            EntryKind::RuleSet => "iptables rules",
            EntryKind::Blackhole => "blackhole route",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet_filter::{Chain, Family};

    fn table(chains: Vec<Chain>) -> Entry {
        Entry::Table(WholeTable(Arc::new(Table {
            family: Family::Ip6,
            name: "flannel-ipv6".to_owned(),
            dormant: false,
            comment: None,
            chains,
        })))
    }

    #[test]
    fn table_of_a_disabled_family_is_not_node_setup() {
        assert!(!table(Vec::new()).is_node_setup());
        let chain = Chain {
            name: "postrtg".to_owned(),
            comment: None,
            base: None,
            rules: Vec::new(),
        };
        assert!(table(vec![chain]).is_node_setup());
    }

    #[test]
    fn entries_are_shown_as_ip_and_bridge_show_them() {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let dst = "10.244.2.0/24".parse().unwrap();
        let route = HostRoute {
            onlink: true,
            ..HostRoute::new(dst, [10, 244, 2, 0].into(), "flannel.1".into())
        };
        let on_link = HostRoute::on_link(dst, "flannel-wg".into());
        assert_eq!(
            Entry::Route(on_link).to_string(),
            "route 10.244.2.0/24 dev flannel-wg"
        );
        let fdb = Entry::Fdb("flannel.1".into(), mac, [172, 31, 0, 2].into());
        assert_eq!(
            Entry::Route(route).to_string(),
            "route 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink"
        );
        assert_eq!(
            fdb.to_string(),
            "FDB entry 02:00:00:00:00:01 to 172.31.0.2 on flannel.1"
        );
        assert_eq!(
            table(Vec::new()).to_string(),
            "nftables table ip6 flannel-ipv6"
        );
    }

    #[test]
    fn entry_belongs_to_the_peer_that_it_leads_to() {
        let (subnet, public_ip) = ("10.244.2.0/24".parse().unwrap(), [172, 31, 0, 2].into());
        let neighbour = |ip: [u8; 4]| Entry::Neighbour("flannel.1".into(), ip.into(), Mac([2; 6]));
        assert!(neighbour([10, 244, 2, 0]).leads_to(subnet, public_ip));
        assert!(!neighbour([10, 244, 3, 0]).leads_to(subnet, public_ip));
        assert!(!Entry::Address("flannel.1".into(), subnet).leads_to(subnet, public_ip));
    }
}
