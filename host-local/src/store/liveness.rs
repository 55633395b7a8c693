//! Decides whether the container of a reservation can still exist. In doubt, it does.
//!
//! A container is gone in two cases. The reservation is from an earlier boot, and the store is on a
//! file system that no other machine writes to. Or the container's network namespace no longer
//! exists: CNI_NETNS is another file, no mount namespace has it bound to a path, and no thread and
//! no open file refers to it.

use super::record::{Record, UNKNOWN_BOOT};
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, fstatfs,
};
use std::{
    collections::HashSet,
    ffi::OsString,
    fmt,
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// As in linux/magic.h; nix has it for glibc only.
const XFS_SUPER_MAGIC: FsType = FsType(0x5846_5342);

/// Why a reservation is abandoned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    /// It is from an earlier boot.
    Reboot,
    /// The container's network namespace at this path is gone.
    NoNamespace(String),
    /// The file is empty: its ADD was interrupted.
    Empty,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Reboot => f.write_str("the machine was restarted since it was reserved"),
            Reason::NoNamespace(path) => write!(f, "network namespace {path} no longer exists"),
            Reason::Empty => f.write_str("its file was empty"),
        }
    }
}

/// The machine's boot and namespaces at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// None: unknown, or other machines may write to the store.
    boot: Option<String>,
    /// The inodes of all network namespaces in use. None: some could not be read.
    namespaces: Option<HashSet<u64>>,
}

impl Snapshot {
    /// Takes some milliseconds on a node with thousands of processes.
    pub(super) fn take(store: &File, boot: Option<&str>) -> Snapshot {
        let local = fstatfs(store).is_ok_and(|found| is_local(found.filesystem_type()));
        Snapshot {
            boot: boot.filter(|_| local).map(str::to_owned),
            namespaces: namespaces().ok(),
        }
    }

    /// None: the container may exist.
    pub(super) fn abandoned(&self, record: &Record) -> Option<Reason> {
        let rebooted = |boot: &String| record.boot != UNKNOWN_BOOT && record.boot != *boot;
        if self.boot.as_ref().is_some_and(rebooted) {
            return Some(Reason::Reboot);
        }
        let netns = record.netns.as_ref()?;
        let held = self.namespaces.as_ref()?.contains(&netns.ino);
        let found = match fs::metadata(&netns.path) {
            Ok(file) => file.ino() == netns.ino,
            Err(error) => error.kind() != ErrorKind::NotFound,
        };
        (!held && !found).then(|| Reason::NoNamespace(netns.path.clone()))
    }
}

/// The id of the running kernel's boot. None: /proc cannot be read.
pub(super) fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let id = text.trim();
    (!id.is_empty() && !id.contains(char::is_whitespace)).then(|| id.to_owned())
}

/// True for a file system that other machines cannot write to.
fn is_local(kind: FsType) -> bool {
    [
        EXT4_SUPER_MAGIC,
        XFS_SUPER_MAGIC,
        BTRFS_SUPER_MAGIC,
        TMPFS_MAGIC,
        OVERLAYFS_SUPER_MAGIC,
    ]
    .contains(&kind)
}

/// The inodes of the network namespaces of all threads, open files and mounts.
fn namespaces() -> io::Result<HashSet<u64>> {
    let mut found = HashSet::new();
    let mut mount_namespaces = HashSet::new();
    for process in list(Path::new("/proc"))? {
        if !process.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let process = Path::new("/proc").join(process);
        for descriptor in list(&process.join("fd"))? {
            found.extend(namespace(&process.join("fd").join(descriptor))?);
        }
        for thread in list(&process.join("task"))? {
            let thread = process.join("task").join(thread);
            found.extend(namespace(&thread.join("ns/net"))?);
            let mounts = ignore_ended(fs::read_link(thread.join("ns/mnt")))?;
            if mounts.is_some_and(|mounts| mount_namespaces.insert(mounts)) {
                let mounts = ignore_ended(fs::read(thread.join("mountinfo")))?.unwrap_or_default();
                found.extend(mounted(&String::from_utf8_lossy(&mounts)));
            }
        }
    }
    Ok(found)
}

/// The network namespaces in a proc_pid_mountinfo(5): the fourth field is the path within the
/// mounted file system.
fn mounted(mountinfo: &str) -> impl Iterator<Item = u64> {
    mountinfo
        .lines()
        .filter_map(|line| number(line.split(' ').nth(3)?))
}

fn namespace(link: &Path) -> io::Result<Option<u64>> {
    let target = ignore_ended(fs::read_link(link))?;
    Ok(target.and_then(|target| number(target.to_str()?)))
}

/// `net:[4026531840]`
fn number(text: &str) -> Option<u64> {
    text.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

fn list(folder: &Path) -> io::Result<Vec<OsString>> {
    let entries = ignore_ended(fs::read_dir(folder))?.into_iter().flatten();
    let names = entries.map(|entry| ignore_ended(entry.map(|entry| entry.file_name())));
    Ok(names
        .collect::<io::Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect())
}

/// None: the process has ended since it was listed.
fn ignore_ended<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    let ended = |error: &io::Error| {
        error.kind() == ErrorKind::NotFound
            || error.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32)
    };
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if ended(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(boot: Option<&str>, namespaces: Option<&[u64]>) -> Snapshot {
        Snapshot {
            boot: boot.map(str::to_owned),
            namespaces: namespaces.map(|all| all.iter().copied().collect()),
        }
    }

    fn record(boot: &str, netns: &str) -> Record {
        let line = format!("10.0.0.2 c5 eth0 7 1 2 {boot} {netns}");
        Record::parse(&line, "net").unwrap()
    }

    #[test]
    fn reservation_of_an_earlier_boot_is_abandoned() {
        let now = snapshot(Some("now"), Some(&[5]));
        assert_eq!(
            now.abandoned(&record("before", "5 /none")),
            Some(Reason::Reboot)
        );
        assert_eq!(now.abandoned(&record("now", "0 -")), None);
        assert_eq!(
            now.abandoned(&record("-", "0 -")),
            None,
            "the boot of the reservation is unknown"
        );
        let shared = snapshot(None, Some(&[]));
        assert_eq!(shared.abandoned(&record("before", "0 -")), None);
    }

    #[test]
    fn reservation_with_a_namespace_in_use_is_not_abandoned() {
        let gone = Some(Reason::NoNamespace("/none/x".into()));
        let this = record("now", "5 /none/x");
        assert_eq!(snapshot(Some("now"), Some(&[4])).abandoned(&this), gone);
        assert_eq!(snapshot(Some("now"), Some(&[5])).abandoned(&this), None);
        assert_eq!(snapshot(Some("now"), None).abandoned(&this), None);
        let own = fs::metadata("/proc/self/ns/net").unwrap().ino();
        let named = record("now", &format!("{own} /proc/self/ns/net"));
        assert_eq!(snapshot(Some("now"), Some(&[])).abandoned(&named), None);
    }

    #[test]
    fn mounted_namespaces_are_found() {
        let text = "36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw\n\
                    40 35 0:4 net:[4026532281] /run/netns/p rw shared:7 - nsfs nsfs rw\n41 35 0:4";
        assert_eq!(mounted(text).collect::<Vec<_>>(), [4026532281]);
    }

    #[test]
    fn own_namespace_is_in_use() {
        let own = fs::metadata("/proc/self/ns/net").unwrap().ino();
        // without root, some processes cannot be read
        if let Ok(found) = namespaces() {
            assert!(found.contains(&own));
        }
    }
}
