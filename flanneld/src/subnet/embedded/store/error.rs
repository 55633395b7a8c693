//! Errors of the store.

use super::access::Denied;
use crate::{
    model::Subnets,
    subnet::{self, alloc},
};
use std::{io, net::IpAddr, path::PathBuf};

/// Why a change is refused, or the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// No subnet can be chosen or reserved.
    #[error(transparent)]
    Alloc(#[from] alloc::Error),
    /// There is no such lease or reservation.
    #[error("{0} is not leased or reserved here")]
    Unknown(Subnets),
    /// The lease was revoked, and its node has not acquired another one since.
    #[error("lease for {0} has been revoked")]
    Revoked(Subnets),
    /// Another node holds the lease or an overlapping one.
    #[error("{0} belongs to {1}")]
    HeldBy(Subnets, String),
    /// The caller's certificate does not allow the change.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Another process that is connected holds the lease of the node with this public IP.
    #[error(
        "another node that runs has the public IP {0}: set another -public-ip on one of the two, or stop the other one"
    )]
    NodeRuns(String),
    /// Another process that is connected, at this public IP, has the same certificate.
    #[error(
        "the node at {0} runs with this certificate: a certificate is for one node, `flanneld pki issue NAME` makes one \
         for each"
    )]
    CertificateRuns(String),
    /// The node does not give the address by which it is reached.
    #[error("{0} is missing: it identifies the node, and peers send packets to it")]
    MissingAddress(&'static str),
    /// The public address cannot be a node's.
    #[error("{field}: {address} cannot be a node's address")]
    UnusableAddress {
        field: &'static str,
        address: IpAddr,
    },
    /// The node has another reservation.
    #[error("{node} already has the reservation {subnets}: delete it first")]
    AlreadyReserved { node: String, subnets: Subnets },
    /// The bound on leases or reservations is reached.
    #[error("this store holds at most {0} leases and reservations")]
    Full(usize),
    /// Another process has the file open.
    #[error(
        "lease store {} is in use by another process: stop the other flanneld, or set another file with -store", .0.display()
    )]
    InUse(PathBuf),
    /// The file is damaged, or not a store of ours.
    #[error(
        "lease store {} cannot be read: {source}. Restore it from a backup, or move it away and restart: running \
         nodes keep their subnets and register them again", .path.display()
    )]
    Corrupt { path: PathBuf, source: FormatError },
    /// The system starts no thread for the store.
    #[error("cannot start the thread of the lease store: {0}")]
    Thread(#[source] io::Error),
    /// There is no room for the change.
    #[error(
        "the disk of the lease store {} is full: leases can be read, and nothing changes until there is room", .0.display()
    )]
    DiskFull(PathBuf),
    /// The file cannot be read or written.
    #[error("lease store {}: {source}", .path.display())]
    File {
        path: PathBuf,
        source: Box<redb::Error>,
    },
}

impl StoreError {
    /// True if the change is allowed, and the disk does not take it now.
    pub(crate) fn is_of_the_disk(&self) -> bool {
        matches!(self, StoreError::DiskFull(_) | StoreError::File { .. })
    }
}

/// What is wrong with the content of the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormatError {
    /// redb found damage.
    #[error(transparent)]
    Damaged(Box<redb::Error>),
    /// A database without the table that each store has.
    #[error("it is another program's database")]
    Foreign,
    /// An entry that each store has.
    #[error("the entry {0} is missing")]
    Missing(&'static str),
    /// Another layout than this program's.
    #[error("its format is {found}, this version supports {known}: a newer version wrote the file")]
    Version { found: String, known: &'static str },
    /// The revision is not a number, or none that counting leads to.
    #[error("its revision {0:?} is not one that a store can have")]
    Revision(String),
}

impl<E: Into<redb::Error>> From<E> for FormatError {
    fn from(error: E) -> FormatError {
        FormatError::Damaged(Box::new(error.into()))
    }
}

/// The store answers for this node's own lease here.
impl From<StoreError> for subnet::Error {
    fn from(error: StoreError) -> subnet::Error {
        match error {
            StoreError::Alloc(error) => error.into(),
            StoreError::Revoked(subnets) => subnet::Error::Revoked(subnets),
            StoreError::Unknown(subnets) => subnet::Error::Unknown(subnets),
            StoreError::HeldBy(subnets, by) => subnet::Error::Taken { subnets, by },
            StoreError::DiskFull(_)
            | StoreError::File { .. }
            | StoreError::NodeRuns(_)
            | StoreError::CertificateRuns(_) => subnet::Error::Transient(error.into()),
            other => subnet::Error::Permanent(other.into()),
        }
    }
}
