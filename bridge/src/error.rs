//! What can go wrong, in upstream's words where it has them.
use ipnetwork::IpNetwork;

/// Each becomes a CNI error; those without a code of their own get 999, as upstream's plain errors do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `vlan` out of range
    #[error("invalid VLAN ID {0} (must be between 0 and 4094)")]
    InvalidVlan(i64),
    /// `vlanTrunk`
    #[error("{0}")]
    Trunk(&'static str),
    /// two keys that exclude each other
    #[error("cannot set hairpin mode and promiscuous mode at the same time")]
    HairpinAndPromisc,
    /// addresses without an interface to put them on
    #[error("cannot use IPAM when DisableContainerInterface flag is set")]
    IpamWithoutInterface,
    /// `ipMasqBackend`
    #[error("unknown ipmasq backend {0:?}")]
    MasqueradeBackend(String),
    /// a MAC by any of the three ways
    #[error("failed to make veth pair: address {0}: invalid MAC address")]
    InvalidMac(String),
    /// the bridge cannot be made or used
    #[error("failed to create bridge {name:?}: {reason}")]
    Bridge {
        /// bridge
        name: String,
        /// cause
        reason: String,
    },
    /// the namespace cannot be opened
    #[error("failed to open netns {path:?}: {source}")]
    Namespace {
        /// CNI_NETNS
        path: String,
        /// cause
        source: linux_net::Error,
    },
    /// the interface name is in use inside the container
    #[error("container veth name ({ifname:?}) peer provided ({host:?}) already exists")]
    InterfaceExists {
        /// CNI_IFNAME
        ifname: String,
        /// the host end that was wanted
        host: String,
    },
    /// IPAM gave no address
    #[error("IPAM plugin returned missing IP config")]
    NoAddresses,
    /// an address without a gateway cannot be served by a gateway bridge
    #[error("no gateway address can be derived from {0}: give the subnet a gateway")]
    NoGateway(IpNetwork),
    /// the bridge's address
    #[error("failed to set bridge addr: {0}")]
    BridgeAddress(String),
    /// the bridge has another subnet's address, and pods that may use it
    #[error(
        "failed to set bridge addr: {bridge:?} already has an IP address different from {wanted}"
    )]
    OtherAddress {
        /// bridge
        bridge: String,
        /// what was to be set
        wanted: IpNetwork,
        /// what is there
        present: IpNetwork,
        /// who is attached
        ports: Vec<String>,
    },
    /// the host end never came up
    #[error("bridge port in error state: {0}")]
    PortState(&'static str),
    /// duplicate address found on the wire
    #[error("link {ifname} has address {address} in DADFAILED state")]
    DuplicateAddress {
        /// interface
        ifname: String,
        /// address
        address: IpNetwork,
    },
    /// duplicate address detection did not end
    #[error("link {0} still has tentative addresses after 5 seconds")]
    StillTentative(String),
    /// CHECK found a difference
    #[error("{0}")]
    Check(String),
    /// a step with the kernel failed
    #[error("{what}: {source}")]
    Kernel {
        /// the step, in upstream's words
        what: String,
        /// cause
        source: linux_net::Error,
    },
    /// a step with the packet filter failed
    #[error("{what}: {source}")]
    Filter {
        /// the step
        what: &'static str,
        /// cause
        source: packet_filter::Error,
    },
    /// a delegate's or the configuration's error, printed as it is
    #[error(transparent)]
    Cni(#[from] cni_conf::Error),
}

impl Error {
    /// Longer text: the way out.
    fn details(&self) -> String {
        match self {
            Error::OtherAddress {
                bridge,
                wanted,
                present,
                ports,
            } => format!(
                "{bridge} has {present} from an earlier subnet and these interfaces are attached to it: {}. \
                 It changes to {wanted} by itself once they are gone (delete or restart those pods); \
                 or set \"forceAddress\": true in the bridge configuration to replace it under them; \
                 or remove the bridge: ip link delete {bridge}",
                ports.join(", ")
            ),
            Error::PortState(_) => {
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

/// Names the step that failed.
pub(crate) trait Step<T> {
    /// `what: cause`
    fn step(self, what: impl Into<String>) -> Result<T, Error>;
}

impl<T> Step<T> for linux_net::Result<T> {
    fn step(self, what: impl Into<String>) -> Result<T, Error> {
        self.map_err(|source| Error::Kernel {
            what: what.into(),
            source,
        })
    }
}

/// For what is done where it can be done, and whose failure nobody has to know: the pod works without.
pub(crate) fn best_effort<T, E>(_result: Result<T, E>) {}
