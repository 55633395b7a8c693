//! Why a verb failed. Texts are upstream's where upstream refuses the same.

use crate::bus::BusFailure;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A key has the wrong type.
    #[error("failed to load netconf: {0}")]
    Keys(#[from] go_compat::json::Error),
    /// `iptablesAdminChainName` cannot be a chain.
    #[error("invalid iptablesAdminChainName {0:?}")]
    AdminChain(String),
    /// `ingressPolicy` is unknown.
    #[error("unknown ingress policy: {0:?}")]
    IngressPolicy(String),
    /// ADD or CHECK has no prevResult.
    #[error("missing prevResult from earlier plugin")]
    NoPrevResult,
    /// An ingress policy needs a bridge, and the result has no interface.
    #[error(
        "interface needs to be set for ingress policy {policy:?}, \
         make sure to chain \"firewall\" plugin with \"bridge\""
    )]
    NoInterface { policy: &'static str },
    /// The result's first interface has no name.
    #[error("got empty bridge name")]
    EmptyBridgeName,
    /// The result's first interface has a name that cannot stand in a rule.
    #[error("invalid bridge name {0:?}")]
    BridgeName(String),
    /// STATUS: the iptables back end cannot work.
    #[error("iptables-restore is not in PATH: install iptables, or set \"backend\": \"firewalld\"")]
    NoIptables,
    /// iptables failed.
    #[error(transparent)]
    Iptables(#[from] packet_filter::Error),
    /// CHECK does not find a rule.
    #[error("expected {place}rule [{rule}] not found")]
    MissingRule { place: String, rule: String },
    /// There is no D-Bus connection.
    #[error(
        "cannot talk to D-Bus at {}: {source}; start it, or set \"backend\": \"iptables\"",
        socket.display()
    )]
    Bus { socket: PathBuf, source: BusFailure },
    /// firewalld refused an address.
    #[error("failed to add the address {address} to {zone} zone: {source}")]
    AddSource {
        address: String,
        zone: String,
        source: BusFailure,
    },
    /// CHECK does not find an address in its zone.
    #[error("failed to find the address {address} in {zone} zone")]
    MissingSource { address: String, zone: String },
}

impl From<Failure> for cni_conf::Error {
    fn from(failure: Failure) -> Self {
        cni_conf::Error::internal(failure)
    }
}
