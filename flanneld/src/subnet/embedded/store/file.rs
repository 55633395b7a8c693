//! The store's file: a redb database with a text table for each kind of thing. Keys are subnets as in etcd
//! (`10.1.2.0-24`), values are JSON as in the lease API.
use super::{StoreError, careful::Careful, state::Change};
use crate::{
    model::{InvalidSubnets, Subnets},
    subnet::{alloc::Reservation, embedded::wire::json},
};
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

type Text = TableDefinition<'static, &'static str, &'static str>;
const META: Text = TableDefinition::new("flanneld");
const LEASES: Text = TableDefinition::new("leases");
const RESERVATIONS: Text = TableDefinition::new("reservations");
const REVOKED: Text = TableDefinition::new("revoked");

/// The layout that this program writes.
const FORMAT: &str = "1";
/// Pages kept in memory, bytes: all is read once, at the start.
const CACHE: usize = 256 << 10;

/// The open file. A failed write closes it; the next change opens it again.
pub struct StoreFile {
    path: PathBuf,
    database: Option<Database>,
}

/// What was in it.
pub struct Content {
    /// Made at random with the file: tells a store from its successor.
    pub id: String,
    /// The number of the last change.
    pub revision: u64,
    /// Everything, as the changes that lead there.
    pub changes: Vec<Change>,
}

impl StoreFile {
    /// Opens the file, or makes it whole under another name and renames it: there is no half-made store.
    pub fn open(path: &Path) -> Result<(StoreFile, Content), StoreError> {
        let at = |error: io::Error| StoreError::file(path, error);
        if !fs::exists(path).map_err(at)? || fs::metadata(path).map_err(at)?.len() == 0 {
            create(path)?;
        }
        let mut file = StoreFile {
            path: path.to_owned(),
            database: None,
        };
        let content = file.load()?;
        Ok((file, content))
    }

    fn load(&mut self) -> Result<Content, StoreError> {
        let database = open(&self.path)?;
        let corrupt = |error: redb::Error| StoreError::corrupt(&self.path, error);
        let content = read(&database, &self.path).map_err(|error| match error {
            ReadError::Redb(error) => corrupt(*error),
            ReadError::Content(text) => StoreError::corrupt(&self.path, text),
        })?;
        self.database = Some(database);
        Ok(content)
    }

    /// As after a failed write.
    #[cfg(test)]
    pub fn close(&mut self) {
        self.database = None;
    }

    /// False after a failed write.
    pub fn is_open(&self) -> bool {
        self.database.is_some()
    }

    /// Writes the changes and the new revision in one durable transaction: after this they survive a power loss.
    pub fn commit(&mut self, changes: &[Change], revision: u64) -> Result<(), StoreError> {
        let Some(database) = &self.database else {
            return Err(StoreError::file(&self.path, "closed after a failed write"));
        };
        let result = write(database, changes, revision, false);
        result.map_err(|error| {
            // redb refuses to go on after a failed write, and nobody knows whether this one counts
            self.database = None;
            StoreError::file(&self.path, error)
        })
    }

    /// Opens the file again and writes everything in place of what it holds.
    pub fn rewrite(&mut self, all: &[Change], revision: u64) -> Result<(), StoreError> {
        self.load()?;
        let database = self.database.take();
        let written = database
            .as_ref()
            .map(|database| write(database, all, revision, true));
        match written {
            Some(Err(error)) => Err(StoreError::file(&self.path, error)),
            _ => {
                self.database = database;
                Ok(())
            }
        }
    }
}

fn open(path: &Path) -> Result<Database, StoreError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| StoreError::file(path, error))?;
    Careful::new(file)
        .and_then(|file| {
            Database::builder()
                .set_cache_size(CACHE)
                .create_with_backend(file)
        })
        .map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.to_owned()),
            DatabaseError::Storage(StorageError::Io(error))
                if error.kind() != io::ErrorKind::InvalidData
                    && error.kind() != io::ErrorKind::UnexpectedEof =>
            {
                StoreError::file(path, error)
            }
            error => StoreError::corrupt(path, error),
        })
}

fn create(path: &Path) -> Result<(), StoreError> {
    let at = |error: io::Error| StoreError::file(path, error);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(at)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let fresh = path.with_file_name(name);
    fill(&fresh).map_err(|error| StoreError::file(path, error))?;
    // a store that another process made meanwhile is kept; an empty file is no store
    let taken = || fs::metadata(path).is_ok_and(|file| file.len() > 0);
    match fs::hard_link(&fresh, path) {
        Ok(()) => fs::remove_file(&fresh),
        Err(_) if taken() => fs::remove_file(&fresh),
        Err(_) => fs::rename(&fresh, path),
    }
    .and_then(|()| File::open(folder)?.sync_all())
    .map_err(at)?;
    tracing::info!("new lease store at {}", path.display());
    Ok(())
}

fn fill(fresh: &Path) -> Result<(), redb::Error> {
    if let Err(error) = fs::remove_file(fresh)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error.into());
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(fresh)?;
    let database = Database::builder()
        .set_cache_size(CACHE)
        .create_file(file)?;
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", FORMAT)?;
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(io::Error::from)?;
        let id = format!("{:032x}", u128::from_ne_bytes(id));
        meta.insert("id", id.as_str())?;
        meta.insert("revision", "0")?;
        transaction.open_table(LEASES)?;
        transaction.open_table(RESERVATIONS)?;
        transaction.open_table(REVOKED)?;
    }
    transaction.commit()?;
    Ok(())
}

fn write(
    database: &Database,
    changes: &[Change],
    revision: u64,
    anew: bool,
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    if anew {
        for table in [LEASES, RESERVATIONS, REVOKED] {
            transaction.delete_table(table)?;
        }
    }
    {
        let mut leases = transaction.open_table(LEASES)?;
        let mut reservations = transaction.open_table(RESERVATIONS)?;
        let mut revoked = transaction.open_table(REVOKED)?;
        for change in changes {
            match change {
                Change::Put(lease) => {
                    drop(leases.insert(lease.subnets.to_string().as_str(), json(lease).as_str())?);
                }
                Change::Remove(key, _) => drop(leases.remove(key.to_string().as_str())?),
                Change::Revoked(key, attrs) => {
                    drop(revoked.insert(key.to_string().as_str(), json(attrs).as_str())?);
                }
                Change::Forget(key) => drop(revoked.remove(key.to_string().as_str())?),
                Change::Reserve(Reservation {
                    subnets: key,
                    attrs,
                }) => {
                    drop(reservations.insert(key.to_string().as_str(), json(attrs).as_str())?);
                }
                Change::Unreserve(key) => drop(reservations.remove(key.to_string().as_str())?),
            }
        }
        let mut meta = transaction.open_table(META)?;
        meta.insert("revision", revision.to_string().as_str())?;
    }
    transaction.commit()?;
    Ok(())
}

enum ReadError {
    Redb(Box<redb::Error>),
    Content(String),
}

impl<E: Into<redb::Error>> From<E> for ReadError {
    fn from(error: E) -> ReadError {
        ReadError::Redb(Box::new(error.into()))
    }
}

fn read(database: &Database, path: &Path) -> Result<Content, ReadError> {
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Err(redb::TableError::TableDoesNotExist(_)) => {
            return Err(ReadError::Content(
                "it is another program's database".into(),
            ));
        }
        meta => meta?,
    };
    let word = |key: &str| -> Result<String, ReadError> {
        let value = meta.get(key)?.map(|value| value.value().to_owned());
        value.ok_or_else(|| ReadError::Content(format!("it has no {key}")))
    };
    let format = word("format")?;
    if format != FORMAT {
        return Err(ReadError::Content(format!(
            "its format is {format}, this flanneld knows {FORMAT}: it was written by a newer one"
        )));
    }
    let revision = word("revision")?;
    let revision = revision
        .parse()
        .map_err(|_| ReadError::Content(format!("its revision is {revision:?}")))?;
    let mut changes = Vec::new();
    let mut each = |table: Text, make: &dyn Fn(&str, &str) -> Result<Change, String>| {
        for entry in transaction.open_table(table)?.iter()? {
            let (key, value) = entry?;
            match make(key.value(), value.value()) {
                Ok(change) => changes.push(change),
                // one bad entry does not take the others away
                Err(error) => {
                    tracing::warn!("{}: {} skipped: {error}", path.display(), key.value());
                }
            }
        }
        Ok::<(), ReadError>(())
    };
    each(LEASES, &|_, value| go(value).map(Change::Put))?;
    each(RESERVATIONS, &|key, value| {
        let (key, attrs) = (subnets(key)?, go(value)?);
        Ok(Change::Reserve(Reservation {
            subnets: key,
            attrs,
        }))
    })?;
    each(REVOKED, &|key, value| {
        Ok(Change::Revoked(subnets(key)?, go(value)?))
    })?;
    Ok(Content {
        id: word("id")?,
        revision,
        changes,
    })
}

fn subnets(key: &str) -> Result<Subnets, String> {
    key.parse()
        .map_err(|error: InvalidSubnets| error.to_string())
}

fn go<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, String> {
    go_compat::json::from_slice(json.as_bytes()).map_err(|error| error.to_string())
}
