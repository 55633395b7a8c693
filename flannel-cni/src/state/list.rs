//! The state files of all attachments, for GC.

use super::{MAX_LEN, State, stat, unlink};
use crate::{Error, derive::Delegate};
use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The state file of an attachment.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) container_id: String,
    /// None if upstream wrote the file.
    pub(crate) ifname: Option<String>,
    pub(crate) path: PathBuf,
}

impl Entry {
    /// The delegate that ADD called; None if the file cannot be read, or is too large.
    pub(crate) fn delegate(&self) -> Option<Delegate> {
        let bytes = atomic_file::read_whole(&self.path, MAX_LEN).ok()?;
        Delegate::from_saved(bytes)
    }

    /// Removes both names of the file.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        match (&self.ifname, self.path.parent()) {
            (Some(ifname), Some(folder)) => State::new(folder, &self.container_id, ifname).remove(),
            _ => unlink(&self.path),
        }
    }
}

/// Every attachment with a file, damaged ones too. Removes what a killed ADD left, and leaves what
/// an ADD writes at this moment.
pub(crate) fn list(data_dir: &Path) -> Result<Vec<Entry>, Error> {
    let entries = match fs::read_dir(data_dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::state("open", data_dir))?,
    };
    let mut listed = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::state("read", data_dir))?;
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str() else { continue };
        if atomic_file::is_unfinished(name) {
            atomic_file::remove_abandoned(&path).map_err(Error::state("remove", &path))?;
        } else {
            listed.extend(entry_of(name, path)?);
        }
    }
    Ok(listed)
}

/// None for the second name of a file and for what is not a state file.
fn entry_of(name: &str, path: PathBuf) -> Result<Option<Entry>, Error> {
    let (container_id, ifname) = match name.split_once('@') {
        Some((container_id, ifname)) => (container_id, Some(ifname.to_owned())),
        None => (name, None),
    };
    if cni_conf::ids::check_container_id(container_id).is_err() {
        return Ok(None);
    }
    let is_entry =
        stat(&path)?.is_some_and(|stat| stat.is_file() && (ifname.is_some() || stat.nlink() == 1));
    Ok(is_entry.then(|| Entry {
        container_id: container_id.to_owned(),
        ifname,
        path,
    }))
}
