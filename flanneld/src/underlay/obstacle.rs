//! Why packets to other nodes cannot leave this host.

use super::LinkState;
use ipnetwork::IpNetwork;
use std::{fmt, net::IpAddr};

/// The least MTU of IPv6 (RFC 8200, section 5), in bytes.
pub(crate) const IPV6_MIN_MTU: u32 = 1280;

/// As text it follows "not ready: ".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// The underlay's interface is gone.
    NoInterface(String),
    /// Its interface is there, and an address that this node uses is not on it. An address that is
    /// there is a pod's.
    NoAddress {
        interface: String,
        address: IpAddr,
        in_pod_network: Option<(IpAddr, IpNetwork)>,
    },
    /// An administrator set the interface down.
    Down(String),
    /// The interface has no carrier.
    NoCarrier(String),
    /// The backend cannot work on the underlay as it is now: its reason.
    Refused(String),
    /// The interface's MTU leaves pods less than IPv6 needs: the kernel takes no IPv6 address on a
    /// device of that size.
    TooSmallForIpv6 {
        interface: String,
        mtu: u32,
        needed: u32,
    },
    /// A process that moves packets does not work: what it does not do, and why.
    DataPath(String),
    /// The host has no route to these peers.
    NoRoute { peer: IpAddr, others: usize },
}

impl Obstacle {
    /// None if the interface can send.
    pub(super) fn of_link(interface: &str, state: LinkState) -> Option<Obstacle> {
        match state {
            LinkState::Up => None,
            LinkState::NoCarrier => Some(Obstacle::NoCarrier(interface.to_owned())),
            LinkState::Down => Some(Obstacle::Down(interface.to_owned())),
        }
    }

    /// None if pods get as much as IPv6 needs. MTUs are in bytes.
    pub(crate) fn of_mtu(interface: &str, mtu: u32, pod_mtu: u32) -> Option<Obstacle> {
        let missing = IPV6_MIN_MTU
            .checked_sub(pod_mtu)
            .filter(|bytes| *bytes > 0)?;
        Some(Obstacle::TooSmallForIpv6 {
            interface: interface.to_owned(),
            mtu,
            needed: mtu.saturating_add(missing),
        })
    }

    /// True if no packet leaves this host. Else it is some peers that are not reached.
    pub(crate) fn concerns_node(&self) -> bool {
        !matches!(self, Obstacle::NoRoute { .. })
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::NoInterface(name) => write!(f, "the interface {name} is gone"),
            Obstacle::NoAddress {
                interface,
                address,
                in_pod_network,
            } => {
                write!(f, "{interface} no longer has the address {address}")?;
                match in_pod_network {
                    Some((other, network)) => {
                        write!(f, ", and {other} is inside of the pod network {network}")
                    }
                    None => Ok(()),
                }
            }
            Obstacle::Down(name) => write!(f, "{name} is down"),
            Obstacle::NoCarrier(name) => write!(f, "{name} has no carrier"),
            Obstacle::TooSmallForIpv6 {
                interface,
                mtu,
                needed,
            } => write!(
                f,
                "{interface} has an MTU of {mtu}, and IPv6 needs {needed} with this backend: set it to that, or \
                 EnableIPv6 to false"
            ),
            Obstacle::Refused(reason) | Obstacle::DataPath(reason) => f.write_str(reason),
            Obstacle::NoRoute { peer, others: 0 } => {
                write!(f, "there is no route to the peer at {peer}")
            }
            Obstacle::NoRoute { peer, others } => {
                write!(
                    f,
                    "there is no route to the peer at {peer}, and to {others} more"
                )
            }
        }
    }
}
