//! Files that are replaced as a whole: a reader sees the old content or the new, also after the
//! writer was killed. With [`Options::durable`] this holds across a power loss too. Hand-written
//! instead of `tempfile`: the names of unfinished files are predictable, so that their owner can
//! remove what a killed process left.

use nix::{
    fcntl::{AT_FDCWD, AtFlags},
    libc::{O_NONBLOCK, O_TMPFILE},
    unistd::linkat,
};
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

/// Permission bits of a file whose content is not complete.
const UNFINISHED_MODE: u32 = 0o600;
const UNFINISHED_SUFFIX: &str = ".tmp";

/// How a file is written.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Permission bits of the file, whatever the umask is.
    pub mode: u32,
    /// The new file takes over the permission bits of the file that it replaces.
    pub keep_mode: bool,
    /// Creates missing folders with these permission bits, less the umask.
    pub folder_mode: Option<u32>,
    /// fsync of the file before it gets its name, and of the folder afterwards.
    pub durable: bool,
    /// Several processes may write one path at the same time: the name of the unfinished file holds
    /// the process id. The next write does not remove what a killed one left.
    pub concurrent: bool,
    /// [`write`](Self::write) links a file without a name (O_TMPFILE) where the path is free and
    /// the file system supports it: a killed process then leaves nothing.
    pub unnamed: bool,
    /// The unfinished file is locked until it has its name, so that [`remove_abandoned`] leaves it.
    pub locked: bool,
}

impl Options {
    /// None of the options.
    pub const fn new(mode: u32) -> Options {
        Options {
            mode,
            keep_mode: false,
            folder_mode: None,
            durable: false,
            concurrent: false,
            unnamed: false,
            locked: false,
        }
    }

    /// Writes the whole file.
    pub fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        if self.unnamed && self.link_unnamed(path, content).is_ok() {
            return Ok(());
        }
        self.stage(path, content)?.commit()
    }

    /// Writes the content beside `path`, for a commit later.
    pub fn stage(&self, path: &Path, content: &[u8]) -> io::Result<Staged> {
        self.stage_with(path, |mut file| file.write_all(content))
    }

    /// As [`stage`](Self::stage), with `fill` writing the content into an empty file that is open
    /// for reading and writing.
    pub fn stage_with<E: From<io::Error>>(
        &self,
        path: &Path,
        fill: impl FnOnce(File) -> Result<(), E>,
    ) -> Result<Staged, E> {
        self.make_folder(path)?;
        let unfinished = match self.concurrent {
            true => hidden(path, &format!(".{}{UNFINISHED_SUFFIX}", std::process::id()))?,
            false => unfinished(path)?,
        };
        let file = self.create(&unfinished)?;
        let mut staged = Staged {
            unfinished,
            path: path.to_owned(),
            durable: self.durable,
            renamed: false,
            lock: None,
        };
        fill(file.try_clone()?)?;
        self.finish(&file, path)?;
        staged.lock = self.locked.then_some(file);
        Ok(staged)
    }

    /// Creates the unfinished file, or empties what a killed process left.
    fn create(&self, unfinished: &Path) -> io::Result<File> {
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .mode(UNFINISHED_MODE)
                .open(unfinished)?;
            if !self.locked || file.lock().is_err() {
                return Ok(file);
            }
            // removed before it was locked
            if file.metadata()?.nlink() > 0 {
                return Ok(file);
            }
        }
    }

    fn link_unnamed(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.make_folder(path)?;
        let mut file = OpenOptions::new()
            .write(true)
            .custom_flags(O_TMPFILE)
            .mode(UNFINISHED_MODE)
            .open(folder_of(path))?;
        file.write_all(content)?;
        self.finish(&file, path)?;
        let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
        let follow = AtFlags::AT_SYMLINK_FOLLOW;
        linkat(AT_FDCWD, descriptor.as_str(), AT_FDCWD, path, follow)?;
        sync_folder(path, self.durable)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let Some(mode) = self.folder_mode else {
            return Ok(());
        };
        DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(folder_of(path))
    }

    /// Permission bits and fsync.
    fn finish(&self, file: &File, path: &Path) -> io::Result<()> {
        let replaced = self.keep_mode.then(|| fs::metadata(path).ok()).flatten();
        let replaced = replaced.filter(fs::Metadata::is_file);
        let mode = replaced.map_or(self.mode, |old| old.permissions().mode() & 0o7777);
        if mode != UNFINISHED_MODE {
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        match self.durable {
            true => file.sync_all(),
            false => Ok(()),
        }
    }
}

/// Reads at most `max` bytes of a regular file. What else may have its name, as a FIFO, a folder or
/// a device, is an error; it is not waited for.
pub fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(O_NONBLOCK).open(path)?;
    let found = file.metadata()?;
    // reading a folder fails with its own errno
    if !found.is_file() && !found.is_dir() {
        let text = "it is not a regular file";
        return Err(io::Error::new(ErrorKind::InvalidInput, text));
    }
    // in one piece, unless the file grows meanwhile
    let size = usize::try_from(found.len().min(max)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(size);
    file.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a whole regular file, as [`read`]. Err, with the limit, if it has more than `max` bytes.
pub fn read_whole(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let bytes = read(path, max.saturating_add(1))?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= max => Ok(bytes),
        _ => {
            let text = format!("it is larger than {max} bytes");
            Err(io::Error::new(ErrorKind::FileTooLarge, text))
        }
    }
}

/// True for the errors of [`read_whole`] for what is no file of the expected kind: too large, or
/// not regular.
pub fn is_foreign(error: &io::Error) -> bool {
    let kinds = [ErrorKind::FileTooLarge, ErrorKind::InvalidInput];
    kinds.contains(&error.kind())
}

/// A complete file that does not have its name yet. Dropping it removes it.
#[derive(Debug)]
pub struct Staged {
    unfinished: PathBuf,
    path: PathBuf,
    durable: bool,
    renamed: bool,
    /// Unlocked when it is closed.
    lock: Option<File>,
}

impl Staged {
    /// Replaces what has the name now.
    pub fn commit(mut self) -> io::Result<()> {
        self.rename()?;
        sync_folder(&self.path, self.durable)
    }

    /// Gives the file its name unless another one has it; an empty file is replaced. False if the
    /// other one stays.
    pub fn commit_new(mut self) -> io::Result<bool> {
        let is_taken = || fs::metadata(&self.path).is_ok_and(|file| file.len() > 0);
        match fs::hard_link(&self.unfinished, &self.path) {
            Ok(()) => {}
            Err(_) if is_taken() => return Ok(false),
            Err(_) => self.rename()?,
        }
        sync_folder(&self.path, self.durable)?;
        Ok(true)
    }

    fn rename(&mut self) -> io::Result<()> {
        fs::rename(&self.unfinished, &self.path)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.renamed {
            // best effort: the caller reports the error that came before, and the next write reuses
            // the name
            fs::remove_file(&self.unfinished).unwrap_or_default();
        }
    }
}

/// Name of the unfinished file, `.NAME.tmp` beside `path`. Not for [`Options::concurrent`].
pub fn unfinished(path: &Path) -> io::Result<PathBuf> {
    hidden(path, UNFINISHED_SUFFIX)
}

/// Removes an unfinished file of a process that no longer writes it. Leaves one that is being
/// written with [`Options::locked`]. An absent one is no error.
pub fn remove_abandoned(unfinished: &Path) -> io::Result<()> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(unfinished);
    let file = match opened {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(()),
        // a file system without locks
        Err(TryLockError::Error(_)) | Ok(()) => {}
    }
    // the one that was locked, and not one that was created meanwhile
    let is_same = fs::symlink_metadata(unfinished).is_ok_and(|found| {
        file.metadata()
            .is_ok_and(|locked| (locked.dev(), locked.ino()) == (found.dev(), found.ino()))
    });
    match is_same.then(|| fs::remove_file(unfinished)) {
        Some(Err(error)) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// True for a file name that unfinished files have.
pub fn is_unfinished(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(UNFINISHED_SUFFIX)
}

fn hidden(path: &Path, suffix: &str) -> io::Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "the path names no file"))?;
    let name = format!(".{}{suffix}", name.to_string_lossy());
    Ok(folder_of(path).join(name))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn sync_folder(path: &Path, durable: bool) -> io::Result<()> {
    match durable {
        true => File::open(folder_of(path))?.sync_all(),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURABLE: Options = Options {
        folder_mode: Some(0o755),
        durable: true,
        ..Options::new(0o644)
    };
    const KEEP_MODE: Options = Options {
        keep_mode: true,
        ..DURABLE
    };
    const CONCURRENT: Options = Options {
        concurrent: true,
        ..DURABLE
    };
    const UNNAMED: Options = Options {
        unnamed: true,
        ..DURABLE
    };

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn files_beside(path: &Path) -> usize {
        fs::read_dir(path.parent().unwrap()).unwrap().count()
    }

    #[test]
    fn write_creates_the_folder_and_leaves_no_other_file() {
        for options in [DURABLE, CONCURRENT, UNNAMED] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a/b/subnet.env");
            options.write(&path, b"one").unwrap();
            options.write(&path, b"two").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"two");
            assert_eq!(mode(&path), 0o644);
            assert_eq!(files_beside(&path), 1);
        }
    }

    #[test]
    fn keep_mode_takes_over_the_mode_of_the_replaced_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        KEEP_MODE.write(&path, b"new").unwrap();
        assert_eq!(mode(&path), 0o640);
        DURABLE.write(&path, b"new").unwrap();
        assert_eq!(mode(&path), 0o644);
    }

    #[test]
    fn a_folder_of_that_name_is_an_error_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(DURABLE.write(&path, b"x").is_err());
        assert!(UNNAMED.write(&path, b"x").is_err());
        assert!(path.is_dir());
        assert_eq!(files_beside(&path), 1, "no unfinished file is left");
    }

    #[test]
    fn a_dropped_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let staged = Options::new(0o600).stage(&path, b"x").unwrap();
        assert_eq!(fs::read(unfinished(&path).unwrap()).unwrap(), b"x");
        assert!(is_unfinished(".f.tmp") && !is_unfinished("f.tmp"));
        drop(staged);
        assert_eq!(files_beside(&path), 0);
    }

    #[test]
    fn commit_new_replaces_only_an_empty_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let commit = |content: &[u8]| {
            let staged = Options::new(0o600).stage(&path, content).unwrap();
            staged.commit_new().unwrap()
        };
        assert!(commit(b""));
        assert!(commit(b"first"));
        assert!(!commit(b"second"));
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(files_beside(&path), 1);
    }

    #[test]
    fn only_regular_files_are_read_and_nothing_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(
            read(&path, 9).unwrap_err().kind(),
            ErrorKind::InvalidInput,
            "a FIFO"
        );
        KEEP_MODE.write(&path, b"0123456789").unwrap();
        assert_eq!(read(&path, 9).unwrap(), b"012345678");
        assert_eq!(read_whole(&path, 10).unwrap(), b"0123456789");
        let error = read_whole(&path, 9).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 9 bytes");
        assert!(is_foreign(&error));
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o644, "not that of the FIFO");
        assert_eq!(
            read(dir.path(), 9).unwrap_err().kind(),
            ErrorKind::IsADirectory
        );
    }

    #[test]
    fn only_an_abandoned_unfinished_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let left = unfinished(&path).unwrap();
        let options = Options {
            locked: true,
            ..Options::new(0o600)
        };
        remove_abandoned(&left).unwrap();
        let staged = options.stage(&path, b"text").unwrap();
        remove_abandoned(&left).unwrap();
        assert!(left.exists());
        staged.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"text");
        fs::write(&left, "ha").unwrap();
        remove_abandoned(&left).unwrap();
        assert!(!left.exists());
        options.write(&path, b"other").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"other");
    }
}
