//! The store of one network: its lock, its files and the index.

use super::{
    draft::{Draft, remove_if_present},
    index::Index,
    liveness::{Boot, boot_id},
    record::{FileId, NetNsFile, Record, UNKNOWN_BOOT},
    reservation::{Content, content, is_legacy},
};
use crate::{config::Folders, error::FileError};
use cni_conf::ids::CONTAINER_ID_MAX;
use nix::fcntl::OFlag;
use plugin::Attachment;
use std::{
    cell::OnceCell,
    collections::HashMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// In bytes. A reservation is a container id, CR, LF and an interface name of at most 15 bytes.
const MAX_FILE_SIZE: usize = CONTAINER_ID_MAX + 32;

/// One network's reservations, locked until the value is dropped.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(super) path: PathBuf,
    pub(super) folder: File,
    pub(super) index: Index,
    pub(super) draft: Draft,
    /// The calling attachment and the path of its namespace.
    pub(super) owner: Attachment,
    netns: String,
    /// Of that namespace, if it is known.
    netns_cookie: Option<u64>,
    /// Read when it is needed.
    namespace: OnceCell<Option<NetNsFile>>,
    /// None where /proc cannot be read.
    pub(super) boot: Option<String>,
    pub(super) changed: bool,
    /// Unlocked on a file system without locks, as upstream does it. Dropped last.
    _lock: File,
}

/// All files of the store that are named by an address.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) records: Vec<Record>,
    /// The names of empty files.
    pub(super) empty: Vec<String>,
}

impl Disk {
    /// Opens and locks the store; creates it if it is absent.
    pub(crate) fn create(
        folders: &Folders,
        owner: Attachment,
        netns: &str,
    ) -> Result<Disk, FileError> {
        let path = &folders.store;
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(FileError::of("mkdir", path))?;
        Disk::open(folders, owner, netns)?
            .ok_or(ErrorKind::NotFound.into())
            .map_err(FileError::of("open", path))
    }

    /// Opens and locks the store. None: it is absent.
    pub(crate) fn open(
        folders: &Folders,
        owner: Attachment,
        netns: &str,
    ) -> Result<Option<Disk>, FileError> {
        let path = &folders.store;
        let folder = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            folder => folder.map_err(FileError::of("open", path))?,
        };
        let (lock, locked) = lock(&path.join("lock"))?;
        let boot = boot_id();
        let network = &owner.network;
        let index = Index::open(&folders.index, network, &folder, locked, boot.as_deref());
        Ok(Some(Disk {
            path: path.clone(),
            folder,
            index,
            draft: Draft::new(folders.index.join("draft"), content(&owner), locked),
            owner,
            netns: netns.to_owned(),
            netns_cookie: None,
            namespace: OnceCell::new(),
            boot,
            changed: false,
            _lock: lock,
        }))
    }

    /// The reservations of the calling attachment, and legacy ones of its container.
    pub(crate) fn owned(&mut self) -> Result<Vec<Record>, FileError> {
        let mut records = match self.indexed() {
            Some(records) => records,
            None => self.scan()?.records,
        };
        let owner = &self.owner;
        records.retain(|record| {
            record.owner == *owner
                || (is_legacy(&record.owner) && record.owner.container_id == owner.container_id)
        });
        Ok(records)
    }

    /// The container's records in the index. None: the index is outdated.
    fn indexed(&self) -> Option<Vec<Record>> {
        if !self.index.current {
            return None;
        }
        let records = self.index.of_container(&self.owner.container_id).ok()?;
        let unchanged = |record: &Record| match self.read(&record.name) {
            Ok(Some((Content::Owner(owner), _))) => owner == record.owner,
            _ => false,
        };
        records.iter().all(unchanged).then_some(records)
    }

    /// Removes reservations. An absent one is no error.
    pub(crate) fn remove(&mut self, records: &[Record]) -> Result<(), FileError> {
        let mut names: HashMap<&str, Vec<&str>> = HashMap::new();
        for Record { name, owner, .. } in records {
            self.unlink(name)?;
            names.entry(&owner.container_id).or_default().push(name);
        }
        for (id, names) in names {
            self.index.remove(id, &names);
        }
        Ok(())
    }

    pub(super) fn unlink(&mut self, name: &str) -> Result<(), FileError> {
        self.changed = true;
        let path = self.path.join(name);
        remove_if_present(&path).map_err(FileError::of("remove", &path))
    }

    /// Reads all reservations and rebuilds the index.
    pub(super) fn scan(&mut self) -> Result<Contents, FileError> {
        let records = self.index.all().into_iter();
        let mut indexed: HashMap<String, Record> = records
            .map(|record| (record.name.clone(), record))
            .collect();
        let mut contents = Contents::default();
        let mut complete = true;
        for name in self.names()? {
            match self.read(&name) {
                Ok(Some((Content::Owner(owner), file))) => {
                    let known = indexed.remove(&name);
                    let known = known.filter(|known| known.owner == owner && known.file == file);
                    let record = known.unwrap_or_else(|| self.new_record(name, owner, file));
                    contents.records.push(record);
                }
                Ok(Some((Content::Empty, _))) => contents.empty.push(name),
                Ok(Some((Content::Foreign, _)) | None) => {}
                // the address is reserved for an unknown owner; the others' are not affected
                Err(_) => complete = false,
            }
        }
        match complete {
            true => self.index.rebuild(&contents.records),
            false => self.index.invalidate(),
        }
        self.changed = true;
        Ok(contents)
    }

    /// A record without a namespace.
    pub(super) fn new_record(&self, name: String, owner: Attachment, file: FileId) -> Record {
        Record {
            name,
            owner,
            file,
            boot: self.boot.as_deref().unwrap_or(UNKNOWN_BOOT).to_owned(),
            netns: None,
        }
    }

    /// The names of the files that are addresses.
    pub(super) fn names(&self) -> Result<Vec<String>, FileError> {
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

    /// None: the file is absent or not a regular file.
    fn read(&self, name: &str) -> io::Result<Option<(Content, FileId)>> {
        // O_NONBLOCK: the file may be a FIFO
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(self.path.join(name));
        let mut file = match opened {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        // one read returns a whole regular file
        let mut bytes = [0; MAX_FILE_SIZE];
        let length = file.read(&mut bytes)?;
        let bytes = bytes.get(..length).unwrap_or_default();
        let content = Content::parse(bytes, &self.owner.network);
        Ok(Some((content, FileId::of(&metadata))))
    }

    /// The same with the cookie of the namespace, which need not be looked up.
    pub(crate) fn with_cookie(mut self, netns_cookie: Option<u64>) -> Disk {
        self.netns_cookie = netns_cookie;
        self
    }

    /// The namespace of the calling attachment.
    pub(super) fn namespace(&self) -> Option<&NetNsFile> {
        let read = || NetNsFile::of(&self.netns, self.netns_cookie);
        let namespace = self.namespace.get_or_init(read);
        namespace.as_ref()
    }

    /// The boot in which the reservations are judged.
    pub(super) fn boot(&self) -> Boot {
        Boot::of(&self.folder, self.boot.as_deref())
    }

    pub(crate) fn is_taken(&self, ip: IpAddr) -> bool {
        self.path.join(ip.to_string()).symlink_metadata().is_ok()
    }
}

/// Upstream's lock. False: the file system has no locks.
fn lock(path: &Path) -> Result<(File, bool), FileError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_CREAT.bits())
        .mode(0o750)
        .open(path)
        .map_err(FileError::of("open", path))?;
    loop {
        match file.lock() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            locked => return Ok((file, locked.is_ok())),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.draft.discard();
        if self.changed {
            self.index.seal(&self.folder);
        }
    }
}
