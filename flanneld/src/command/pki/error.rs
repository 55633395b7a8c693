//! Errors of `flanneld pki`.

use crate::pki::IssueError;
use std::{io, path::PathBuf};

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The words after `pki` do not fit the command.
    #[error(
        "usage: flanneld pki init | issue NAME [ADDRESS...] | issue -operator [NAME] | rotate [-finish]"
    )]
    Usage,
    /// A name that cannot be a folder's, or is no host's.
    #[error(
        "{0:?} cannot be a name: use 1 to 63 letters, digits, '-', '_' and '.', the first a letter or digit"
    )]
    Name(String),
    /// Neither an address nor a host name.
    #[error("{0:?} is neither an IP address nor a host name")]
    Host(String),
    /// -days is 0 or absurd.
    #[error("-days {0}: a certificate lives 1 to 3650 days")]
    Days(u16),
    /// `init` where an authority is.
    #[error("there is an authority in {}: `flanneld pki rotate` replaces it step by step", .0.display())]
    Exists(PathBuf),
    /// Another command where no authority is.
    #[error("there is no authority in {}: make one with `flanneld pki init`, or name its folder with -dir", .0.display())]
    NoAuthority(PathBuf),
    /// A second `rotate` before the first has ended.
    #[error(
        "a rotation is in progress: {} has two authorities. Copy it to every node, renew each certificate with \
         `flanneld pki issue`, then run `flanneld pki rotate -finish`", .0.display()
    )]
    InProgress(PathBuf),
    /// `rotate -finish` without a first step.
    #[error("no rotation is in progress: begin one with `flanneld pki rotate`")]
    NotInProgress,
    /// Certificates of the old authority.
    #[error("the old authority is still needed: renew {} with `flanneld pki issue` and copy them to their nodes", .0.join(", "))]
    StillNeeded(Vec<String>),
    /// A node's certificate would become an operator's, or the reverse.
    #[error(
        "{name} has a certificate of the other kind, a node's or an operator's: choose another name, or move {} away",
        .folder.display()
    )]
    OtherKind { name: String, folder: PathBuf },
    /// A file cannot be read or written.
    #[error("{}: {source}", .path.display())]
    File { path: PathBuf, source: io::Error },
    /// A file holds no certificate.
    #[error("{}: it contains no certificate that can be read", .0.display())]
    NoCertificate(PathBuf),
    /// The certificate cannot be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

impl Error {
    /// True if the command line is the reason.
    pub(super) fn is_usage(&self) -> bool {
        matches!(
            self,
            Error::Usage | Error::Name(_) | Error::Host(_) | Error::Days(_)
        )
    }
}
