//! Why a network configuration is refused. The messages are upstream's, byte for byte.

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
    #[error(transparent)]
    Cidr(go_compat::cidr::ParseError),
    /// Network or IPv6Network is of the other family than the named one.
    #[error("invalid {0} CIDR format")]
    NetworkFamily(&'static str),
    /// A SubnetMin or SubnetMax is not an address.
    #[error("invalid IP address format")]
    Address,
    /// A SubnetMin or SubnetMax is of the other family than the named one.
    #[error("invalid {0} address format")]
    AddressFamily(&'static str),
    /// An enabled family has no network, or 0.0.0.0/0 or ::/0.
    #[error("please define a correct {prefix}Network parameter in the flannel config")]
    NoNetwork { prefix: &'static str },
    /// SubnetLen leaves less than two host bits.
    #[error("SubnetLen must be less than /{limit}")]
    SubnetLen { limit: u8 },
    /// SubnetLen is less than two bits longer than the network.
    #[error("network must be able to accommodate at least four subnets")]
    TooFewSubnets,
    /// The network has no room for four default subnets.
    #[error("{network} is too small. Minimum useful network prefix is /{longest}")]
    NetworkTooSmall { network: &'static str, longest: u8 },
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
}
