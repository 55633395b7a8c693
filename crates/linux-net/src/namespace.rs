//! Network namespaces. A thread that enters one always returns to its own.

use crate::{Error, Result};
use nix::{
    libc,
    sched::{CloneFlags, setns},
    sys::{
        socket::{AddressFamily, SockFlag, SockType, getsockopt, socket, sockopt::GetStruct},
        stat::fstat,
        statfs::{FsType, NSFS_MAGIC, PROC_SUPER_MAGIC, statfs},
    },
};
use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
};

/// The number of the socket's network namespace (SO_NETNS_COOKIE in linux/socket.h).
#[derive(Debug, Clone, Copy)]
struct NetNsCookie;

nix::getsockopt_impl!(
    NetNsCookie,
    libc::SOL_SOCKET,
    libc::SO_NETNS_COOKIE,
    u64,
    GetStruct<u64>
);

/// The calling thread's namespace.
pub(crate) const OWN: &str = "/proc/thread-self/ns/net";

/// An open network namespace.
#[derive(Debug)]
pub struct NetNs {
    /// shared with requests that name it by number
    fd: Arc<OwnedFd>,
}

impl NetNs {
    /// Opens a path and checks with statfs(2) that it is a namespace (NSFS_MAGIC or
    /// PROC_SUPER_MAGIC). The texts of its errors are upstream's.
    pub fn open(path: &Path) -> Result<NetNs> {
        // opening a FIFO would block
        let found =
            statfs(path).map_err(|error| Error::io(format!("failed to Statfs {path:?}"), error))?;
        let FsType(magic) = found.filesystem_type();
        if ![NSFS_MAGIC, PROC_SUPER_MAGIC].contains(&FsType(magic)) {
            return Err(Error::NotANamespace {
                path: path.display().to_string(),
                #[allow(
                    clippy::unnecessary_cast,
                    reason = "the type is shorter on some architectures"
                )]
                magic: magic as i64,
            });
        }
        let file = File::open(path)
            .map_err(|error| Error::io(format!("open {}", path.display()), error))?;
        Ok(OwnedFd::from(file).into())
    }

    /// The calling thread's namespace.
    pub fn current() -> Result<NetNs> {
        match File::open(OWN) {
            Ok(file) => Ok(OwnedFd::from(file).into()),
            Err(error) => Err(Error::io(format!("open {OWN}"), error)),
        }
    }

    /// Runs `f` with the calling thread inside. The thread returns to its namespace, also after a
    /// panic; if it cannot, the process aborts.
    pub fn run<T>(&self, f: impl FnOnce() -> T) -> Result<T> {
        let original = NetNs::current()?;
        enter(self).map_err(|error| Error::io("enter network namespace", error))?;
        let _return = ReturnTo(original);
        Ok(f())
    }

    /// The inode in nsfs.
    pub fn inode(&self) -> Result<u64> {
        let found = fstat(&*self.fd);
        found
            .map(|found| found.st_ino)
            .map_err(|error| Error::io("stat network namespace", error))
    }

    /// The number that no other namespace has until the machine restarts. An inode is given to a
    /// later namespace, too. None: the kernel has no such numbers (before 5.14), or the calling
    /// thread cannot enter the namespace.
    pub fn cookie(&self) -> Option<u64> {
        let ask = || -> nix::Result<u64> {
            let kind = (AddressFamily::Unix, SockType::Datagram);
            let socket = socket(kind.0, kind.1, SockFlag::SOCK_CLOEXEC, None)?;
            cookie_of(&socket)
        };
        self.run(ask).ok()?.ok()
    }

    /// The descriptor, for a request that names it by number.
    pub(crate) fn shared(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }
}

/// The [cookie](NetNs::cookie) of a socket's namespace.
pub(crate) fn cookie_of(socket: &impl AsFd) -> nix::Result<u64> {
    getsockopt(socket, NetNsCookie)
}

fn enter(ns: &NetNs) -> nix::Result<()> {
    setns(ns.as_fd(), CloneFlags::CLONE_NEWNET)
}

/// Returns the thread to this namespace when it is dropped.
struct ReturnTo(NetNs);

impl Drop for ReturnTo {
    fn drop(&mut self) {
        if enter(&self.0).is_err() {
            // the thread would go on to change the wrong network
            std::process::abort();
        }
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for NetNs {
    /// Takes a descriptor of a namespace; it is not checked.
    fn from(fd: OwnedFd) -> Self {
        NetNs { fd: Arc::new(fd) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookie_is_that_of_the_namespace() {
        let own = NetNs::current().unwrap();
        let known = own.cookie();
        assert_eq!(known, NetNs::current().unwrap().cookie());
        // a kernel of 5.14 or later
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let major: u32 = release.split('.').next().unwrap().parse().unwrap();
        assert!(known.is_some() || major < 6);
    }

    #[test]
    fn error_names_what_is_no_namespace() {
        let absent = NetNs::open(Path::new("/nowhere/ns")).unwrap_err();
        assert_eq!(
            absent.to_string(),
            "failed to Statfs \"/nowhere/ns\": no such file or directory"
        );
        let file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        let other = NetNs::open(file.path()).unwrap_err();
        assert_eq!(
            other.to_string(),
            format!("unknown FS magic on {:?}: 1021994", file.path())
        );
    }
}
