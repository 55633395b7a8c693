//! What can go wrong when talking to the kernel.

use nix::errno::Errno;

/// Each names the object it is about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a request: its errno and, where it gave one, its extended ACK text.
    #[error("{what}: {}{}", reason(*errno), message.as_deref().map(|m| format!(" ({m})")).unwrap_or_default())]
    Kernel {
        /// "create veth vethabc"
        what: String,
        /// errno
        errno: Errno,
        /// NLMSGERR_ATTR_MSG
        message: Option<String>,
    },
    /// A system call failed.
    #[error("{what}: {}", io_reason(source))]
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

    /// The object (or its device) is not there: ENOENT, ENODEV, ESRCH, EADDRNOTAVAIL, ENXIO.
    pub fn is_absent(&self) -> bool {
        matches!(
            self.errno(),
            Some(
                Errno::ENOENT | Errno::ENODEV | Errno::ESRCH | Errno::EADDRNOTAVAIL | Errno::ENXIO
            )
        )
    }

    /// A system call failed.
    pub fn io(what: impl Into<String>, source: impl Into<std::io::Error>) -> Error {
        Error::Io {
            what: what.into(),
            source: source.into(),
        }
    }

    /// Other programs change what is read too often for a consistent answer: EINTR.
    pub fn interrupted(what: impl Into<String>) -> Error {
        Error::Kernel {
            what: what.into(),
            errno: Errno::EINTR,
            message: Some("others change it faster than it can be read".into()),
        }
    }
}

/// An errno as the Go programs print it: "file exists", not "File exists (os error 17)"; the same with every C library.
pub fn reason(errno: Errno) -> String {
    // where nix has other words than Go
    let text = match errno {
        Errno::EOPNOTSUPP => "operation not supported",
        Errno::ERANGE => "numerical result out of range",
        Errno::EAGAIN => "resource temporarily unavailable",
        Errno::ENOMEM => "cannot allocate memory",
        Errno::EIO => "input/output error",
        Errno::EBADF => "bad file descriptor",
        Errno::ENFILE => "too many open files in system",
        Errno::ELOOP => "too many levels of symbolic links",
        other => other.desc(),
    };
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => text.to_owned(),
    }
}

/// The same for an error of the standard library.
pub fn io_reason(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => reason(Errno::from_raw(number)),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_field() {
        let kernel = |message: Option<&str>| Error::Kernel {
            what: "create bridge cni0".into(),
            errno: Errno::EEXIST,
            message: message.map(Into::into),
        };
        assert_eq!(kernel(None).to_string(), "create bridge cni0: file exists");
        assert_eq!(
            kernel(Some("Device already there")).to_string(),
            "create bridge cni0: file exists (Device already there)"
        );
        let io = Error::io("failed to Statfs \"/x\"", Errno::ENOENT);
        assert_eq!(
            io.to_string(),
            "failed to Statfs \"/x\": no such file or directory"
        );
        assert!(io.is_absent() && !io.is_exists());
        assert_eq!(reason(Errno::EOPNOTSUPP), "operation not supported");
        assert_eq!(reason(Errno::ENETUNREACH), "network is unreachable");
        let magic = Error::NotANamespace {
            path: "/etc/passwd".into(),
            magic: 0xef53,
        };
        assert_eq!(
            magic.to_string(),
            "unknown FS magic on \"/etc/passwd\": ef53"
        );
    }
}
