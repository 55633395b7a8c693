//! What is in the stores, for a caller that no runtime started: whose reservations there are, what
//! is known of their containers, and which indexes nobody needs.

use super::{
    disk::Disk,
    liveness::{Boot, Snapshot, Verdict},
    record::Record,
};
use crate::{config::Folders, error::FileError};
use linux_net::in_use::InUse;
use plugin::Attachment;
use std::{
    fs,
    io::{self, ErrorKind},
    net::IpAddr,
    path::Path,
};

/// A reservation of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Whose it is. The interface is "" in a file from before 0.8.
    pub owner: Attachment,
    /// The address.
    pub address: String,
    /// What is known of the container.
    pub container: Container,
}

/// What is known of a reservation's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Container {
    /// Its network namespace is in use.
    Exists,
    /// Nothing is at its CNI_NETNS any more, but a network namespace with this inode is in use: its
    /// own, or a later one, to which the kernel gave the same inode.
    Ending(u64),
    /// It cannot run any more, for this reason.
    Gone(String),
    /// It may exist, for this reason.
    Unknown(&'static str),
}

impl Reservation {
    /// Its container cannot run any more.
    pub fn is_gone(&self) -> bool {
        matches!(self.container, Container::Gone(_))
    }
}

/// The reservations of a network as they were at one moment.
#[derive(Debug)]
pub struct Store {
    records: Vec<Record>,
    boot: Boot,
}

impl Store {
    /// Reads the store of a network. Removes empty files, which a crash left. None: there is no
    /// reservation.
    pub fn read(data_dir: &Path, network: &str) -> Result<Option<Store>, FileError> {
        // to open a store without reservations would create an index that nobody needs
        if !has_reservations(&data_dir.join(network))? {
            return Ok(None);
        }
        let Some(mut disk) = open(data_dir, network)? else {
            return Ok(None);
        };
        let contents = disk.scan()?;
        for name in &contents.empty {
            disk.unlink(name)?;
        }
        Ok(Some(Store {
            boot: disk.boot(),
            records: contents.records,
        }))
    }

    /// Judges the containers by namespaces that were listed later than the store was read: a
    /// container that was added between has no reservation here.
    pub fn reservations(&self, namespaces: &InUse) -> Vec<Reservation> {
        let snapshot = Snapshot::of(namespaces, self.boot.clone(), &self.records);
        let reservation = |record: &Record| Reservation {
            container: match snapshot.verdict(record) {
                Verdict::Exists => Container::Exists,
                Verdict::Ending(inode) => Container::Ending(inode),
                Verdict::Gone(reason) => Container::Gone(reason.to_string()),
                Verdict::Unknown(reason) => Container::Unknown(reason),
            },
            address: record.name.clone(),
            owner: record.owner.clone(),
        };
        self.records.iter().map(reservation).collect()
    }
}

fn has_reservations(store: &Path) -> Result<bool, FileError> {
    let failed = || FileError::of("read", store);
    for entry in fs::read_dir(store).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        if name
            .to_str()
            .is_some_and(|name| name.parse::<IpAddr>().is_ok())
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// None: the folder is no store.
fn open(data_dir: &Path, network: &str) -> Result<Option<Disk>, FileError> {
    let folders = Folders::in_folder(data_dir, network);
    match folders.store.join("lock").exists() {
        true => Disk::open(&folders, Attachment::new(network, "", ""), ""),
        false => Ok(None),
    }
}

/// Removes the indexes of networks without a reservation, or all of them. Returns their networks.
pub fn remove_indexes(data_dir: &Path, all: bool) -> Result<Vec<String>, FileError> {
    let indexes = data_dir.join(Folders::INDEXES);
    let mut removed = Vec::new();
    for network in names(&indexes).map_err(FileError::of("read", &indexes))? {
        let index = indexes.join(&network);
        // locked until the index is removed
        let disk = open(data_dir, &network)?;
        let is_needed = match &disk {
            Some(disk) => !disk.names()?.is_empty(),
            None => false,
        };
        if all || !is_needed {
            fs::remove_dir_all(&index).map_err(FileError::of("remove", &index))?;
            removed.push(network);
        }
    }
    match fs::remove_dir(&indexes) {
        Err(error)
            if ![ErrorKind::NotFound, ErrorKind::DirectoryNotEmpty].contains(&error.kind()) =>
        {
            Err(FileError::of("remove", &indexes)(error))
        }
        _ => Ok(removed),
    }
}

/// The folders in a folder; none if it is absent.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    names.sort();
    Ok(names)
}

/// The networks that may have a store in the folder.
pub fn networks(data_dir: &Path) -> Result<Vec<String>, FileError> {
    let mut networks = names(data_dir).map_err(FileError::of("read", data_dir))?;
    networks.retain(|name| name != Folders::INDEXES);
    Ok(networks)
}
