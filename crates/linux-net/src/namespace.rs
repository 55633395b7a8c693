//! Network namespaces, with an entry that cannot leave a thread in the wrong one.
use crate::Result;
use std::{os::fd::OwnedFd, path::Path};
/// An open network namespace.
#[derive(Debug)]
pub struct NetNs {
    _fd: OwnedFd,
}
impl NetNs {
    /// Opens a path and checks with statfs that it is a namespace (NSFS_MAGIC or PROC_SUPER_MAGIC). Texts as upstream's:
    /// `failed to Statfs "p": no such file or directory`, `unknown FS magic on "p": ef53`.
    pub fn open(_path: &Path) -> Result<NetNs> {
        todo!()
    }
    /// The calling thread's.
    pub fn current() -> Result<NetNs> {
        todo!()
    }
    /// Same namespace (device and inode).
    pub fn is_same(&self, _other: &NetNs) -> Result<bool> {
        todo!()
    }
    /// Runs `f` with the calling thread inside. Afterwards (also after a panic) the thread is back, or the process is aborted.
    pub fn run<T>(&self, _f: impl FnOnce() -> T) -> Result<T> {
        todo!()
    }
}
impl std::os::fd::AsFd for NetNs {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        todo!()
    }
}

impl From<OwnedFd> for NetNs {
    /// An already open namespace.
    fn from(fd: OwnedFd) -> Self {
        NetNs { _fd: fd }
    }
}
