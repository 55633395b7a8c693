//! What can go wrong when talking to the kernel.
use nix::errno::Errno;
/// Each names the object it is about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a request: its errno and, where it gave one, its extended ACK text.
    #[error("{what}: {}{}", errno.desc(), message.as_deref().map(|m| format!(" ({m})")).unwrap_or_default())]
    Kernel {
        /// "create veth vethabc"
        what: String,
        /// errno
        errno: Errno,
        /// NLMSGERR_ATTR_MSG
        message: Option<String>,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// "open /run/netns/x"
        what: String,
        /// cause
        #[source]
        source: std::io::Error,
    },
    /// A file exists but is not a network namespace: upstream's `unknown FS magic on "x": ef53`.
    #[error("unknown FS magic on {path:?}: {magic:x}")]
    NotANamespace {
        /// path
        path: String,
        /// f_type
        magic: i64,
    },
    /// The kernel's answer could not be read.
    #[error("{what}: unreadable netlink answer: {reason}")]
    Decode {
        /// request
        what: String,
        /// reason
        reason: String,
    },
}
impl Error {
    /// The errno, if the kernel gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Kernel { errno, .. } => Some(*errno),
            Error::Io { source, .. } => source.raw_os_error().map(Errno::from_raw),
            _ => None,
        }
    }
    /// EEXIST
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(Errno::EEXIST)
    }
    /// The object (or its device) is not there: ENOENT, ENODEV, ESRCH, EADDRNOTAVAIL.
    pub fn is_absent(&self) -> bool {
        matches!(
            self.errno(),
            Some(
                Errno::ENOENT | Errno::ENODEV | Errno::ESRCH | Errno::EADDRNOTAVAIL | Errno::ENXIO
            )
        )
    }
}
