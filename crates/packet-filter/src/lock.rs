//! The lock of plugins that add chains and rules to iptables which all pods share. iptables accepts
//! a chain that another process has just created, so two processes that find no shared chain would
//! both add the jumps to it.

use crate::Error;
use nix::fcntl::OFlag;
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

/// In root's folder: a file that others can open can be locked by them.
const FILE: &str = "/run/cni/iptables.lock";
/// Longer than a queue of a hundred processes.
const TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits at most 30 seconds. Err: the time is over, and names the process that has the lock; or
    /// the file cannot be opened.
    pub fn take() -> Result<Lock, Error> {
        Lock::of(Path::new(FILE), TIMEOUT).map_err(|source| Error::Lock {
            file: PathBuf::from(FILE),
            source,
        })
    }

    fn of(path: &Path, timeout: Duration) -> io::Result<Lock> {
        let file = open(path)?;
        let deadline = Instant::now() + timeout;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(error);
                }
                Err(_) if Instant::now() >= deadline => {
                    let text = format!(
                        "not free within {} s: held by {}",
                        timeout.as_secs(),
                        holder(&file).unwrap_or_else(|| "an unknown process".to_owned())
                    );
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                Err(_) => sleep(POLL_INTERVAL),
            }
        }
    }
}

/// Only its owner can open the file.
fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)?;
    if file.metadata()?.mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// `process 1234 (portmap)`, from proc_locks(5).
fn holder(file: &File) -> Option<String> {
    let inode = file.metadata().ok()?.ino();
    let pid = locked_by(&fs::read_to_string("/proc/locks").ok()?, inode)?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("process {pid} ({})", name.trim()))
}

/// `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`. A process that waits has `->` after the
/// number.
pub(crate) fn locked_by(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, file, ..] = fields.as_slice() else {
            return None;
        };
        let (_, found) = file.rsplit_once(':')?;
        (found.parse() == Ok(inode)).then(|| pid.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_has_a_deadline_and_names_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cni/lock");
        let short = Duration::from_millis(20);
        let first = Lock::of(&path, short).unwrap();
        let error = Lock::of(&path, short).unwrap_err().to_string();
        let own = format!("held by process {} (", std::process::id());
        assert!(error.contains(&own), "{error}");
        drop(first);
        Lock::of(&path, short).unwrap();
    }

    #[test]
    fn only_the_owner_can_open_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cni/lock");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        Lock::of(&path, Duration::ZERO).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        Lock::of(&path, Duration::ZERO).unwrap();
        assert_eq!(mode(&path), 0o600);
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
        assert!(Lock::of(&path, Duration::ZERO).is_err());
    }

    #[test]
    fn waiting_processes_are_not_holders() {
        let locks = "1: POSIX  ADVISORY  WRITE 5 00:19:7 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 77 00:19:7 0 EOF\n2: -> FLOCK  ADVISORY  WRITE 78 00:19:7 0 EOF\n";
        assert_eq!(locked_by(locks, 7), Some(77));
        assert_eq!(locked_by(locks, 8), None);
        assert_eq!(locked_by("2: FLOCK\n\nx", 8), None);
    }
}
