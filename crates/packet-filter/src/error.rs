//! What can go wrong.
/// Each names the object it is about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused one message of a transaction.
    #[error("{what}: {}{}", errno.desc(), message.as_deref().map(|m| format!(" ({m})")).unwrap_or_default())]
    Kernel {
        /// "add rule ip flannel-ipv4 postrtg"
        what: String,
        /// errno
        errno: nix::errno::Errno,
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
}
