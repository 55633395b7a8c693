//! A folder of the node that other programs read and write too: /opt/cni/bin, /etc/cni/net.d.

use super::{
    error::Error,
    record::{self, Digest, Record},
};
use atomic_file::{Options, Staged};
use nix::fcntl::{Flock, FlockArg};
use ring::digest::{self, Context, SHA256};
use std::{
    fs::{self, DirBuilder, File, Metadata},
    io::{self, ErrorKind, Read},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

const RECORD: &str = ".flanneld-installed";
/// Bytes of a record that are read.
const RECORD_LIMIT: u64 = 64 * 1024;
/// Follows the name of a file of another origin that was replaced.
pub(super) const KEPT_SUFFIX: &str = ".before-flanneld";
/// Two pods of a rolling update may install at the same time; one takes well below a second.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
const LOCK_INTERVAL: Duration = Duration::from_millis(20);

/// The folder, locked against other install commands.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    record: Record,
    lock: Flock<File>,
}

/// A file to install.
#[derive(Debug)]
pub(super) struct Content {
    bytes: Vec<u8>,
    mode: u32,
    digest: Digest,
}

/// What has a name in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Present {
    Absent,
    /// An install command wrote it.
    Ours {
        digest: Digest,
        mode: u32,
    },
    /// A file of another origin. A symbolic link is always one, and has no digest.
    Foreign {
        digest: Option<Digest>,
        mode: u32,
    },
}

/// What [`Folder::put`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    Installed,
    Updated,
    /// A file of another origin has the kept name now.
    Replaced,
    /// The same content was there.
    Unchanged,
}

/// What [`Folder::take_back`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TakenBack {
    /// There was nothing.
    Nothing,
    Removed,
    Restored,
    /// Somebody else's content is there.
    Left,
}

impl Folder {
    /// Creates the folder where it is missing, and waits for its lock.
    pub(super) fn create(path: &Path) -> Result<Folder, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(write_error(path))?;
        Folder::open(path)
    }

    /// None if there is no folder.
    pub(super) fn existing(path: &Path) -> Result<Option<Folder>, Error> {
        match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            _ => Folder::open(path).map(Some),
        }
    }

    fn open(path: &Path) -> Result<Folder, Error> {
        let mut folder = File::open(path).map_err(write_error(path))?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        let lock = loop {
            folder = match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => break lock,
                Err((folder, nix::Error::EWOULDBLOCK)) if Instant::now() < deadline => folder,
                Err((_, nix::Error::EWOULDBLOCK)) => {
                    let (path, timeout) = (path.to_owned(), LOCK_TIMEOUT);
                    return Err(Error::Locked { path, timeout });
                }
                Err((_, error)) => return Err(write_error(path)(error.into())),
            };
            thread::sleep(LOCK_INTERVAL);
        };
        Ok(Folder {
            path: path.to_owned(),
            record: read_record(&path.join(RECORD))?,
            lock,
        })
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn kept(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}{KEPT_SUFFIX}"))
    }

    pub(super) fn present(&self, name: &str) -> Result<Present, Error> {
        let path = self.file(name);
        let Some(metadata) = metadata(&path)? else {
            return Ok(Present::Absent);
        };
        let mode = metadata.permissions().mode() & 0o7777;
        if metadata.is_symlink() {
            return Ok(Present::Foreign { digest: None, mode });
        }
        if !metadata.is_file() {
            return Err(Error::NotAFile { path });
        }
        let digest = digest_of(&path)?;
        Ok(match self.record.has(name, &digest) {
            true => Present::Ours { digest, mode },
            false => Present::Foreign {
                digest: Some(digest),
                mode,
            },
        })
    }

    /// Gives a file its content. A killed process leaves the old file or the new one, and at most
    /// an unfinished file that the next run replaces.
    pub(super) fn put(&mut self, name: &str, content: &Content) -> Result<Put, Error> {
        let present = self.present(name)?;
        if present.is(content) {
            return Ok(Put::Unchanged);
        }
        // first, so that `take_back` knows what a killed process began
        self.record_content(name, &present, content)?;
        let path = self.file(name);
        let staged = durable(content.mode).stage(&path, &content.bytes);
        let staged = staged.map_err(write_error(&path))?;
        let put = match present {
            Present::Absent => Put::Installed,
            Present::Ours { .. } => Put::Updated,
            Present::Foreign { .. } => {
                self.keep(name)?;
                Put::Replaced
            }
        };
        staged.commit().map_err(write_error(&path))?;
        Ok(put)
    }

    /// Records the new content, and the present one for as long as it may stay.
    fn record_content(
        &mut self,
        name: &str,
        present: &Present,
        content: &Content,
    ) -> Result<(), Error> {
        let mut digests = vec![content.digest.clone()];
        if let Present::Ours { digest, .. } = present {
            digests.insert(0, digest.clone());
        }
        self.record.set(name, digests);
        let path = self.file(RECORD);
        let text = self.record.to_string();
        let written = durable(0o644).write(&path, text.as_bytes());
        written.map_err(write_error(&path))
    }

    /// Gives the present file the kept name too.
    fn keep(&self, name: &str) -> Result<(), Error> {
        let (file, kept) = (self.file(name), self.kept(name));
        let unfinished = atomic_file::unfinished(&kept).map_err(write_error(&kept))?;
        remove(&unfinished)?;
        match fs::hard_link(&file, &unfinished) {
            Ok(()) => {
                fs::rename(&unfinished, &kept).map_err(write_error(&kept))?;
                // rename(2) leaves both names of one file, which a killed run has kept already
                remove(&unfinished)
            }
            // no hard links in this file system, or not to another user's file
            Err(_) => copy(&file, &kept),
        }
    }

    /// Restores what [`put`](Self::put) replaced, or removes what it wrote.
    pub(super) fn take_back(&mut self, name: &str) -> Result<TakenBack, Error> {
        let (file, kept) = (self.file(name), self.kept(name));
        for path in [&file, &kept] {
            remove(&atomic_file::unfinished(path).map_err(write_error(path))?)?;
        }
        let has_kept = metadata(&kept)?.is_some();
        match self.present(name)? {
            Present::Absent if !has_kept => Ok(TakenBack::Nothing),
            Present::Absent | Present::Ours { .. } if has_kept => {
                fs::rename(&kept, &file).map_err(write_error(&file))?;
                Ok(TakenBack::Restored)
            }
            Present::Absent | Present::Ours { .. } => {
                remove(&file)?;
                Ok(TakenBack::Removed)
            }
            Present::Foreign { digest, .. } => {
                // a run that was killed before it replaced the file
                if has_kept && digest.is_some() && digest == digest_of(&kept).ok() {
                    remove(&kept)?;
                }
                Ok(TakenBack::Left)
            }
        }
    }

    /// The names in the record, and those that have a kept file.
    pub(super) fn names(&self) -> Result<Vec<String>, Error> {
        let mut names: Vec<_> = self.record.names().map(str::to_owned).collect();
        let entries = fs::read_dir(&self.path).map_err(read_error(&self.path))?;
        for entry in entries {
            let entry = entry.map_err(read_error(&self.path))?;
            let file = entry.file_name();
            let name = file
                .to_str()
                .and_then(|name| name.strip_suffix(KEPT_SUFFIX));
            names.extend(
                name.filter(|name| record::is_file_name(name))
                    .map(str::to_owned),
            );
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Removes the record, after everything in it was taken back.
    pub(super) fn remove_record(&mut self) -> Result<(), Error> {
        let path = self.file(RECORD);
        remove(&atomic_file::unfinished(&path).map_err(write_error(&path))?)?;
        remove(&path)?;
        self.lock.sync_all().map_err(write_error(&self.path))
    }
}

impl Content {
    pub(super) fn new(bytes: Vec<u8>, mode: u32) -> Content {
        let digest = hex(digest::digest(&SHA256, &bytes).as_ref());
        Content {
            bytes,
            mode,
            digest,
        }
    }

    /// In bytes.
    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl Present {
    /// True for a file with this content and these permission bits.
    pub(super) fn is(&self, content: &Content) -> bool {
        let (digest, mode) = match self {
            Present::Absent => return false,
            Present::Ours { digest, mode } => (Some(digest), mode),
            Present::Foreign { digest, mode } => (digest.as_ref(), mode),
        };
        digest == Some(&content.digest) && *mode == content.mode
    }
}

fn durable(mode: u32) -> Options {
    Options {
        durable: true,
        ..Options::new(mode)
    }
}

/// Copies a file with its permission bits, or a symbolic link.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    if let Ok(target) = fs::read_link(from) {
        remove(to)?;
        return std::os::unix::fs::symlink(target, to).map_err(write_error(to));
    }
    let stage = || -> io::Result<Staged> {
        let mode = fs::metadata(from)?.permissions().mode() & 0o7777;
        let mut source = File::open(from)?;
        durable(mode).stage_with(to, |mut file| io::copy(&mut source, &mut file).map(drop))
    };
    stage().and_then(Staged::commit).map_err(write_error(to))
}

/// None if there is nothing; does not follow a symbolic link.
fn metadata(path: &Path) -> Result<Option<Metadata>, Error> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(read_error(path)(error)),
    }
}

/// Removes what is there. A read-only folder refuses the removal of an absent file too.
fn remove(path: &Path) -> Result<(), Error> {
    if metadata(path)?.is_none() {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(write_error(path)(error)),
        _ => Ok(()),
    }
}

fn read_record(path: &Path) -> Result<Record, Error> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(RECORD_LIMIT).read_to_end(&mut bytes)) {
        Ok(_) => Ok(Record::parse(&String::from_utf8_lossy(&bytes))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Record::default()),
        Err(error) => Err(read_error(path)(error)),
    }
}

fn digest_of(path: &Path) -> Result<Digest, Error> {
    let hash = || -> io::Result<Digest> {
        let mut file = File::open(path)?;
        let (mut context, mut buffer) = (Context::new(&SHA256), vec![0; 64 * 1024]);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hex(context.finish().as_ref())),
                count => context.update(buffer.get(..count).unwrap_or_default()),
            }
        }
    };
    hash().map_err(read_error(path))
}

fn hex(bytes: &[u8]) -> Digest {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn read_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    |source| Error::Read { path, source }
}

pub(super) fn write_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    |source| Error::Write { path, source }
}
