//! State files: the configuration that the delegate got at ADD, so that DEL can pass the same.
//!
//! The file of an attachment is `CONTAINER_ID@IFNAME`; no container id contains an `@`. The file of
//! a container's first attachment has a second name (a hard link), `CONTAINER_ID`. Upstream writes
//! and reads that one: a node can go back to upstream while pods run. A `CONTAINER_ID` with only
//! that name was written by upstream, for an interface that it does not record.
//!
//! Files are renamed into place when they are complete. They are not synced on the path of every
//! pod: DEL derives again what a power loss damaged.

mod list;

use crate::{Error, derive::Delegate};
use atomic_file::Staged;
use plugin::warn;
use std::{
    fs::{self, DirBuilder, Metadata},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

pub(crate) use list::{Entry, list};

/// Locked: GC removes what a killed ADD left, and not what an ADD of another network writes.
const FILE: atomic_file::Options = atomic_file::Options {
    locked: true,
    ..atomic_file::Options::new(0o600)
};

/// More than any configuration that the frame accepts, in bytes.
const MAX_LEN: u64 = 32 << 20;

/// The state files of one attachment.
#[derive(Debug, Clone)]
pub(crate) struct State {
    folder: PathBuf,
    /// `CONTAINER_ID@IFNAME`
    file: PathBuf,
    /// `CONTAINER_ID`
    upstream_file: PathBuf,
}

/// What the files tell of the attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Saved {
    /// No file: never attached, or detached already.
    Nothing,
    Delegate(Delegate),
    Damaged,
}

impl State {
    /// The caller has checked both ids.
    pub(crate) fn new(data_dir: &Path, container_id: &str, ifname: &str) -> State {
        State {
            folder: data_dir.to_owned(),
            file: data_dir.join(format!("{container_id}@{ifname}")),
            upstream_file: data_dir.join(container_id),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.file
    }

    pub(crate) fn load(&self) -> Result<Saved, Error> {
        let Some(path) = self.existing()? else {
            return Ok(Saved::Nothing);
        };
        match atomic_file::read_whole(path, MAX_LEN) {
            Ok(bytes) => Ok(Delegate::from_saved(bytes).map_or(Saved::Damaged, Saved::Delegate)),
            Err(error) if atomic_file::is_foreign(&error) => {
                warn(format_args!("flannel: {}: {error}", path.display()));
                Ok(Saved::Damaged)
            }
            Err(error) => Err(Error::state("read", path)(error)),
        }
    }

    /// Writes the file, also under upstream's name unless another attachment has that. Leaves no
    /// file if it fails.
    pub(crate) fn save(&self, delegate: &Delegate) -> Result<(), Error> {
        let staged = self.stage(&delegate.config)?;
        let (upstream, old) = (stat(&self.upstream_file)?, stat(&self.file)?);
        let is_first = match (&upstream, &old) {
            (None, _) => true,
            (Some(upstream), Some(old)) => is_same_file(upstream, old),
            (Some(_), None) => false,
        };
        staged.commit().map_err(Error::state("write", &self.file))?;
        let linked = match is_first {
            true => self.link_upstream_file(upstream.is_some(), &delegate.config),
            false => Ok(()),
        };
        if linked.is_err() && old.is_none() {
            // best effort: the first error is the one to report
            fs::remove_file(&self.file).unwrap_or_default();
        }
        linked
    }

    /// A hard link, or a copy if the file system does not support links: a second DEL of the
    /// attachment then takes the copy for a file of upstream's.
    fn link_upstream_file(&self, replace: bool, bytes: &[u8]) -> Result<(), Error> {
        if replace {
            unlink(&self.upstream_file)?;
        }
        match fs::hard_link(&self.file, &self.upstream_file) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) if is_links_unsupported(&error) => FILE
                .write(&self.upstream_file, bytes)
                .map_err(Error::state("write", &self.upstream_file)),
            linked => linked.map_err(Error::state("link", &self.upstream_file)),
        }
    }

    /// Writes the new file under another name. Creates a missing folder.
    fn stage(&self, bytes: &[u8]) -> Result<Staged, Error> {
        if self.folder.as_os_str().is_empty() {
            // as upstream: mkdir fails, instead of a file in the working directory
            self.make_folder()?;
        }
        match FILE.stage(&self.file, bytes) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.make_folder()?;
                FILE.stage(&self.file, bytes)
            }
            staged => staged,
        }
        .map_err(Error::state("write", &self.file))
    }

    /// Removes the files, also what a killed ADD left. A missing file is no error.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        let unfinished =
            atomic_file::unfinished(&self.file).map_err(Error::state("remove", &self.file))?;
        unlink(&unfinished)?;
        match (stat(&self.file)?, stat(&self.upstream_file)?) {
            (Some(file), Some(upstream)) if is_same_file(&file, &upstream) => {
                unlink(&self.upstream_file)?;
            }
            (None, Some(upstream)) if upstream.nlink() == 1 => unlink(&self.upstream_file)?,
            _ => {}
        }
        unlink(&self.file)
    }

    /// The attachment's file, else one that upstream wrote.
    fn existing(&self) -> Result<Option<&Path>, Error> {
        if stat(&self.file)?.is_some() {
            return Ok(Some(&self.file));
        }
        let is_upstreams = stat(&self.upstream_file)?.is_some_and(|stat| stat.nlink() == 1);
        Ok(is_upstreams.then_some(self.upstream_file.as_path()))
    }

    /// Removes the file's own name if it has upstream's, too. True if it had both.
    pub(crate) fn leave_to_upstream(&self) -> Result<bool, Error> {
        let is_both = match (stat(&self.file)?, stat(&self.upstream_file)?) {
            (Some(file), Some(upstream)) => is_same_file(&file, &upstream),
            _ => false,
        };
        if is_both {
            unlink(&self.file)?;
        }
        Ok(is_both)
    }

    fn make_folder(&self) -> Result<(), Error> {
        // a recursive builder accepts an empty path
        let recursive = !self.folder.as_os_str().is_empty();
        DirBuilder::new()
            .recursive(recursive)
            .mode(0o700)
            .create(&self.folder)
            .map_err(Error::state("mkdir", &self.folder))
    }
}

fn stat(path: &Path) -> Result<Option<Metadata>, Error> {
    match fs::symlink_metadata(path) {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(Error::state("stat", path)(error)),
    }
}

/// No file has a name that is too long for the file system.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::InvalidFilename
    )
}

/// link(2) of a file system without hard links.
fn is_links_unsupported(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::Unsupported
    )
}

fn is_same_file(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

fn unlink(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if !is_absent(&error) => Err(Error::state("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
