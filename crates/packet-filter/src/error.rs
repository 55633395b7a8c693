//! Errors of nftables, conntrack and iptables.

use nix::errno::Errno;
use std::path::PathBuf;

/// Its text names the object that it is about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a message, its answer is unreadable, or the socket failed.
    #[error(transparent)]
    Netlink(#[from] linux_net::Error),
    /// The lock of shared iptables chains cannot be taken.
    #[error("lock {}: {source}", file.display())]
    Lock {
        /// the lock
        file: PathBuf,
        /// why; names the process that has it
        #[source]
        source: std::io::Error,
    },
    /// A program of iptables cannot be run, or a file of the kernel about it cannot be read.
    #[error("{program}: {source}")]
    Run {
        /// "iptables-restore"
        program: String,
        /// why
        #[source]
        source: std::io::Error,
    },
    /// A program of iptables failed.
    #[error("{program} failed ({status}): {complaint}")]
    Program {
        /// "iptables-restore"
        program: String,
        /// "exit status: 4"
        status: String,
        /// its standard error, and the line of its input that it complains about
        complaint: String,
    },
}

impl Error {
    /// The errno of the kernel's refusal or of the failed system call.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Netlink(error) => error.errno(),
            Error::Lock { source, .. } | Error::Run { source, .. } => {
                source.raw_os_error().map(Errno::from_raw)
            }
            Error::Program { .. } => None,
        }
    }

    /// ENOENT: the table, chain, set, rule or element is not there.
    pub fn is_absent(&self) -> bool {
        self.errno() == Some(Errno::ENOENT)
    }

    /// ERESTART: the ruleset changed since the generation that the transaction depends on.
    pub fn is_outdated(&self) -> bool {
        self.errno() == Some(Errno::ERESTART)
    }

    /// The kernel has no nftables, or not of that family, so there is nothing in them either.
    pub fn is_unsupported(&self) -> bool {
        matches!(
            self.errno(),
            Some(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT)
        )
    }

    /// EEXIST: there is an element with that key, or a set of other types.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(Errno::EEXIST)
    }
}
