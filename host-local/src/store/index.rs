//! The index answers which addresses a container has, without a read of all reservations.
//!
//! Each ADD and each DEL needs the addresses of a container, and the store has one file for each
//! address. The index is a folder beside the networks' folders (upstream's plugin reads all files
//! in those) with up to 256 files of lines, by a hash of the container id, and a stamp.
//!
//! Upstream's plugin and administrators change the store without the index. The mtime of the
//! store's folder detects this: the kernel sets it to the current time when any program adds or
//! removes a name. At the end of a call, still under the store's lock, the plugin sets it to a time
//! in the past and writes that time into the stamp. While both are equal, the index knows all
//! reservations. If they differ (another program changed the store, the plugin was killed, the
//! machine lost power, the folder is another one), the index is rebuilt from the files. The index
//! is a cache: its loss or damage costs time only.

use super::{
    draft::remove_if_present,
    record::{FileId, Record},
};
use plugin::best_effort;
use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, FileTimes, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// The age of the mtime that a call sets: more than the granularity of any file system's clock.
const STAMP_AGE: Duration = Duration::from_secs(10);

/// More than a stamp has, in bytes.
const STAMP_MAX: u64 = 1024;
/// Longest file of records that is read, in bytes: those of more than 100,000 containers.
const SHARD_MAX: u64 = 32 << 20;

/// The index of one store.
#[derive(Debug)]
pub(super) struct Index {
    folder: PathBuf,
    network: String,
    boot: Option<String>,
    /// False: other calls may change store and index at the same time.
    locked: bool,
    /// The index knows all reservations of the store.
    pub(super) current: bool,
}

impl Index {
    /// The index is never current where its folder cannot be created or read, or where the store
    /// is not locked.
    pub(super) fn open(
        folder: &Path,
        network: &str,
        store: &File,
        locked: bool,
        boot: Option<&str>,
    ) -> Index {
        let found = atomic_file::read(&folder.join("stamp"), STAMP_MAX).ok();
        let found = found.and_then(|bytes| String::from_utf8(bytes).ok());
        if found.is_none() {
            let created = DirBuilder::new().recursive(true).mode(0o755).create(folder);
            best_effort(
                created,
                "without the index, each call reads all reservations",
            );
        }
        Index {
            folder: folder.to_owned(),
            network: network.to_owned(),
            boot: boot.map(str::to_owned),
            locked,
            current: locked && found.is_some() && found == stamp(store, boot),
        }
    }

    /// The records of a container.
    pub(super) fn of_container(&self, container_id: &str) -> io::Result<Vec<Record>> {
        let mut records = self.read(shard(container_id))?;
        records.retain(|record| record.owner.container_id == container_id);
        Ok(records)
    }

    /// All records that can be read; the others are rebuilt from the files.
    pub(super) fn all(&self) -> Vec<Record> {
        let shards = self.shards().into_iter().flatten();
        let records = shards.flat_map(|shard| self.read(shard));
        records.flatten().collect()
    }

    /// Adds a reservation that was just added to the store.
    pub(super) fn insert(&mut self, record: &Record) {
        if !self.current {
            return;
        }
        let append = || {
            let mut file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(self.path(shard(&record.owner.container_id)))?;
            file.write_all(record.lines().as_bytes())
        };
        self.current = append().is_ok();
    }

    /// Removes reservations of a container that were just removed from the store.
    pub(super) fn remove(&mut self, container_id: &str, names: &[&str]) {
        if !self.current {
            return;
        }
        let shard = shard(container_id);
        let rewrite = || {
            let mut records = self.read(shard)?;
            records.retain(|record| {
                record.owner.container_id != container_id || !names.contains(&record.name.as_str())
            });
            self.write(shard, &records)
        };
        self.current = rewrite().is_ok();
    }

    /// Replaces the whole index.
    pub(super) fn rebuild(&mut self, records: &[Record]) {
        let mut shards: BTreeMap<u8, Vec<Record>> = BTreeMap::new();
        for record in records {
            let shard = shard(&record.owner.container_id);
            shards.entry(shard).or_default().push(record.clone());
        }
        let mut rewrite = || {
            self.remove_stamp()?;
            for shard in self.shards()? {
                // a shard without a record is emptied too
                shards.entry(shard).or_default();
            }
            for (shard, records) in &shards {
                self.write(*shard, records)?;
            }
            Ok::<_, io::Error>(())
        };
        self.current = self.locked && rewrite().is_ok();
    }

    /// The index is not current until it is rebuilt.
    pub(super) fn invalidate(&mut self) {
        self.current = false;
        let reason = "the remaining stamp fits the store only as long as the index does";
        best_effort(self.remove_stamp(), reason);
    }

    /// Binds the index to the present state of the store: the last step under the lock.
    pub(super) fn seal(&mut self, store: &File) {
        if !self.current {
            return;
        }
        let seal = || {
            let past = SystemTime::now().checked_sub(STAMP_AGE);
            let past = past.unwrap_or(SystemTime::UNIX_EPOCH);
            store.set_times(FileTimes::new().set_modified(past))?;
            let stamp = stamp(store, self.boot.as_deref()).ok_or(io::ErrorKind::NotFound)?;
            fs::write(self.folder.join("stamp"), stamp)
        };
        // where this fails, the old stamp differs from the store's mtime
        self.current = seal().is_ok();
    }

    fn remove_stamp(&self) -> io::Result<()> {
        remove_if_present(&self.folder.join("stamp"))
    }

    /// The numbers of the existing files.
    fn shards(&self) -> io::Result<Vec<u8>> {
        let mut shards = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let shard = name.to_str().filter(|name| name.len() == 2);
            shards.extend(shard.and_then(|name| u8::from_str_radix(name, 16).ok()));
        }
        Ok(shards)
    }

    fn path(&self, shard: u8) -> PathBuf {
        self.folder.join(format!("{shard:02x}"))
    }

    fn read(&self, shard: u8) -> io::Result<Vec<Record>> {
        match atomic_file::read_whole(&self.path(shard), SHARD_MAX) {
            Ok(bytes) => Ok(Record::parse_all(
                &String::from_utf8_lossy(&bytes),
                &self.network,
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn write(&self, shard: u8, records: &[Record]) -> io::Result<()> {
        let path = self.path(shard);
        if records.is_empty() {
            return remove_if_present(&path);
        }
        let text: String = records.iter().map(Record::lines).collect();
        fs::write(path, text)
    }
}

/// The stamp of the store's present state: the version of the index's format, the boot, and the
/// store's folder with its mtime. None: the boot is unknown, and an index from before a power loss
/// could not be detected.
fn stamp(store: &File, boot: Option<&str>) -> Option<String> {
    let boot = boot?;
    let folder = store.metadata().ok()?;
    Some(format!("1 {boot} {} {}", folder.dev(), FileId::of(&folder)))
}

/// FNV-1a of the id, folded to a byte.
fn shard(container_id: &str) -> u8 {
    let hash = container_id.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash.to_le_bytes()
        .into_iter()
        .fold(0, |folded, byte| folded ^ byte)
}
