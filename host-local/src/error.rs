//! Errors of the plugin, in upstream's words where upstream has them.

use crate::range::RangeError;
use linux_net::error::io_reason;
use std::{fmt, io, net::IpAddr, path::Path};

/// Why a verb fails: code 999, as upstream's plain errors.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The configuration has no `ipam`.
    #[error("IPAM config missing 'ipam' key")]
    NoIpam,
    /// Neither `ranges`, nor the inline form, nor `runtimeConfig.ipRanges` is set.
    #[error("no IP ranges specified")]
    NoRanges,
    /// A range set is invalid; `index` is its position in the merged list.
    #[error("invalid range set {index}: {source}")]
    Range {
        index: usize,
        #[source]
        source: RangeError,
    },
    /// Two sets have addresses in common.
    #[error("range set {0} overlaps with {1}")]
    SetsOverlap(usize, usize),
    /// Results before 0.3.0 hold one address of each family.
    #[error("CNI version {0} does not support more than 1 address per family")]
    OnePerFamily(&'static str),
    /// An address or CIDR is invalid.
    #[error(transparent)]
    Address(#[from] go_compat::cidr::ParseError),
    /// A range set has no address to give; `index` is its position in the merged list.
    #[error("failed to allocate for range {index}: {source}")]
    Allocate {
        index: usize,
        #[source]
        source: AllocateError,
    },
    /// Requested addresses are in no set.
    #[error("failed to allocate all requested IPs: {}", join(.0))]
    NotInAnySet(Vec<IpAddr>),
    /// CHECK found no reservation.
    #[error("host-local: Failed to find address added by container {0}")]
    NotReserved(String),
    /// The store or `resolvConf` cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why a set gave no address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AllocateError {
    /// The requested address is the gateway's.
    #[error("requested ip {0} is subnet's gateway")]
    Gateway(IpAddr),
    /// The requested address is reserved.
    #[error("requested IP address {ip} is not available in range set {set}")]
    NotAvailable { ip: IpAddr, set: String },
    /// The container has an address of this set, and an interface has that address.
    #[error("{ip} has been allocated to {container_id}, duplicate allocation is not allowed")]
    Duplicate { ip: IpAddr, container_id: String },
    /// All addresses of the set are reserved.
    #[error("no IP addresses available in range set: {0}")]
    Exhausted(String),
    /// The store cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A failed file operation, as the Go programs print it: `open /x: no such file or directory`.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}: {}", io_reason(source))]
pub struct FileError {
    what: &'static str,
    path: String,
    #[source]
    source: io::Error,
}

impl FileError {
    /// For use with `map_err`.
    pub(crate) fn of(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
        let path = path.display().to_string();
        move |source| FileError { what, path, source }
    }
}

impl From<Error> for cni_conf::Error {
    fn from(error: Error) -> Self {
        cni_conf::Error::internal(error)
    }
}

fn join(items: &[impl fmt::Display]) -> String {
    let texts: Vec<_> = items.iter().map(ToString::to_string).collect();
    texts.join(" ")
}
