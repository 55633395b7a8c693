//! Whether a reservation can still belong to anybody alive. Everything here errs to the side of "yes".
//!
//! Two things prove "no". A reservation that was there in an earlier boot belongs to a container that the reboot ended, provided that
//! the store is on a file system of this machine alone. And a container whose network namespace is nowhere any more cannot be using an
//! address: not where CNI_NETNS said, not bound to a path in any mount namespace, not held by a thread or an open file.
use super::{Boot, record::Record};
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC,
    XFS_SUPER_MAGIC, fstatfs,
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

/// Why nobody can be using a reservation any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It was made before the machine was started.
    Reboot,
    /// The container's network namespace is gone; its path.
    NoNamespace(String),
    /// There is nothing in its file: the ADD that wrote it was cut off.
    NeverMade,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Reboot => f.write_str("the machine was restarted since it was reserved"),
            Why::NoNamespace(path) => write!(f, "network namespace {path} is gone"),
            Why::NeverMade => f.write_str("its file was empty"),
        }
    }
}

/// What is known of this machine at one moment.
#[derive(Debug)]
pub struct Evidence {
    /// this boot, if the store is this machine's alone
    pub boot: Option<String>,
    /// inodes of every network namespace that anything holds; None if it could not all be looked at
    pub namespaces: Option<HashSet<u64>>,
}

impl Evidence {
    /// Looks around. Takes some milliseconds on a node with thousands of processes.
    pub fn gather(store: &File, boot: &Boot) -> Evidence {
        let local = fstatfs(store).is_ok_and(|found| is_local(found.filesystem_type()));
        Evidence {
            boot: boot.id().filter(|_| local).map(str::to_owned),
            namespaces: namespaces().ok(),
        }
    }

    /// The reason if nobody can be using it.
    pub fn abandoned(&self, record: &Record) -> Option<Why> {
        let rebooted = |boot: &String| record.boot != "-" && record.boot != *boot;
        if self.boot.as_ref().is_some_and(rebooted) {
            return Some(Why::Reboot);
        }
        let netns = record.netns.as_ref()?;
        let held = self.namespaces.as_ref()?.contains(&netns.ino);
        let found = match fs::metadata(&netns.path) {
            Ok(file) => file.ino() == netns.ino,
            Err(error) => error.kind() != ErrorKind::NotFound,
        };
        (!held && !found).then(|| Why::NoNamespace(netns.path.clone()))
    }
}

/// File systems that other machines cannot be writing to.
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
            let mounts = there(fs::read_link(thread.join("ns/mnt")))?;
            if mounts.is_some_and(|mounts| mount_namespaces.insert(mounts)) {
                let mounts = there(fs::read(thread.join("mountinfo")))?.unwrap_or_default();
                found.extend(mounted(&String::from_utf8_lossy(&mounts)));
            }
        }
    }
    Ok(found)
}

/// The network namespaces that proc_pid_mountinfo(5) lists: the fourth field is the path within the mounted file system.
fn mounted(mountinfo: &str) -> impl Iterator<Item = u64> {
    mountinfo
        .lines()
        .filter_map(|line| number(line.split(' ').nth(3)?))
}

fn namespace(link: &Path) -> io::Result<Option<u64>> {
    let target = there(fs::read_link(link))?;
    Ok(target.and_then(|target| number(target.to_str()?)))
}

/// `net:[4026531840]`
fn number(text: &str) -> Option<u64> {
    text.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

fn list(folder: &Path) -> io::Result<Vec<OsString>> {
    let entries = there(fs::read_dir(folder))?.into_iter().flatten();
    let names = entries.map(|entry| there(entry.map(|entry| entry.file_name())));
    Ok(names
        .collect::<io::Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect())
}

/// None for what belongs to a process that has ended meanwhile.
fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
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

    fn evidence(boot: Option<&str>, namespaces: Option<&[u64]>) -> Evidence {
        Evidence {
            boot: boot.map(str::to_owned),
            namespaces: namespaces.map(|all| all.iter().copied().collect()),
        }
    }

    fn record(boot: &str, netns: &str) -> Record {
        Record::parse(&format!("10.0.0.2 c5 eth0 7 1 2 {boot} {netns}")).unwrap()
    }

    #[test]
    fn a_reboot_ends_every_container() {
        let now = evidence(Some("now"), Some(&[5]));
        assert_eq!(
            now.abandoned(&record("before", "5 /none")),
            Some(Why::Reboot)
        );
        assert_eq!(now.abandoned(&record("now", "0 -")), None);
        assert_eq!(
            now.abandoned(&record("-", "0 -")),
            None,
            "its boot is not known"
        );
        let shared = evidence(None, Some(&[]));
        assert_eq!(shared.abandoned(&record("before", "0 -")), None);
    }

    #[test]
    fn a_namespace_that_anything_holds_is_alive() {
        let gone = Some(Why::NoNamespace("/none/x".into()));
        let this = record("now", "5 /none/x");
        assert_eq!(evidence(Some("now"), Some(&[4])).abandoned(&this), gone);
        assert_eq!(evidence(Some("now"), Some(&[5])).abandoned(&this), None);
        assert_eq!(evidence(Some("now"), None).abandoned(&this), None);
        let own = fs::metadata("/proc/self/ns/net").unwrap().ino();
        let named = record("now", &format!("{own} /proc/self/ns/net"));
        assert_eq!(evidence(Some("now"), Some(&[])).abandoned(&named), None);
    }

    #[test]
    fn mounts_of_namespaces() {
        let text = "36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw\n\
                    40 35 0:4 net:[4026532281] /run/netns/p rw shared:7 - nsfs nsfs rw\n41 35 0:4";
        assert_eq!(mounted(text).collect::<Vec<_>>(), [4026532281]);
    }

    #[test]
    fn own_namespace_is_found() {
        let own = fs::metadata("/proc/self/ns/net").unwrap().ino();
        // some processes are hidden from who is not root
        if let Ok(found) = namespaces() {
            assert!(found.contains(&own));
        }
    }
}
