//! One address family of this node.

use ipnetwork::IpNetwork;

/// An address family that the network configuration enables, with this node's part in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Family {
    /// The cluster's network.
    pub(crate) network: IpNetwork,
    /// The subnet that this node leases.
    pub(crate) subnet: IpNetwork,
}

impl Family {
    /// True if `net` is a proper part of the cluster's network.
    pub(crate) fn contains(&self, net: IpNetwork) -> bool {
        self.network.contains(net.ip()) && net.prefix() > self.network.prefix()
    }

    /// True if another node's subnet can be `net`: the length of ours, inside the network, not
    /// ours.
    pub(crate) fn may_be_peer_subnet(&self, net: IpNetwork) -> bool {
        self.network.contains(net.ip())
            && net.prefix() == self.subnet.prefix()
            && net != self.subnet
    }
}
