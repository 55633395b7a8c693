//! Why annotations cannot be used.

use ipnetwork::IpNetwork;

/// Why `-kube-annotation-prefix` cannot be used; upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PrefixError {
    #[error("-kube-annotation-prefix {0:?}: subnet/kube: prefix can contain at most single slash")]
    Slashes(String),
    #[error(
        "-kube-annotation-prefix {0:?}: subnet/kube: prefix must be in a format: fqdn/[0-9a-z-_]*"
    )]
    Format(String),
}

/// Why a node, or one address family of it, has no lease. The text completes "node n1: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NodeError {
    /// Upstream's words and the list.
    #[error("pod cidrs should be IPv4/IPv6 only or dualstack: spec.podCIDRs has {0}")]
    TooManyPodCidrs(String),
    /// `spec.podCIDRs` has a text that is no network.
    #[error("spec.podCIDRs: {0}")]
    PodCidr(#[from] go_compat::cidr::ParseError),
    /// `spec.podCIDRs` has a default route.
    #[error("spec.podCIDRs: {0} is no subnet")]
    PodCidrWithoutLength(IpNetwork),
    /// `spec.podCIDRs` lacks a family of the network.
    #[error("spec.podCIDRs has no {family} subnet: {found}")]
    NoPodCidr { family: &'static str, found: String },
    /// An annotation that the node needs is missing or empty.
    #[error("the annotation {0} is missing or empty")]
    Missing(String),
    /// An annotation is not an address of its family.
    #[error("the annotation {key} is {value:?}, which is no {family} address of a node")]
    Address {
        key: String,
        value: String,
        family: &'static str,
    },
    /// The backend data is not JSON.
    #[error("the annotation {key} is not JSON: {error}")]
    Json { key: String, error: String },
    /// An annotation is longer than any that flanneld writes.
    #[error("the annotation {key} has {length} bytes; at most {longest} are read")]
    TooLong {
        key: String,
        length: usize,
        longest: usize,
    },
}
