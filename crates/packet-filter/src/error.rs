//! What can go wrong.
use nix::errno::Errno;
/// Each names the object it is about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused one message of a transaction.
    #[error("{what}: {}{}", errno.desc(), message.as_deref().map(|m| format!(" ({m})")).unwrap_or_default())]
    Kernel {
        /// "add rule ip flannel-ipv4 postrtg"
        what: String,
        /// errno
        errno: Errno,
        /// extended ACK text
        message: Option<String>,
    },
    /// Socket trouble.
    #[error("{what}: {source}")]
    Io {
        /// doing what
        what: String,
        /// cause
        #[source]
        source: std::io::Error,
    },
    /// The kernel's answer could not be read.
    #[error("{what}: unreadable netlink answer: {reason}")]
    Decode {
        /// request
        what: String,
        /// reason
        reason: String,
    },
    /// A program of iptables' failed.
    #[error("{program} failed ({status}): {said}")]
    Program {
        /// "iptables-restore"
        program: String,
        /// "exit status: 4"
        status: String,
        /// its standard error, and the line of its input that it complains about
        said: String,
    },
}

impl Error {
    pub(crate) fn io(what: &str, source: std::io::Error) -> Self {
        Error::Io {
            what: what.to_owned(),
            source,
        }
    }

    pub(crate) fn decode(what: &str, reason: &str) -> Self {
        Error::Decode {
            what: what.to_owned(),
            reason: reason.to_owned(),
        }
    }

    /// The errno, if the kernel gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Kernel { errno, .. } => Some(*errno),
            Error::Io { source, .. } => Some(errno_of(source)),
            Error::Decode { .. } | Error::Program { .. } => None,
        }
    }

    /// The table, chain, set, rule or element is not there.
    pub fn is_absent(&self) -> bool {
        self.errno() == Some(Errno::ENOENT)
    }

    /// Somebody changed something since the generation that the transaction depends on.
    pub fn is_outdated(&self) -> bool {
        self.errno() == Some(Errno::ERESTART)
    }

    /// The kernel has no nftables, or not of that family: then there is nothing in them either.
    pub fn is_unsupported(&self) -> bool {
        matches!(
            self.errno(),
            Some(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT)
        )
    }

    /// An element with that key is there already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(Errno::EEXIST)
    }
}

pub(crate) fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}
