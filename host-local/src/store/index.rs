//! Which addresses a container has, without reading every reservation.
//!
//! The reservations are files named by address, so the question "what does this container have?", which every ADD and DEL asks,
//! would cost a read of all of them. The index answers it. It is a folder of its own beside the networks' folders (upstream's plugin
//! reads every file in those): 256 files of lines, by a hash of the container id, and a stamp.
//!
//! Upstream's plugin and people change the store without telling the index. What makes it trustworthy nevertheless is the time of
//! the store folder's last change. The kernel sets it to now whenever a name is added or removed, whoever does that. When one of our
//! calls is done, still under the store's lock, it sets the time to a moment that has passed already and writes that moment into the
//! stamp. As long as both agree, nobody has added a reservation that the index does not know. If they do not (another program was
//! here, we were killed on the way, the machine lost power, the folder is another one), the index counts for nothing and is made
//! anew from the files. It is therefore never more than a hint: lost, or left half-written by a crash, it costs time and nothing else.
use super::{
    Boot,
    record::{FileId, Record},
};
use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, FileTimes, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::PathBuf,
    time::{Duration, SystemTime},
};

/// How long ago the store folder seems to have been changed after a call of ours. More than the coarsest file system's clock.
const PAST: Duration = Duration::from_secs(10);

/// The index of one store.
#[derive(Debug)]
pub struct Index {
    folder: PathBuf,
    boot: Boot,
    /// without a lock, others may be changing store and index right now
    locked: bool,
    current: bool,
}

impl Index {
    /// Looks at the folder. Where it cannot be made or read, the index is never current; nor where the store is not `locked`.
    pub fn open(folder: PathBuf, store: &File, locked: bool, boot: Boot) -> Index {
        let stamp = fs::read_to_string(folder.join("stamp")).ok();
        let current = match stamp {
            Some(stamp) => locked && moment(store, &boot).is_some_and(|moment| moment == stamp),
            None => {
                // ADD goes on without it
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o755)
                    .create(&folder)
                    .ok();
                false
            }
        };
        Index {
            folder,
            boot,
            locked,
            current,
        }
    }

    /// True if the index knows every reservation of the store.
    pub fn is_current(&self) -> bool {
        self.current
    }

    /// A file in the index's folder that is moved into the store when it is whole.
    pub fn draft(&self) -> PathBuf {
        self.folder.join("draft")
    }

    /// What is known of a container.
    pub fn of_container(&self, container_id: &str) -> io::Result<Vec<Record>> {
        let mut records = self.read(shard(container_id))?;
        records.retain(|record| record.owner.container_id == container_id);
        Ok(records)
    }

    /// Everything that is known, as far as it can be read.
    pub fn all(&self) -> Vec<Record> {
        let shards = self.shards().unwrap_or_default();
        let read = |shard| self.read(shard).unwrap_or_default();
        shards.into_iter().flat_map(read).collect()
    }

    /// Adds one that has just been made in the store.
    pub fn insert(&mut self, record: &Record) {
        if !self.current {
            return;
        }
        let append = || {
            let mut file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(self.path(shard(&record.owner.container_id)))?;
            file.write_all(record.line().as_bytes())
        };
        self.current = append().is_ok();
    }

    /// Takes out those of a container that have just been removed from the store.
    pub fn remove(&mut self, container_id: &str, names: &[String]) {
        if !self.current {
            return;
        }
        let shard = shard(container_id);
        let rewrite = || {
            let mut records = self.read(shard)?;
            records.retain(|record| {
                record.owner.container_id != container_id || !names.contains(&record.name)
            });
            self.write(shard, &records)
        };
        self.current = rewrite().is_ok();
    }

    /// Makes the index anew.
    pub fn replace(&mut self, records: &[Record]) {
        let mut shards: BTreeMap<u8, Vec<Record>> = BTreeMap::new();
        for record in records {
            let shard = shard(&record.owner.container_id);
            shards.entry(shard).or_default().push(record.clone());
        }
        let mut rewrite = || {
            self.distrust()?;
            for shard in self.shards()? {
                // those that nobody is in any more are emptied too
                shards.entry(shard).or_default();
            }
            for (shard, records) in &shards {
                self.write(*shard, records)?;
            }
            Ok::<_, io::Error>(())
        };
        self.current = self.locked && rewrite().is_ok();
    }

    /// Gives up the index until it is made anew.
    pub fn discard(&mut self) {
        self.current = false;
        // the stamp that stays where this fails is as good as the index was when it was written
        self.distrust().ok();
    }

    /// Binds the index to the store as it is now. Called under the lock when everything else is done.
    pub fn seal(&mut self, store: &File) {
        if !self.current {
            return;
        }
        let seal = || {
            let past = SystemTime::now()
                .checked_sub(PAST)
                .unwrap_or(SystemTime::UNIX_EPOCH);
            store.set_times(FileTimes::new().set_modified(past))?;
            let moment = moment(store, &self.boot).ok_or(io::ErrorKind::NotFound)?;
            fs::write(self.folder.join("stamp"), moment)
        };
        if seal().is_err() {
            // what stands in the stamp is older than the store's last change, so nobody will believe it
            self.current = false;
        }
    }

    fn distrust(&self) -> io::Result<()> {
        match fs::remove_file(self.folder.join("stamp")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The files that there are.
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
        match fs::read(self.path(shard)) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes)
                .lines()
                .filter_map(Record::parse)
                .collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn write(&self, shard: u8, records: &[Record]) -> io::Result<()> {
        let path = self.path(shard);
        if records.is_empty() {
            return match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let text: String = records.iter().map(Record::line).collect();
        fs::write(path, text)
    }
}

/// The stamp's text: the form of the index, the boot, and the store folder with the time of its last change. None where the boot is
/// not known: what was written before a power loss must not be believed after it.
fn moment(store: &File, boot: &Boot) -> Option<String> {
    let boot = boot.id()?;
    let folder = store.metadata().ok()?;
    Some(format!("1 {boot} {} {}", folder.dev(), FileId::of(&folder)))
}

/// FNV-1a over the id, folded to a byte.
fn shard(container_id: &str) -> u8 {
    let hash = container_id.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash.to_le_bytes()
        .into_iter()
        .fold(0, |folded, byte| folded ^ byte)
}
