//! The reservations on disk: upstream's files under upstream's lock, and an index beside them.
//!
//! `<dataDir>/<network>/` holds one file for each address given away, `last_reserved_ip.N` for each range set, and `lock`. Upstream's
//! plugin and ours work on one folder in turns. A reservation appears whole or not at all: it is written elsewhere on the same file
//! system and linked into the folder, which fails if somebody has the address. There is no fsync: what a power loss damages belongs
//! to containers that the power loss ended.
mod boot;
mod index;
mod liveness;
mod place;
mod reclaim;
mod record;
mod reservation;
#[cfg(test)]
mod tests;

pub use boot::Boot;
pub use liveness::Why;
pub use record::Record;
pub use reservation::{Content, Owner};

use crate::{
    allocator::{self, Held},
    error::FileError,
};
use index::Index;
use record::{FileId, NetNsFile};
use std::{
    collections::{HashMap, HashSet},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// No reservation is longer: an id of 255 bytes at most in practice, CR, LF, and 15 bytes.
const LONGEST: usize = 4096;

/// One network's reservations, locked as long as the value lives.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    folder: File,
    /// None where the file system knows no locks; upstream goes on then too
    lock: Option<File>,
    index: Index,
    boot: Boot,
    /// whose reservations the calls are about, and in which namespace
    owner: Owner,
    netns: String,
    drafted: bool,
    changed: bool,
}

/// Everything that the folder holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// reservations
    pub records: Vec<Record>,
    /// names of files with nothing in them
    pub broken: Vec<String>,
}

impl Disk {
    /// Opens and locks the store of ADD, and makes it where there is none.
    pub fn create(
        path: &Path,
        side: PathBuf,
        owner: Owner,
        netns: &str,
    ) -> Result<Disk, FileError> {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
        made.map_err(FileError::of("mkdir", path))?;
        Self::lock(path, side, owner, netns)?
            .ok_or(ErrorKind::NotFound.into())
            .map_err(FileError::of("open", path))
    }

    /// Opens and locks a store for one owner's reservations; None if there is none.
    pub fn open(path: &Path, side: PathBuf, owner: Owner) -> Result<Option<Disk>, FileError> {
        Self::lock(path, side, owner, "")
    }

    fn lock(
        path: &Path,
        side: PathBuf,
        owner: Owner,
        netns: &str,
    ) -> Result<Option<Disk>, FileError> {
        let folder = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            folder => folder.map_err(FileError::of("open", path))?,
        };
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .read(true)
            .custom_flags(nix::fcntl::OFlag::O_CREAT.bits())
            .mode(0o750)
            .open(&lock_path)
            .map_err(FileError::of("open", &lock_path))?;
        let locked = loop {
            match lock.lock() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => break done.is_ok(),
            }
        };
        let boot = Boot::current();
        Ok(Some(Disk {
            index: Index::open(side, &folder, locked, boot.clone()),
            path: path.to_owned(),
            folder,
            lock: locked.then_some(lock),
            boot,
            owner,
            netns: netns.to_owned(),
            drafted: false,
            changed: false,
        }))
    }

    /// The owner's reservations: for this very interface, and old ones that tell the container alone.
    pub fn owned(&mut self) -> Result<Vec<Record>, FileError> {
        if self.index.is_current()
            && let Ok(mut known) = self.index.of_container(&self.owner.container_id)
        {
            let stands = |record: &Record| {
                let content = self.read(&record.name).ok().flatten();
                content.is_some_and(|(content, _)| content.owner().as_ref() == Some(&record.owner))
            };
            if known.iter().all(stands) {
                known.retain(|record| self.is_own(record));
                return Ok(known);
            }
        }
        let mut records = self.scan()?.records;
        records.retain(|record| self.is_own(record));
        Ok(records)
    }

    fn is_own(&self, record: &Record) -> bool {
        record.owner.container_id == self.owner.container_id
            && (record.owner.is_legacy() || record.owner.ifname == self.owner.ifname)
    }

    /// Removes reservations. One that is gone already is no error.
    pub fn remove(&mut self, records: &[Record]) -> Result<(), FileError> {
        let mut names: HashMap<&str, Vec<String>> = HashMap::new();
        for record in records {
            self.unlink(&record.name)?;
            names
                .entry(&record.owner.container_id)
                .or_default()
                .push(record.name.clone());
        }
        for (id, names) in names {
            self.index.remove(id, &names);
        }
        Ok(())
    }

    fn unlink(&mut self, name: &str) -> Result<(), FileError> {
        self.changed = true;
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done.map_err(FileError::of("remove", &path)),
        }
    }

    /// Reads every reservation, and makes the index anew from them.
    pub fn scan(&mut self) -> Result<Contents, FileError> {
        let known: HashMap<String, Record> = self
            .index
            .all()
            .into_iter()
            .map(|record| (record.name.clone(), record))
            .collect();
        let mut contents = Contents::default();
        let mut unreadable = false;
        for name in self.names()? {
            let (content, file) = match self.read(&name) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(_) => {
                    // somebody has the address; whoever it is, the others' addresses are not to suffer from it
                    unreadable = true;
                    continue;
                }
            };
            match content {
                Content::Nothing => contents.broken.push(name),
                Content::Foreign => {}
                Content::Owner(owner) => {
                    let known = known
                        .get(&name)
                        .filter(|known| known.owner == owner && known.file == file);
                    contents.records.push(match known {
                        Some(known) => known.clone(),
                        None => Record {
                            name,
                            owner,
                            file,
                            boot: self.boot.id().unwrap_or("-").to_owned(),
                            netns: None,
                        },
                    });
                }
            }
        }
        if unreadable {
            self.index.discard();
        } else {
            self.index.replace(&contents.records);
        }
        self.changed = true;
        Ok(contents)
    }

    /// The names of files that are addresses.
    fn names(&self) -> Result<Vec<String>, FileError> {
        let list = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.path)? {
                names.extend(entry?.file_name().into_string().ok());
            }
            names.retain(|name| name.parse::<IpAddr>().is_ok());
            Ok(names)
        };
        list().map_err(FileError::of("read", &self.path))
    }

    /// One file; None if it is gone or a folder.
    fn read(&self, name: &str) -> io::Result<Option<(Content, FileId)>> {
        // without waiting, should somebody have put a pipe there
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
            .open(self.path.join(name));
        let mut file = match opened {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        // a file gives all it has to one read that is large enough
        let mut bytes = [0; LONGEST];
        let length = file.read(&mut bytes)?;
        let content = Content::parse(bytes.get(..length).unwrap_or_default());
        Ok(Some((content, FileId::of(&metadata))))
    }

    /// True if an address is taken.
    pub fn is_taken(&self, ip: IpAddr) -> bool {
        self.path.join(ip.to_string()).symlink_metadata().is_ok()
    }
}

impl allocator::Store for Disk {
    fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        let text = fs::read_to_string(self.path.join(format!("last_reserved_ip.{set}"))).ok()?;
        text.parse().ok()
    }

    fn set_last_reserved(&mut self, set: usize, ip: IpAddr) {
        // over the old text and then cut, so that it is never empty
        let write = || {
            let text = ip.to_string();
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(self.path.join(format!("last_reserved_ip.{set}")))?;
            file.write_all(text.as_bytes())?;
            file.set_len(text.len() as u64)
        };
        write().ok();
    }

    fn reserve(&mut self, ip: IpAddr) -> Result<bool, FileError> {
        let path = self.path.join(ip.to_string());
        if !self.place(&path).map_err(FileError::of("open", &path))? {
            return Ok(false);
        }
        self.changed = true;
        self.discard_draft();
        let file = path
            .symlink_metadata()
            .map_err(FileError::of("stat", &path))?;
        let record = Record {
            name: ip.to_string(),
            owner: self.owner.clone(),
            file: FileId::of(&file),
            boot: self.boot.id().unwrap_or("-").to_owned(),
            netns: NetNsFile::look(&self.netns),
        };
        self.index.insert(&record);
        Ok(true)
    }

    fn release(&mut self, ip: IpAddr) {
        // a DEL that follows the failed ADD tries again
        let name = ip.to_string();
        if self.unlink(&name).is_ok() {
            self.index.remove(&self.owner.container_id, &[name]);
        }
    }

    fn held(&mut self) -> Result<Vec<Held>, FileError> {
        let held = |record: &Record| {
            Some(Held {
                ip: record.ip()?,
                exact: !record.owner.is_legacy(),
            })
        };
        Ok(self.owned()?.iter().filter_map(held).collect())
    }

    fn taken(&self) -> Result<HashSet<IpAddr>, FileError> {
        Ok(self
            .names()?
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect())
    }

    fn reclaim(&mut self, wanted: &dyn Fn(IpAddr) -> bool) -> Result<bool, FileError> {
        self.reclaim_abandoned(wanted)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.discard_draft();
        if self.changed {
            self.index.seal(&self.folder);
        }
    }
}
