//! How a reservation comes into the store: whole, and only where nobody has the address.
use super::Disk;
use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

impl Disk {
    /// The reservation, written whole but not yet in the store.
    fn draft(&mut self) -> io::Result<PathBuf> {
        let draft = self.index.draft();
        if self.drafted {
            return Ok(draft);
        }
        if self.lock.is_none() {
            // there is one draft, and without a lock it may be another call's by the time it is linked
            return Err(ErrorKind::Unsupported.into());
        }
        // What is left of a call that was killed may be a second name of a reservation that is in force: it must not be written to.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.write_new(&draft)?;
        self.drafted = true;
        Ok(draft)
    }

    fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let written = file.write_all(self.owner.content().as_bytes());
        if written.is_err() {
            // nothing better can be done about it; an empty file is known for what it is
            fs::remove_file(path).ok();
        }
        written
    }

    pub(super) fn discard_draft(&mut self) {
        if std::mem::take(&mut self.drafted) {
            // the next call does it otherwise
            fs::remove_file(self.index.draft()).ok();
        }
    }

    /// Puts the owner's reservation at `path`; false if somebody has it.
    pub(super) fn place(&mut self, path: &Path) -> io::Result<bool> {
        let linked = match self.draft() {
            Ok(draft) => fs::hard_link(draft, path),
            Err(error) => Err(io::Error::other(error)),
        };
        let placed = match linked {
            // a side folder that cannot be written to, or a file system without links
            Err(error) if error.kind() != ErrorKind::AlreadyExists => self.write_new(path),
            linked => linked,
        };
        match placed {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            placed => placed.map(|()| true),
        }
    }
}
