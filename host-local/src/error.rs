//! What can go wrong, in upstream's words where upstream has them.
use crate::range::RangeError;
use nix::errno::Errno;
use std::{fmt, io, net::IpAddr, path::Path};

/// Why a verb fails. All of them are code 999 for the runtime, as upstream's plain errors are.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration has no `ipam`.
    #[error("IPAM config missing 'ipam' key")]
    NoIpam,
    /// Neither `ranges`, nor the older inline form, nor `runtimeConfig.ipRanges`.
    #[error("no IP ranges specified")]
    NoRanges,
    /// A range cannot be used.
    #[error("invalid range set {index}: {source}")]
    Range {
        /// position in the merged list
        index: usize,
        /// what is wrong with it
        #[source]
        source: RangeError,
    },
    /// Two sets have addresses in common.
    #[error("range set {0} overlaps with {1}")]
    SetsOverlap(usize, usize),
    /// Results before 0.3.0 have room for one address of each family.
    #[error("CNI version {0} does not support more than 1 address per family")]
    OnePerFamily(&'static str),
    /// An address or CIDR that is none.
    #[error("{0}")]
    Address(String),
    /// One set could not give an address.
    #[error("failed to allocate for range {index}: {source}")]
    Allocate {
        /// position in the merged list
        index: usize,
        /// why
        #[source]
        source: AllocateError,
    },
    /// Requested addresses that are in no set.
    #[error("failed to allocate all requested IPs: {}", join(.0))]
    NotInAnySet(Vec<IpAddr>),
    /// CHECK found no reservation.
    #[error("host-local: Failed to find address added by container {0}")]
    NotReserved(String),
    /// The store, or a file that the configuration names.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why a set gave no address.
#[derive(Debug, thiserror::Error)]
pub enum AllocateError {
    /// The gateway's own address was asked for.
    #[error("requested ip {0} is subnet's gateway")]
    Gateway(IpAddr),
    /// Somebody has the requested address.
    #[error("requested IP address {ip} is not available in range set {set}")]
    NotAvailable {
        /// the address
        ip: IpAddr,
        /// the set, `A-B,C-D`
        set: String,
    },
    /// The container has an address of this set, and an interface that uses it.
    #[error("{ip} has been allocated to {container_id}, duplicate allocation is not allowed")]
    Duplicate {
        /// the address
        ip: IpAddr,
        /// whose
        container_id: String,
    },
    /// Every address of the set is taken.
    #[error("no IP addresses available in range set: {0}")]
    Exhausted(String),
    /// The store failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A file operation that failed, as the Go programs print it: `open /x: no such file or directory`.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}: {}", reason(source))]
pub struct FileError {
    what: &'static str,
    path: String,
    #[source]
    source: io::Error,
}

impl FileError {
    /// For use with `map_err`.
    pub fn of(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
        let path = path.display().to_string();
        move |source| FileError { what, path, source }
    }
}

impl From<Error> for cni_conf::Error {
    fn from(error: Error) -> Self {
        cni_conf::Error::internal(error)
    }
}

fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).desc().to_lowercase(),
        None => error.to_string(),
    }
}

fn join(items: &[impl fmt::Display]) -> String {
    let texts: Vec<_> = items.iter().map(ToString::to_string).collect();
    texts.join(" ")
}
