//! Creates a reservation's file: complete, and only if the address is free.

use plugin::best_effort;
use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write},
    mem::take,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// A file with the content of a reservation, which is linked into the store.
#[derive(Debug)]
pub(super) struct Draft {
    path: PathBuf,
    content: String,
    /// False: another call may use the same file at the same time.
    locked: bool,
    written: bool,
}

impl Draft {
    pub(super) fn new(path: PathBuf, content: String, locked: bool) -> Draft {
        Draft {
            path,
            content,
            locked,
            written: false,
        }
    }

    /// Creates the reservation at `path`; false: the address is reserved already.
    pub(super) fn place(&mut self, path: &Path) -> io::Result<bool> {
        let linked = self.write().and_then(|()| fs::hard_link(&self.path, path));
        let placed = match linked {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(error),
            // the index's folder is not writable, or the file system has no hard links
            Err(_) => self.write_new(path),
            Ok(()) => Ok(()),
        };
        match placed {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            placed => placed.map(|()| true),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        if self.written {
            return Ok(());
        }
        if !self.locked {
            return Err(ErrorKind::Unsupported.into());
        }
        // the draft of a killed call may be a hard link to a valid reservation: never write to it
        let written = remove_if_present(&self.path).and_then(|()| self.write_new(&self.path));
        self.written = written.is_ok();
        // `AlreadyExists` means an existing reservation, never an existing draft
        written.map_err(io::Error::other)
    }

    fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let written = file.write_all(self.content.as_bytes());
        if written.is_err() {
            best_effort(fs::remove_file(path), "an empty file is reclaimed later");
        }
        written
    }

    /// Deletes the file.
    pub(super) fn discard(&mut self) {
        if take(&mut self.written) {
            best_effort(
                fs::remove_file(&self.path),
                "the next call deletes the file",
            );
        }
    }
}

/// Deletes a file. An absent one is no error.
pub(super) fn remove_if_present(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
