//! The store's file: a redb database with a text table for each kind of entry. Keys are subnets as
//! in etcd (`10.1.2.0-24`), values are JSON as in the lease API.

use super::{
    error::{FormatError, StoreError},
    locked_file::LockedFile,
    read_only_backend::ReadOnlyBackend,
    state::Change,
    verified_backend::VerifiedBackend,
};
use crate::{
    best_effort::best_effort,
    model::{InvalidSubnets, Subnets, lease::Lease},
    subnet::{alloc::Reservation, embedded::wire::json},
};
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, StorageError,
    TableDefinition, backends::FileBackend,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use tracing::{info, warn};

type Text = TableDefinition<'static, &'static str, &'static str>;
const META: Text = TableDefinition::new("flanneld");
const LEASES: Text = TableDefinition::new("leases");
const RESERVATIONS: Text = TableDefinition::new("reservations");
const REVOKED: Text = TableDefinition::new("revoked");
/// Not in the files of earlier versions, which do not mind it: values are names.
const OWNERS: Text = TableDefinition::new("owners");

/// The openings that are remembered.
const MAX_OPENINGS: usize = 32;

/// No store has a later one: at a change a nanosecond it would be three centuries old.
const LAST_REVISION: u64 = i64::MAX.unsigned_abs();
/// The version of the layout.
const FORMAT: &str = "1";
/// Pages kept in memory, bytes: everything is read once, at the start.
const CACHE: usize = 256 << 10;
const NEW_FILE: atomic_file::Options = atomic_file::Options {
    folder_mode: Some(0o755),
    durable: true,
    concurrent: true,
    ..atomic_file::Options::new(0o600)
};

/// The open file. A failed write closes the database; the next change opens it again.
pub(super) struct StoreFile {
    path: PathBuf,
    /// None after a failed write. Before `file`: it is closed before the locks are released.
    database: Option<Database>,
    /// Locked as long as the store is open, also while there is no database.
    file: LockedFile,
    /// As the next change writes them.
    openings: Vec<Opening>,
}

/// One opening of the store, as its random epoch and the revision at which it began. The revisions
/// of an epoch up to the beginning of the next one are the store's past.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Opening(pub(super) String, pub(super) u64);

/// The content of the file.
pub(super) struct Content {
    /// Made at random with the file: tells a store from its successor.
    pub(super) id: String,
    /// The number of the last change.
    pub(super) revision: u64,
    /// The last openings of the store; the last one is the present one, which the file does not
    /// have before the first change.
    pub(super) openings: Vec<Opening>,
    /// Leases, reservations and revocations, as the changes that lead to them.
    pub(super) changes: Vec<Change>,
}

impl StoreFile {
    /// Opens the file, or creates it whole: there is no half-made store.
    pub(super) fn open(path: &Path) -> Result<(StoreFile, Content), StoreError> {
        match fs::metadata(path) {
            Ok(file) if file.len() > 0 => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file_error(path, error));
            }
            // an empty file is no store
            _ => create(path).map_err(|error| file_error(path, error))?,
        }
        let handle = open_file(path)?;
        let mut content = load(path, &handle)?;
        let epoch = random_id().map_err(|error| file_error(path, error))?;
        content.openings.push(Opening(epoch, content.revision));
        let forgotten = content.openings.len().saturating_sub(MAX_OPENINGS);
        content.openings.drain(..forgotten);
        let mut file = StoreFile {
            path: path.to_owned(),
            database: None,
            file: handle,
            openings: content.openings.clone(),
        };
        match file.open_to_write() {
            Ok(database) => file.database = Some(database),
            Err(error) if error.is_of_the_disk() => {
                warn!("{error}: leases can be read, and no change is made until it can be written");
            }
            Err(error) => return Err(error),
        }
        Ok((file, content))
    }

    /// Opens the database to change it. The file has been read before: this alters it.
    fn open_to_write(&self) -> Result<Database, StoreError> {
        let file = self.file.copy();
        let backend = file.map_err(DatabaseError::from).and_then(FileBackend::new);
        open(&self.path, backend)
    }

    /// The same after a failed write. Another file may have the path meanwhile.
    fn reopen(&mut self) -> Result<Database, StoreError> {
        let found = open_file(&self.path)?;
        let identity = |file: &LockedFile| -> io::Result<_> {
            let found = file.get().metadata()?;
            Ok((found.dev(), found.ino()))
        };
        let ours = identity(&self.file).map_err(|error| file_error(&self.path, error))?;
        let other = identity(&found).map_err(|error| file_error(&self.path, error))?;
        if ours != other {
            self.file = found;
        }
        load(&self.path, &self.file)?;
        self.open_to_write()
    }

    /// As after a failed write.
    #[cfg(test)]
    pub(super) fn close(&mut self) {
        self.database = None;
    }

    /// Writes the changes and the new revision in one durable transaction: after this they survive
    /// a power loss. After a failed write it opens the file again and writes `all`, the whole
    /// content with the changes, in place of what the file holds.
    pub(super) fn commit(
        &mut self,
        changes: &[Change],
        all: impl FnOnce() -> Vec<Change>,
        revision: u64,
    ) -> Result<(), StoreError> {
        if revision > LAST_REVISION {
            return Err(StoreError::Corrupt {
                path: self.path.clone(),
                source: FormatError::Revision(revision.to_string()),
            });
        }
        // redb refuses further writes after a failed one, which may or may not be in the file: the
        // database is put back only after a success
        let (database, result) = match self.database.take() {
            Some(database) => {
                let result = write(&database, changes, &self.openings, revision, false);
                (database, result)
            }
            None => {
                let database = self.reopen()?;
                let result = write(&database, &all(), &self.openings, revision, true);
                (database, result)
            }
        };
        result.map_err(|error| file_error(&self.path, error))?;
        self.database = Some(database);
        Ok(())
    }
}

fn file_error(path: &Path, error: impl Into<redb::Error>) -> StoreError {
    let (path, error) = (path.to_owned(), error.into());
    match &error {
        redb::Error::Io(full)
            if [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded]
                .contains(&full.kind()) =>
        {
            StoreError::DiskFull(path)
        }
        _ => StoreError::File {
            path,
            source: Box::new(error),
        },
    }
}

fn corrupt(path: &Path, source: FormatError) -> StoreError {
    StoreError::Corrupt {
        path: path.to_owned(),
        source,
    }
}

fn open_file(path: &Path) -> Result<LockedFile, StoreError> {
    LockedFile::open(path).map_err(|error| file_error(path, error))
}

/// The content, read without a change of the file. The file is locked from then on.
fn load(path: &Path, file: &LockedFile) -> Result<Content, StoreError> {
    let file = file.copy();
    let backend = file
        .map_err(DatabaseError::from)
        .and_then(ReadOnlyBackend::new);
    let database = open(path, backend)?;
    read(&database, path).map_err(|source| corrupt(path, source))
}

fn open(
    path: &Path,
    backend: Result<impl StorageBackend, DatabaseError>,
) -> Result<Database, StoreError> {
    let database = backend.and_then(|backend| {
        Database::builder()
            .set_cache_size(CACHE)
            .create_with_backend(VerifiedBackend::new(backend))
    });
    database.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.to_owned()),
        DatabaseError::Storage(StorageError::Io(error))
            if error.kind() != io::ErrorKind::InvalidData
                && error.kind() != io::ErrorKind::UnexpectedEof =>
        {
            file_error(path, error)
        }
        error => corrupt(path, error.into()),
    })
}

/// Creates a store, unless another process does so at the same time.
fn create(path: &Path) -> Result<(), redb::Error> {
    if NEW_FILE.stage_with(path, fill)?.commit_new()? {
        info!("new lease store at {}", path.display());
    }
    Ok(())
}

fn random_id() -> io::Result<String> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(io::Error::from)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(id)))
}

/// The database in a file, which is made if the file is empty. It is to be dropped before the file,
/// whose drop releases what it locks.
pub(super) fn database(file: &LockedFile) -> Result<Database, DatabaseError> {
    Database::builder()
        .set_cache_size(CACHE)
        .create_file(file.copy()?)
}

fn fill(file: File) -> Result<(), redb::Error> {
    let id = random_id()?;
    let file = LockedFile::new(file);
    let database = database(&file)?;
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", FORMAT)?;
        meta.insert("id", id.as_str())?;
        meta.insert("revision", "0")?;
        transaction.open_table(LEASES)?;
        transaction.open_table(RESERVATIONS)?;
        transaction.open_table(REVOKED)?;
    }
    transaction.commit()?;
    Ok(())
}

/// One transaction. With `replace` the changes take the place of everything in the file.
fn write(
    database: &Database,
    changes: &[Change],
    openings: &[Opening],
    revision: u64,
    replace: bool,
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    if replace {
        for table in [LEASES, RESERVATIONS, REVOKED, OWNERS] {
            transaction.delete_table(table)?;
        }
    }
    let put = |table: Text, key: String, value: String| -> Result<(), redb::Error> {
        let mut table = transaction.open_table(table)?;
        table.insert(key.as_str(), value.as_str())?;
        Ok(())
    };
    let remove = |table: Text, key: String| -> Result<(), redb::Error> {
        transaction.open_table(table)?.remove(key.as_str())?;
        Ok(())
    };
    for change in changes {
        match change {
            Change::Put(lease) => put(LEASES, lease.subnets.to_string(), json(lease))?,
            Change::Remove(key, _) => {
                remove(LEASES, key.to_string())?;
                remove(OWNERS, key.to_string())?;
            }
            Change::Own(key, name) => put(OWNERS, key.to_string(), json(&&**name))?,
            Change::Revoked(key, attrs) => put(REVOKED, key.to_string(), json(attrs))?,
            Change::Forget(key) => remove(REVOKED, key.to_string())?,
            Change::Reserve(Reservation { subnets, attrs }) => {
                put(RESERVATIONS, subnets.to_string(), json(attrs))?;
            }
            Change::Unreserve(key) => remove(RESERVATIONS, key.to_string())?,
        }
    }
    put(META, "revision".to_owned(), revision.to_string())?;
    put(META, "openings".to_owned(), json(&openings))?;
    // a store that was replaced has every table, also one without entries
    for table in [LEASES, RESERVATIONS, REVOKED] {
        transaction.open_table(table)?;
    }
    transaction.commit()?;
    Ok(())
}

fn read(database: &Database, path: &Path) -> Result<Content, FormatError> {
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Err(FormatError::Foreign),
        meta => meta?,
    };
    let entry = |key: &'static str| -> Result<String, FormatError> {
        let value = meta.get(key)?.map(|value| value.value().to_owned());
        value.ok_or(FormatError::Missing(key))
    };
    let format = entry("format")?;
    if format != FORMAT {
        return Err(FormatError::Version {
            found: format,
            known: FORMAT,
        });
    }
    let revision = entry("revision")?;
    let number = revision.parse().ok();
    let revision = number
        .filter(|number| *number <= LAST_REVISION)
        .ok_or(FormatError::Revision(revision))?;
    let mut changes = Vec::new();
    let mut each = |table: Text, decode: fn(&str, &str) -> Result<Change, EntryError>| {
        for entry in transaction.open_table(table)?.iter()? {
            let (key, value) = entry?;
            match decode(key.value(), value.value()) {
                Ok(change) => changes.push(change),
                // one bad entry does not take the others away
                Err(error) => warn!("{}: {} skipped: {error}", path.display(), key.value()),
            }
        }
        Ok::<(), FormatError>(())
    };
    each(LEASES, |key, value| {
        let lease: Lease = decode(value)?;
        match key.parse::<Subnets>()? == lease.subnets {
            true => Ok(Change::Put(lease)),
            false => Err(EntryError::OtherLease(lease.subnets)),
        }
    })?;
    each(RESERVATIONS, |key, value| {
        let (subnets, attrs) = (key.parse()?, decode(value)?);
        Ok(Change::Reserve(Reservation { subnets, attrs }))
    })?;
    each(REVOKED, |key, value| {
        Ok(Change::Revoked(key.parse()?, decode(value)?))
    })?;
    // a store of an earlier version has none: its clients get a snapshot
    let openings = meta.get("openings")?;
    let openings = openings.map(|openings| decode(openings.value()));
    let openings = best_effort(openings.transpose(), "clients get a snapshot").flatten();
    match transaction.open_table(OWNERS) {
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        _ => each(OWNERS, |key, value| {
            let name: String = decode(value)?;
            Ok(Change::Own(key.parse()?, name.into()))
        })?,
    }
    Ok(Content {
        id: entry("id")?,
        revision,
        openings: openings.unwrap_or_default(),
        changes,
    })
}

/// Why one entry is skipped.
#[derive(Debug, thiserror::Error)]
enum EntryError {
    #[error(transparent)]
    Key(#[from] InvalidSubnets),
    #[error(transparent)]
    Value(#[from] go_compat::json::Error),
    #[error("it is the lease of {0}, in the place of another one")]
    OtherLease(Subnets),
}

fn decode<T: DeserializeOwned>(json: &str) -> Result<T, go_compat::json::Error> {
    go_compat::json::from_slice(json.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A child process has such a descriptor until it executes its program.
    #[test]
    fn closed_store_is_unlocked_while_its_file_is_open_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases.redb");
        let (store, _) = StoreFile::open(&path).unwrap();
        let copy = store.file.copy().unwrap();
        let second = StoreFile::open(&path).map(drop);
        assert!(matches!(second, Err(StoreError::InUse(_))), "{second:?}");
        drop(store);
        StoreFile::open(&path).map(drop).unwrap();
        drop(copy);
    }

    #[test]
    fn new_store_is_unlocked_while_its_file_is_open_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leases.redb");
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).open(&path);
        let file = file.unwrap();
        let copy = file.try_clone().unwrap();
        fill(file).unwrap();
        StoreFile::open(&path).map(drop).unwrap();
        drop(copy);
    }
}
