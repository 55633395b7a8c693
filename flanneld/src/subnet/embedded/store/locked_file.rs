//! The open file of a store: what redb locks of it is released when the store is closed.

use crate::best_effort::best_effort;
use nix::{
    fcntl::{FcntlArg, fcntl},
    libc,
};
use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
};

/// Locks belong to the open file (flock(2), F_OFD_SETLK in fcntl(2)), not to a descriptor: a child
/// process shares them until it executes its program. Without an explicit release they last until
/// then, and the store cannot be opened again.
#[derive(Debug)]
pub(super) struct LockedFile(File);

impl LockedFile {
    /// Opens the file for reading and writing. What is locked of it by way of a [`copy`] stays
    /// locked until the drop.
    ///
    /// [`copy`]: LockedFile::copy
    pub(super) fn open(path: &Path) -> io::Result<LockedFile> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        file.map(LockedFile)
    }

    /// The same for a file that is open.
    pub(super) fn new(file: File) -> LockedFile {
        LockedFile(file)
    }

    /// A descriptor of the same open file.
    pub(super) fn copy(&self) -> io::Result<File> {
        self.0.try_clone()
    }

    pub(super) fn get(&self) -> &File {
        &self.0
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        let all = libc::flock {
            l_type: libc::F_UNLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            // to the end, wherever that is
            l_len: 0,
            l_pid: 0,
        };
        let ranges = fcntl(&self.0, FcntlArg::F_OFD_SETLK(&all));
        best_effort(ranges, "the last descriptor releases the ranges");
        best_effort(self.0.unlock(), "the last descriptor releases the file");
    }
}
