//! Why a verb failed. Texts are upstream's where upstream refuses the same.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A key has the wrong type.
    #[error("failed to parse network configuration: {0}")]
    Json(#[from] go_compat::json::Error),
    /// A direction has a rate only.
    #[error("if rate is set, burst must also be set")]
    NoBurst,
    /// A direction has a burst only.
    #[error("if burst is set, rate must also be set")]
    NoRate,
    /// A burst does not fit the kernel's 32 bits of bytes.
    #[error("burst cannot be more than 4GB")]
    BurstTooLarge,
    /// ADD or CHECK has no prevResult.
    #[error("must be called as chained plugin")]
    NotChained,
    /// CNI_NETNS cannot be opened.
    #[error("failed to open netns {path:?}: {source}")]
    NetNs {
        path: PathBuf,
        source: linux_net::Error,
    },
    /// prevResult has no interfaces.
    #[error("no interfaces provided")]
    NoInterfaces,
    /// CNI_IFNAME does not exist in the container.
    #[error("container interface {0} has no veth peer: could not look up {0:?}: Link not found")]
    NoLink(String),
    /// CNI_IFNAME is not a veth.
    #[error("container interface {0} has no veth peer: interface {0} is not a veth interface")]
    NotVeth(String),
    /// The peer of CNI_IFNAME is in another namespace.
    #[error("veth peer with index {0} is not in host ns")]
    PeerNotInHost(u32),
    /// prevResult does not list the peer of CNI_IFNAME as an interface of the host.
    #[error("no veth peer of container interface found in host ns")]
    UnknownPeer,
    /// The kernel refused a request that `step` names.
    #[error("{step}: {source}")]
    Step {
        step: &'static str,
        source: linux_net::Error,
    },
    /// The ifb device does not exist, right after its creation or for CHECK.
    #[error("get ifb device: {0}: Link not found")]
    NoIfb(String),
    /// CHECK finds no token bucket.
    #[error("Failed to find qdisc")]
    NoBucket,
    /// CHECK finds no ingress qdisc on this link.
    #[error("Failed to find ingress qdisc on {0}")]
    NoIngress(String),
    /// CHECK finds another value.
    #[error("{0} doesn't match")]
    Mismatch(&'static str),
    /// Any other request to the kernel failed.
    #[error(transparent)]
    Kernel(#[from] linux_net::Error),
}

impl From<Failure> for cni_conf::Error {
    fn from(failure: Failure) -> Self {
        cni_conf::Error::internal(failure)
    }
}
