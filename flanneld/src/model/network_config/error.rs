//! Why a network configuration is refused. Each message names the key; where upstream has a message
//! for the case, its words follow.

use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// `prefix` is "" for IPv4 and "IPv6" for IPv6: it stands before the names of keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The text is not JSON or a key has a value of the wrong type.
    #[error(transparent)]
    Json(go_compat::json::Error),
    /// `Backend.Type` has a value of the wrong type.
    #[error("error decoding Backend property of config: {0}")]
    Backend(#[source] go_compat::json::Error),
    /// Network or IPv6Network is not a CIDR.
    #[error("{key}: {source}")]
    Cidr {
        key: &'static str,
        source: go_compat::cidr::ParseError,
    },
    /// Network or IPv6Network is of the other family than the named one.
    #[error("{key}: invalid {family} CIDR format")]
    NetworkFamily {
        key: &'static str,
        family: &'static str,
    },
    /// Network or IPv6Network has addresses that no pod can have.
    #[error("{key} {network} has {range} addresses, which no pod can have: choose another network")]
    UnusableRange {
        key: &'static str,
        network: IpNetwork,
        range: &'static str,
    },
    /// A SubnetMin or SubnetMax is not an address.
    #[error("{key}: invalid IP address format: {text}")]
    Address { key: &'static str, text: String },
    /// A SubnetMin or SubnetMax is of the other family than the named one.
    #[error("{key}: invalid {family} address format")]
    AddressFamily {
        key: &'static str,
        family: &'static str,
    },
    /// An enabled family has no network, or 0.0.0.0/0 or ::/0.
    #[error("please define a correct {prefix}Network parameter in the flannel config")]
    NoNetwork { prefix: &'static str },
    /// SubnetLen leaves less than two host bits.
    #[error("{prefix}SubnetLen must be less than /{limit}")]
    SubnetLen { prefix: &'static str, limit: u8 },
    /// SubnetLen is less than two bits longer than the network.
    #[error("{prefix}SubnetLen: network must be able to accommodate at least four subnets")]
    TooFewSubnets { prefix: &'static str },
    /// The network has no room for four default subnets.
    #[error("{prefix}Network is too small. Minimum useful network prefix is /{longest}")]
    NetworkTooSmall { prefix: &'static str, longest: u8 },
    /// SubnetMin or SubnetMax (`key`) is outside the network.
    #[error("{prefix}{key} is not in the range of the {prefix}Network")]
    OutOfRange {
        prefix: &'static str,
        key: &'static str,
    },
    /// SubnetMin or SubnetMax (`key`) is not the first address of a subnet.
    #[error("{prefix}{key} is not on a SubnetLen boundary: {address}")]
    NotOnBoundary {
        prefix: &'static str,
        key: &'static str,
        address: String,
    },
    /// SubnetMin is above SubnetMax: no subnet is between them.
    #[error("{prefix}SubnetMin {min} is above {prefix}SubnetMax {max}")]
    MinAboveMax {
        prefix: &'static str,
        min: String,
        max: String,
    },
    /// The pod network contains an address by which this node is reached.
    #[error(
        "{key} {network} contains {address}, by which this node is reached: packets between nodes would go into the \
         pod network; choose a network apart from the nodes' addresses"
    )]
    ContainsUnderlay {
        key: &'static str,
        network: IpNetwork,
        address: IpAddr,
    },
    /// The store leases this node a subnet of another network.
    #[error("this node's lease {subnet} is outside of {key} {network}")]
    LeaseOutside {
        key: &'static str,
        network: IpNetwork,
        subnet: IpNetwork,
    },
    /// The store leases this node no subnet of an enabled family.
    #[error("this node's lease has no subnet of {key} {network}")]
    LeaseWithout {
        key: &'static str,
        network: IpNetwork,
    },
}
