//! Decides whether the container of a reservation can still exist. In doubt, it does.
//!
//! A container is gone in two cases. The reservation is from an earlier boot, and the store is on a
//! file system that no other machine writes to. Or it is from this boot, and the container's
//! network namespace no longer exists: a later one has its inode; or CNI_NETNS is another file, no
//! mount namespace has it bound to a path, and no thread and no open file refers to it. Where /proc
//! does not show every process, the rest is judged without them if CNI_NETNS is absent from a
//! folder that exists.

use super::record::{NetNsFile, Record, UNKNOWN_BOOT};
use linux_net::in_use::InUse;
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, fstatfs,
};
use plugin::warn;
use std::{
    collections::{HashMap, HashSet},
    fmt,
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Once,
};

/// As in linux/magic.h; nix has it for glibc only.
const XFS_SUPER_MAGIC: FsType = FsType(0x5846_5342);

/// The inode of the PID namespace in which a machine starts (PROC_PID_INIT_INO in linux/proc_ns.h).
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;

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

/// In which boot of which machine records are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Boot {
    /// None: unknown.
    pub(super) id: Option<String>,
    /// No other machine writes to the store: another id is that of an earlier boot.
    pub(super) is_local: bool,
}

impl Boot {
    pub(super) fn of(store: &File, id: Option<&str>) -> Boot {
        Boot {
            id: id.map(str::to_owned),
            is_local: is_local(store),
        }
    }

    /// False: another boot than that of the record, or one of them is unknown.
    fn is_that_of(&self, record: &Record) -> bool {
        record.boot != UNKNOWN_BOOT && self.id.as_ref() == Some(&record.boot)
    }

    fn is_later_than(&self, record: &Record) -> bool {
        let is_known = record.boot != UNKNOWN_BOOT && self.id.is_some();
        self.is_local && is_known && !self.is_that_of(record)
    }
}

/// The machine's boot and namespaces at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    boot: Boot,
    /// The network namespaces in use that /proc shows: inode, and the cookie if it was asked for
    /// and is known.
    namespaces: HashMap<u64, Option<u64>>,
    /// /proc shows every process.
    complete: bool,
    /// This process is in the machine's first PID namespace, so that /proc has every process.
    is_machine: bool,
}

/// What is known of a container, for [`Snapshot::verdict`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Exists,
    /// Nothing is at CNI_NETNS any more, but a namespace with this inode is in use. The kernel
    /// gives the inode of one that has ended to the next one.
    Ending(u64),
    Gone(Reason),
    /// It may exist, for this reason.
    Unknown(&'static str),
}

/// Printed at most once by a process.
static INCOMPLETE: Once = Once::new();

impl Snapshot {
    /// To judge these records. Takes some milliseconds on a node with thousands of processes.
    pub(super) fn take(boot: Boot, records: &[Record]) -> Snapshot {
        let found = InUse::read().unwrap_or_else(InUse::unread);
        if let Some(error) = &found.unreadable {
            INCOMPLETE.call_once(|| {
                warn(format_args!(
                    "host-local: cannot read every process in /proc ({error}): an address whose \
                     container may have ended is freed only if its CNI_NETNS does not exist"
                ));
            });
        }
        Snapshot::of(&found, boot, records)
    }

    /// To judge these records by the namespaces that were found.
    pub(super) fn of(found: &InUse, boot: Boot, records: &[Record]) -> Snapshot {
        let of_this_boot = records.iter().filter(|record| boot.is_that_of(record));
        let namespaces = of_this_boot.filter_map(|record| record.netns.as_ref());
        let with_cookie = namespaces.filter(|netns| netns.cookie.is_some());
        let asked: HashSet<u64> = with_cookie.map(|netns| netns.ino).collect();
        let cookie = |ino: u64| asked.contains(&ino).then(|| found.cookie(ino)).flatten();
        Snapshot {
            boot,
            namespaces: found.inodes().map(|ino| (ino, cookie(ino))).collect(),
            complete: found.unreadable.is_none(),
            is_machine: fs::metadata("/proc/self/ns/pid")
                .is_ok_and(|namespace| namespace.ino() == FIRST_PID_NAMESPACE),
        }
    }

    /// For a caller that no runtime started: it may be in other namespaces than the containers'.
    pub(super) fn verdict(&self, record: &Record) -> Verdict {
        let Some(netns) = &record.netns else {
            let unknown =
                Verdict::Unknown("another plugin made them, and their namespace is unknown");
            return self.abandoned(record).map_or(unknown, Verdict::Gone);
        };
        match self.abandoned(record) {
            Some(reason) if reason == Reason::Reboot || self.is_succeeded(netns) => {
                Verdict::Gone(reason)
            }
            Some(_) if !self.complete => Verdict::Unknown("/proc does not show every process"),
            Some(_) if !self.is_machine && !is_removed(Path::new(&netns.path)) => {
                Verdict::Unknown("this process may be in other namespaces than their containers")
            }
            Some(reason) => Verdict::Gone(reason),
            None if !self.boot.is_that_of(record) => {
                Verdict::Unknown("another machine may have made them")
            }
            None if self.namespaces.contains_key(&netns.ino) => {
                match is_removed(Path::new(&netns.path)) {
                    true => Verdict::Ending(netns.ino),
                    false => Verdict::Exists,
                }
            }
            None => Verdict::Unknown("/proc does not show every process"),
        }
    }

    /// True if a later namespace has the inode: one inode is never that of two namespaces.
    fn is_succeeded(&self, netns: &NetNsFile) -> bool {
        let now = self.namespaces.get(&netns.ino);
        now.is_some_and(|cookie| !netns.may_be(netns.ino, *cookie))
    }

    /// None: the container may exist.
    pub(super) fn abandoned(&self, record: &Record) -> Option<Reason> {
        if self.boot.is_later_than(record) {
            return Some(Reason::Reboot);
        }
        // the numbers of namespaces are those of one boot
        let netns = (record.netns.as_ref()).filter(|_| self.boot.is_that_of(record))?;
        let gone = || Reason::NoNamespace(netns.path.clone());
        if self.is_succeeded(netns) {
            return Some(gone());
        }
        if self.namespaces.contains_key(&netns.ino) {
            return None;
        }
        let path = Path::new(&netns.path);
        let is_gone = match fs::metadata(path) {
            Ok(file) => self.complete && file.ino() != netns.ino,
            Err(error) if error.kind() == ErrorKind::NotFound => self.complete || is_removed(path),
            Err(_) => false,
        };
        is_gone.then(gone)
    }
}

/// The id of the running kernel's boot. None: /proc cannot be read.
pub(super) fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let id = text.trim();
    (!id.is_empty() && !id.contains(char::is_whitespace)).then(|| id.to_owned())
}

/// True if there is no file at the path, but its folder.
fn is_removed(path: &Path) -> bool {
    let is_absent = |error: io::Error| error.kind() == ErrorKind::NotFound;
    fs::metadata(path).is_err_and(is_absent) && path.parent().is_some_and(Path::is_dir)
}

/// True if the store is on a file system that other machines cannot write to.
fn is_local(store: &File) -> bool {
    fstatfs(store).is_ok_and(|found| is_local_kind(found.filesystem_type()))
}

fn is_local_kind(kind: FsType) -> bool {
    [
        EXT4_SUPER_MAGIC,
        XFS_SUPER_MAGIC,
        BTRFS_SUPER_MAGIC,
        TMPFS_MAGIC,
        OVERLAYFS_SUPER_MAGIC,
    ]
    .contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(boot: &str, namespaces: Option<&[u64]>) -> Snapshot {
        let boot = Boot {
            id: Some(boot.to_owned()),
            is_local: true,
        };
        let inodes = namespaces.into_iter().flatten().copied();
        Snapshot {
            boot,
            namespaces: inodes.map(|ino| (ino, None)).collect(),
            complete: namespaces.is_some(),
            is_machine: true,
        }
    }

    fn with_cookie(mut record: Record, cookie: u64) -> Record {
        record.netns.as_mut().unwrap().cookie = Some(cookie);
        record
    }

    fn record(boot: &str, netns: &str) -> Record {
        let line = format!("10.0.0.2 c5 eth0 7 1 2 {boot} {netns}");
        Record::parse(&line, "net").unwrap()
    }

    #[test]
    fn reservation_of_an_earlier_boot_is_abandoned() {
        let now = snapshot("now", Some(&[5]));
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
        let mut shared = snapshot("now", Some(&[]));
        shared.boot.is_local = false;
        let of_another_machine = record("before", "5 /none/x");
        assert_eq!(shared.abandoned(&record("before", "0 -")), None);
        assert_eq!(shared.abandoned(&of_another_machine), None);
        assert!(matches!(
            shared.verdict(&of_another_machine),
            Verdict::Unknown(_)
        ));
        shared.boot.id = None;
        assert_eq!(shared.abandoned(&of_another_machine), None);
    }

    #[test]
    fn reservation_with_a_namespace_in_use_is_not_abandoned() {
        let gone = Some(Reason::NoNamespace("/none/x".into()));
        let this = record("now", "5 /none/x");
        assert_eq!(snapshot("now", Some(&[4])).abandoned(&this), gone);
        assert_eq!(snapshot("now", Some(&[5])).abandoned(&this), None);
        assert_eq!(snapshot("now", None).abandoned(&this), None);
        let own = fs::metadata("/proc/self/ns/net").unwrap().ino();
        let named = record("now", &format!("{own} /proc/self/ns/net"));
        assert_eq!(snapshot("now", Some(&[])).abandoned(&named), None);
    }

    #[test]
    fn a_namespace_whose_inode_a_later_one_has_is_gone() {
        let own = fs::metadata("/proc/self/ns/net").unwrap().ino();
        // its path may be that of the later one, and /proc need not be complete
        for (complete, path) in [(true, "/proc/self/ns/net"), (false, "/none/x")] {
            let at = |cookie| with_cookie(record("now", &format!("{own} {path}")), cookie);
            let mut now = snapshot("now", Some(&[]));
            now.complete = complete;
            now.namespaces.insert(own, Some(7));
            let gone = Reason::NoNamespace(path.into());
            assert_eq!(now.abandoned(&at(6)), Some(gone.clone()));
            assert_eq!(now.verdict(&at(6)), Verdict::Gone(gone));
            assert_eq!(now.abandoned(&at(7)), None);
            // an earlier version's record, and a kernel without cookies
            let unknown = record("now", &format!("{own} {path}"));
            assert_eq!(now.abandoned(&unknown), None);
            now.namespaces.insert(own, None);
            assert_eq!(now.abandoned(&at(6)), None);
        }
    }

    #[test]
    fn outside_of_a_runtime_only_what_is_proved_gone_is_gone() {
        let runtime = tempfile::tempdir().unwrap();
        let absent = runtime.path().join("x").to_str().unwrap().to_owned();
        let (seen, none) = (record("now", "5 /none/x"), record("now", "0 -"));
        let removed = record("now", &format!("5 {absent}"));
        let is_gone = |snapshot: &Snapshot, record: &Record| {
            matches!(snapshot.verdict(record), Verdict::Gone(_))
        };
        let machine = snapshot("now", Some(&[4]));
        assert!(is_gone(&machine, &seen) && is_gone(&machine, &removed));
        assert!(matches!(machine.verdict(&none), Verdict::Unknown(_)));
        assert!(is_gone(&machine, &record("before", "0 -")));
        let existing = snapshot("now", Some(&[5]));
        assert_eq!(existing.verdict(&seen), Verdict::Exists);
        assert_eq!(existing.verdict(&removed), Verdict::Ending(5));
        let container = Snapshot {
            is_machine: false,
            ..snapshot("now", Some(&[4]))
        };
        assert!(matches!(container.verdict(&seen), Verdict::Unknown(_)));
        assert!(is_gone(&container, &removed));
        let unreadable = snapshot("now", None);
        for record in [&seen, &removed] {
            assert!(matches!(unreadable.verdict(record), Verdict::Unknown(_)));
        }
    }

    /// Then the path decides, if its folder is visible.
    #[test]
    fn without_all_of_proc_only_an_absent_path_tells_that_a_namespace_is_gone() {
        let runtime = tempfile::tempdir().unwrap();
        let at = |name: &str| runtime.path().join(name).to_str().unwrap().to_owned();
        fs::write(at("other"), "").unwrap();
        let unreadable = snapshot("now", None);
        let is_gone = |path: &str| {
            let record = record("now", &format!("5 {path}"));
            unreadable.abandoned(&record) == Some(Reason::NoNamespace(path.to_owned()))
        };
        assert!(is_gone(&at("x")));
        assert!(
            !is_gone(&at("other")),
            "a file that may be a mount elsewhere"
        );
        assert!(
            !is_gone("/none/x"),
            "the folder is in another mount namespace"
        );
        let mut seen = snapshot("now", None);
        seen.namespaces.insert(5, None);
        assert_eq!(
            seen.abandoned(&record("now", &format!("5 {}", at("x")))),
            None
        );
    }
}
