//! The allocator's operations on the disk.

use super::{
    disk::Disk,
    record::{FileId, NetNsFile, Record},
    reservation::is_legacy,
};
use crate::{
    allocator::{Held, Store},
    error::FileError,
};
use linux_net::in_use::InUse;
use plugin::best_effort;
use std::{
    collections::HashSet,
    fs::OpenOptions,
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// More than the text of any address, in bytes.
const ADDRESS_MAX: u64 = 64;

impl Disk {
    fn last_reserved_file(&self, set: usize) -> PathBuf {
        self.path.join(format!("last_reserved_ip.{set}"))
    }
}

impl Store for Disk {
    fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        let bytes = atomic_file::read(&self.last_reserved_file(set), ADDRESS_MAX).ok()?;
        std::str::from_utf8(&bytes).ok()?.parse().ok()
    }

    fn set_last_reserved(&mut self, set: usize, ip: IpAddr) {
        let written = overwrite(&self.last_reserved_file(set), &ip.to_string());
        best_effort(written, "only the order of addresses depends on it");
    }

    fn reserve(&mut self, ip: IpAddr) -> Result<bool, FileError> {
        let path = self.path.join(ip.to_string());
        let placed = self.draft.place(&path);
        if !placed.map_err(FileError::of("open", &path))? {
            return Ok(false);
        }
        self.changed = true;
        self.draft.discard();
        let file = path
            .symlink_metadata()
            .map_err(FileError::of("stat", &path))?;
        let record = Record {
            netns: self.namespace().cloned(),
            ..self.new_record(ip.to_string(), self.owner.clone(), FileId::of(&file))
        };
        self.index.insert(&record);
        Ok(true)
    }

    fn release(&mut self, ip: IpAddr) {
        let name = ip.to_string();
        // where this fails, the DEL after the failed ADD tries again
        if self.unlink(&name).is_ok() {
            self.index.remove(&self.owner.container_id, &[&name]);
        }
    }

    fn held(&mut self) -> Result<Vec<Held>, FileError> {
        let owned = self.owned()?;
        if owned.is_empty() {
            return Ok(Vec::new());
        }
        let own = self.namespace();
        let held = |record: &Record| {
            let other = may_be_of_another_namespace(record, own);
            Some(Held {
                ip: record.name.parse().ok()?,
                exact: !is_legacy(&record.owner) && !other,
            })
        };
        Ok(owned.iter().filter_map(held).collect())
    }

    fn taken(&self) -> Result<HashSet<IpAddr>, FileError> {
        let names = self.names()?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn reclaim(&mut self, wanted: &dyn Fn(IpAddr) -> bool) -> Result<bool, FileError> {
        self.reclaim_abandoned(wanted)
    }
}

/// True unless the address was reserved for the namespace `own`, or for one that no longer exists.
fn may_be_of_another_namespace(record: &Record, own: Option<&NetNsFile>) -> bool {
    let Some(netns) = &record.netns else {
        return true;
    };
    let is_own = own.is_some_and(|own| netns.may_be(own.ino, own.cookie));
    let exists = || {
        InUse::read().map_or(true, |all| {
            all.contains(netns.ino) && netns.may_be(netns.ino, all.cookie(netns.ino))
        })
    };
    !is_own && exists()
}

/// Writes over the old text before it truncates the file, so that the file is never empty.
fn overwrite(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}
