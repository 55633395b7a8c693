//! The state files: what the delegate was given at ADD, so that DEL can give it the same whatever
//! has changed since.
//!
//! An attachment's file is `<container id>@<interface>`; an `@` is in no container id. The first
//! attachment's file has a second name (a hard link), `<container id>`: it is the one that upstream
//! writes and reads, so that a node can go back to it with pods running. A lone `<container id>`,
//! with no second name, was left by upstream for an interface it does not tell.
//!
//! Files are written aside and renamed, so that a crash of the process leaves a whole one or none.
//! There is no fsync on the path of every pod: what a power loss damages is derived anew at DEL.
use crate::{Error, derive::Delegate};
use atomic_file::Staged;
use std::{
    fs::{self, DirBuilder, File, Metadata},
    io::{self, ErrorKind, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

/// More than any configuration that the frame lets in, in bytes.
const LONGEST: u64 = 32 << 20;
const FILE: atomic_file::Options = atomic_file::Options::new(0o600);

/// One attachment's files.
#[derive(Debug, Clone)]
pub struct State {
    dir: PathBuf,
    /// `<container id>@<interface>`
    own: PathBuf,
    /// `<container id>`
    upstream: PathBuf,
}

/// What is known of an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// nothing: never attached, or detached already
    Nothing,
    /// what the delegate was given
    Delegate(Delegate),
    /// there is a file, and it is damaged
    Damaged,
}

impl State {
    /// Of one attachment in `dataDir`; both ids are checked already.
    pub fn new(data_dir: &Path, container_id: &str, ifname: &str) -> State {
        State {
            dir: data_dir.to_owned(),
            own: data_dir.join(format!("{container_id}@{ifname}")),
            upstream: data_dir.join(container_id),
        }
    }

    /// The file of this attachment.
    pub fn path(&self) -> &Path {
        &self.own
    }

    /// Reads it.
    pub fn load(&self) -> Result<Saved, Error> {
        let Some(path) = self.found()? else {
            return Ok(Saved::Nothing);
        };
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(LONGEST).read_to_end(&mut bytes))
            .map_err(|error| Error::state("read", path, &error))?;
        Ok(Delegate::from_saved(bytes).map_or(Saved::Damaged, Saved::Delegate))
    }

    /// Writes it whole, and gives it upstream's name too unless that is another attachment's.
    /// Leaves nothing behind when it fails.
    pub fn save(&self, delegate: &Delegate) -> Result<(), Error> {
        let staged = self.stage(&delegate.config)?;
        let (upstream, own) = (stat(&self.upstream)?, stat(&self.own)?);
        let is_first = match (&upstream, &own) {
            (None, _) => true,
            (Some(upstream), Some(own)) => same(upstream, own),
            (Some(_), None) => false,
        };
        staged
            .commit()
            .map_err(|error| Error::state("write", &self.own, &error))?;
        let named = match is_first {
            true => self.name_as_upstream(upstream.is_some(), &delegate.config),
            false => Ok(()),
        };
        if named.is_err() && own.is_none() {
            // what went wrong with the other name is the error to tell
            fs::remove_file(&self.own).ok();
        }
        named
    }

    /// A hard link; a copy where the file system has none. DEL then works as well, only a second
    /// one may take the copy for a lone file.
    fn name_as_upstream(&self, replace: bool, bytes: &[u8]) -> Result<(), Error> {
        if replace {
            unlink(&self.upstream)?;
        }
        match fs::hard_link(&self.own, &self.upstream) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) if has_no_links(&error) => FILE
                .write(&self.upstream, bytes)
                .map_err(|error| Error::state("write", &self.upstream, &error)),
            linked => linked.map_err(|error| Error::state("link", &self.upstream, &error)),
        }
    }

    /// The new file under another name. A missing folder is created.
    fn stage(&self, bytes: &[u8]) -> Result<Staged, Error> {
        if self.dir.as_os_str().is_empty() {
            // otherwise the working directory; mkdir fails with upstream's message
            self.make_dir()?;
        }
        match FILE.stage(&self.own, bytes) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.make_dir()?;
                FILE.stage(&self.own, bytes)
            }
            staged => staged,
        }
        .map_err(|error| Error::state("write", &self.own, &error))
    }

    /// Forgets the attachment, and what an ADD that was killed left unfinished of it. What is gone
    /// already is no error.
    pub fn remove(&self) -> Result<(), Error> {
        let unfinished = atomic_file::unfinished(&self.own)
            .map_err(|error| Error::state("remove", &self.own, &error))?;
        unlink(&unfinished)?;
        match (stat(&self.own)?, stat(&self.upstream)?) {
            (Some(own), Some(upstream)) if same(&own, &upstream) => unlink(&self.upstream)?,
            (None, Some(upstream)) if upstream.nlink() == 1 => unlink(&self.upstream)?,
            _ => {}
        }
        unlink(&self.own)
    }

    /// The own file, else a lone one of upstream's.
    fn found(&self) -> Result<Option<&Path>, Error> {
        if stat(&self.own)?.is_some() {
            return Ok(Some(&self.own));
        }
        let lone = stat(&self.upstream)?.is_some_and(|upstream| upstream.nlink() == 1);
        Ok(lone.then_some(self.upstream.as_path()))
    }

    fn make_dir(&self) -> Result<(), Error> {
        // a recursive builder takes an empty path for one that is there
        let recursive = !self.dir.as_os_str().is_empty();
        DirBuilder::new()
            .recursive(recursive)
            .mode(0o700)
            .create(&self.dir)
            .map_err(|error| Error::state("mkdir", &self.dir, &error))
    }
}

/// One of the attachments that have a file in `dataDir`.
#[derive(Debug, Clone)]
pub struct Listed {
    /// container id
    pub container_id: String,
    /// interface; None if upstream wrote the file
    pub ifname: Option<String>,
    path: PathBuf,
}

impl Listed {
    /// What the delegate was given; None if that cannot be read.
    pub fn delegate(&self) -> Option<Delegate> {
        fs::read(&self.path).ok().and_then(Delegate::from_saved)
    }

    /// Forgets it, under both names.
    pub fn remove(&self) -> Result<(), Error> {
        match (&self.ifname, self.path.parent()) {
            (Some(ifname), Some(dir)) => State::new(dir, &self.container_id, ifname).remove(),
            _ => unlink(&self.path),
        }
    }
}

/// Every attachment with a file, damaged ones too. Takes away what an ADD that was killed left
/// unfinished: nothing else runs while GC does (CNI spec section 2).
pub fn list(data_dir: &Path) -> Result<Vec<Listed>, Error> {
    let entries = match fs::read_dir(data_dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::state("open", data_dir, &error)),
        Ok(entries) => entries,
    };
    let mut listed = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::state("read", data_dir, &error))?;
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str() else { continue };
        if atomic_file::is_unfinished(name) {
            unlink(&path)?;
        } else if let Some(attachment) = listed_as(name, path)? {
            listed.push(attachment);
        }
    }
    Ok(listed)
}

/// None for a second name and for what is no state file.
fn listed_as(name: &str, path: PathBuf) -> Result<Option<Listed>, Error> {
    let (container_id, ifname) = match name.split_once('@') {
        Some((container_id, ifname)) => (container_id, Some(ifname.to_owned())),
        None => (name, None),
    };
    if cni_conf::ids::check_container_id(container_id).is_err() {
        return Ok(None);
    }
    let is_one =
        stat(&path)?.is_some_and(|stat| stat.is_file() && (ifname.is_some() || stat.nlink() == 1));
    Ok(is_one.then(|| Listed {
        container_id: container_id.to_owned(),
        ifname,
        path,
    }))
}

fn stat(path: &Path) -> Result<Option<Metadata>, Error> {
    match fs::symlink_metadata(path) {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::state("stat", path, &error)),
    }
}

/// link(2): what a file system says that knows no hard links.
fn has_no_links(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::Unsupported
    )
}

fn same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

fn unlink(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::state("remove", path, &error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
