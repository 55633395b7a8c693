//! Errors of the plugin, in upstream's words where upstream has them.

use ipnetwork::IpNetwork;
use plugin::Attachment;
use std::{fmt::Display, io, path::PathBuf};

/// Each becomes a CNI error with code 999, as upstream's plain errors do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// `vlan` is out of range.
    #[error("invalid VLAN ID {0} (must be between 0 and 4094)")]
    InvalidVlan(i64),
    /// `vlanTrunk` is invalid; upstream's message.
    #[error("{0}")]
    Trunk(&'static str),
    /// `hairpinMode` and `promiscMode` are both set.
    #[error("cannot set hairpin mode and promiscuous mode at the same time")]
    HairpinAndPromisc,
    /// `disableContainerInterface` is set together with an IPAM plugin.
    #[error("cannot use IPAM when DisableContainerInterface flag is set")]
    IpamWithoutInterface,
    /// `ipMasqBackend` is none of `iptables` and `nftables`.
    #[error("unknown ipmasq backend {0:?}")]
    MasqueradeBackend(String),
    /// The requested MAC address is invalid.
    #[error("failed to make veth pair: address {0}: invalid MAC address")]
    InvalidMac(String),
    /// The configuration has no IPAM plugin, and a version whose results need an address.
    #[error("cannot convert: no valid IP addresses")]
    ResultNeedsAddress,
    /// Another kind of interface has the bridge's name.
    #[error("failed to create bridge {0:?}: {0:?} already exists but is not a bridge")]
    NotABridge(String),
    /// The kernel cannot filter VLANs on bridges.
    #[error(
        "failed to create bridge {bridge:?}: could not add {bridge:?}: {source}; \
         vlan and vlanTrunk need a kernel with CONFIG_BRIDGE_VLAN_FILTERING"
    )]
    NoVlanFiltering {
        bridge: String,
        source: linux_net::Error,
    },
    /// A link disappeared after its creation.
    #[error("failed to lookup {0:?}: Link not found")]
    LinkNotFound(String),
    /// Another kind of interface has the name of the VLAN's gateway interface.
    #[error("failed to create vlan gateway {0:?}: {0:?} is not a veth")]
    GatewayNotAVeth(String),
    /// CNI_NETNS cannot be opened.
    #[error("failed to open netns {path:?}: {source}")]
    Namespace {
        path: String,
        source: linux_net::Error,
    },
    /// The container already has an interface with the name CNI_IFNAME.
    #[error("container veth name ({ifname:?}) peer provided ({host_end:?}) already exists")]
    InterfaceExists { ifname: String, host_end: String },
    /// Other links have all the names that the host end can have.
    #[error("failed to make veth pair: no free name for the host end")]
    NoFreeName,
    /// The IPAM plugin gave no address.
    #[error("IPAM plugin returned missing IP config")]
    NoAddresses,
    /// The bridge is a gateway, and the IPAM plugin gave an address without one.
    #[error("no gateway address can be derived from {0}: give the subnet a gateway")]
    NoGateway(IpNetwork),
    /// The bridge has an address of another subnet, and ports that may use it.
    #[error(
        "failed to set bridge addr: {device:?} already has an IP address different from {wanted}"
    )]
    OtherAddress {
        device: String,
        wanted: IpNetwork,
        present: IpNetwork,
        ports: Vec<String>,
    },
    /// ADD: the attachment has an interface in another network namespace, which exists.
    #[error(
        "container {:?} already has interface {:?} in network {:?}, in network namespace {}, which \
         still exists: delete that attachment first",
        owner.container_id, owner.ifname, owner.network, path.display()
    )]
    AttachedElsewhere { owner: Attachment, path: PathBuf },
    /// The machine's network namespaces cannot be listed.
    #[error("failed to list the network namespaces in /proc: {0}")]
    Namespaces(#[source] io::Error),
    /// The host end did not become operational in time.
    #[error("bridge port in error state: down")]
    PortDown,
    /// Another host on the link has the address.
    #[error("link {ifname} has address {address} in DADFAILED state")]
    DuplicateAddress { ifname: String, address: IpNetwork },
    /// Duplicate address detection did not end in time.
    #[error("link {0} still has tentative addresses after 5 seconds")]
    StillTentative(String),
    /// CHECK found a difference, described by the text.
    #[error("{0}")]
    Mismatch(String),
    /// A step failed; `what` names it in upstream's words.
    #[error("{what}: {source}")]
    Step { what: String, source: Cause },
    /// A delegate's or the configuration's error, which keeps its code.
    #[error(transparent)]
    Cni(#[from] cni_conf::Error),
}

/// The cause of a step's failure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    /// The kernel refused a request for a link, address or route.
    #[error(transparent)]
    Net(#[from] linux_net::Error),
    /// nftables or iptables refused a change.
    #[error(transparent)]
    Filter(#[from] packet_filter::Error),
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    /// The remedy; empty where there is none to give.
    fn details(&self) -> String {
        match self {
            Error::OtherAddress {
                device,
                wanted,
                present,
                ports,
            } => format!(
                "{device} has {present} from an earlier subnet and these interfaces are attached to it: {}. \
                 Once they are gone, the next ADD changes it to {wanted} (delete or restart those pods); \
                 or set \"forceAddress\": true in the bridge configuration to replace it now; \
                 or remove the bridge: ip link delete {device}",
                ports.join(", ")
            ),
            Error::PortDown => {
                "the host end of the veth pair did not become operational: is its other end up?"
                    .into()
            }
            _ => String::new(),
        }
    }
}

impl From<Error> for cni_conf::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Cni(error) => error,
            other => cni_conf::Error::internal(&other).details(other.details()),
        }
    }
}

/// Returns [`Error::Mismatch`] with the text unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err(crate::Error::Mismatch(format!($($text)*)));
        }
    };
}
pub(crate) use ensure;

/// Adds the failed step to an error: `what: cause`.
pub(crate) trait Context<T> {
    fn context(self, what: impl Display) -> Result<T, Error>;
}

impl<T, E: Into<Cause>> Context<T> for Result<T, E> {
    fn context(self, what: impl Display) -> Result<T, Error> {
        self.map_err(|source| Error::Step {
            what: what.to_string(),
            source: source.into(),
        })
    }
}
