//! Why packets to other nodes cannot leave this host.

use super::LinkState;
use ipnetwork::IpNetwork;
use std::{fmt, net::IpAddr};

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
            Obstacle::Refused(reason) => f.write_str(reason),
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
