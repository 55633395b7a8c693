//! Errors of system calls, of the kernel's refusals and of its answers.

use nix::errno::Errno;

/// Its text begins with the request or system call that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a request.
    #[error("{what}: {}{}", reason(*errno), message.as_deref().map(|m| format!(" ({m})")).unwrap_or_default())]
    Kernel {
        /// the request: "create veth vethabc"
        what: String,
        /// its reason
        errno: Errno,
        /// the extended ACK text (NLMSGERR_ATTR_MSG), where there is one
        message: Option<String>,
    },
    /// A system call failed.
    #[error("{what}: {}", io_reason(source))]
    Io {
        /// the call: "open /run/netns/x"
        what: String,
        /// its errno
        #[source]
        source: std::io::Error,
    },
    /// A file is not a network namespace. The text is upstream's: `unknown FS magic on "x": ef53`.
    #[error("unknown FS magic on {path:?}: {magic:x}")]
    NotANamespace {
        /// the file
        path: String,
        /// its file system (statfs(2) `f_type`)
        magic: i64,
    },
    /// The kernel's answer is missing, malformed or of unexpected content.
    #[error("{what}: invalid netlink answer: {reason}")]
    Decode {
        /// the request
        what: String,
        /// what is wrong with the answer
        reason: String,
    },
}

impl Error {
    /// The errno of a refusal or of a failed system call.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Kernel { errno, .. } => Some(*errno),
            Error::Io { source, .. } => source.raw_os_error().map(Errno::from_raw),
            _ => None,
        }
    }

    /// EEXIST: the object is there already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(Errno::EEXIST)
    }

    /// EPERM, EACCES: the process lacks a capability.
    pub fn is_not_permitted(&self) -> bool {
        matches!(self.errno(), Some(Errno::EPERM | Errno::EACCES))
    }

    /// ENOENT, ENODEV, ESRCH, EADDRNOTAVAIL, ENXIO: the object or its device is not there. ENOTDIR,
    /// ENAMETOOLONG: no file can be at the path.
    pub fn is_absent(&self) -> bool {
        let errno = self.errno();
        matches!(
            errno,
            Some(
                Errno::ENOENT | Errno::ENODEV | Errno::ESRCH | Errno::EADDRNOTAVAIL | Errno::ENXIO
            )
        ) || matches!(errno, Some(Errno::ENOTDIR | Errno::ENAMETOOLONG))
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
            message: Some("it changes faster than it can be read".into()),
        }
    }
}

/// The text of an errno as Go prints it, with every C library: "file exists".
pub fn reason(errno: Errno) -> String {
    // nix has other words for these
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

/// The text of an I/O error, as Go prints it where it has an errno.
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
    fn texts_are_those_of_go() {
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
