//! The store while another program uses the same folder.

use super::{Disk, draft::Draft, index::Index, liveness::boot_id, reservation::content};
use crate::{allocator::Store as _, config::Folders};
use plugin::Attachment;
use proptest::prelude::*;
use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::Write,
    net::IpAddr,
    os::unix::fs::{MetadataExt, symlink},
    path::PathBuf,
    thread::sleep,
    time::Duration,
};

/// A store in a folder of its own.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::Builder::new().tempdir_in("/dev/shm").unwrap())
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("net")
    }

    fn side(&self) -> PathBuf {
        self.0.path().join(".host-local/net")
    }

    fn disk(&self, id: &str) -> Disk {
        let folders = Folders {
            store: self.store(),
            index: self.side(),
        };
        Disk::create(&folders, owner(id), "/none").unwrap()
    }

    /// The effects of upstream's ADD.
    fn upstream_add(&self, ip: &str, id: &str) -> bool {
        let path = self.store().join(ip);
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let Ok(mut file) = file else { return false };
        file.write_all(format!("{id}\r\neth0").as_bytes()).unwrap();
        fs::write(self.store().join("last_reserved_ip.0"), ip).unwrap();
        true
    }

    fn upstream_del(&self, id: &str) {
        for entry in fs::read_dir(self.store()).unwrap() {
            let path = entry.unwrap().path();
            if fs::read_to_string(&path).unwrap() == format!("{id}\r\neth0") {
                fs::remove_file(path).unwrap();
            }
        }
    }

    fn owned(&self, id: &str) -> Vec<String> {
        let mut names: Vec<_> = self
            .disk(id)
            .owned()
            .unwrap()
            .into_iter()
            .map(|r| r.name)
            .collect();
        names.sort();
        names
    }

    fn is_current(&self) -> bool {
        self.disk("nobody").index.current
    }
}

fn owner(id: &str) -> Attachment {
    Attachment::new("net", id, "eth0")
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn files_equal_upstreams_in_name_content_and_mode() {
    let folder = Folder::new();
    let mut disk = folder.disk("c5");
    assert!(disk.reserve(ip("10.0.0.2")).unwrap());
    assert!(disk.reserve(ip("fd00:12::2")).unwrap());
    disk.set_last_reserved(0, ip("10.0.0.200"));
    disk.set_last_reserved(0, ip("10.0.0.2"));
    drop(disk);
    let store = folder.store();
    for name in ["10.0.0.2", "fd00:12::2"] {
        let file = store.join(name);
        assert_eq!(fs::read(&file).unwrap(), b"c5\r\neth0");
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o600);
        assert_eq!(metadata.nlink(), 1, "the draft is deleted");
    }
    assert_eq!(
        fs::read(store.join("last_reserved_ip.0")).unwrap(),
        b"10.0.0.2"
    );
    assert_eq!(
        store.join("lock").metadata().unwrap().mode() & 0o7777,
        0o750
    );
    let mut names: Vec<_> = fs::read_dir(store)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["10.0.0.2", "fd00:12::2", "last_reserved_ip.0", "lock"]
    );
}

#[test]
fn index_is_outdated_after_another_program_changed_the_store() {
    let folder = Folder::new();
    assert!(!folder.is_current());
    // the first ADD scans the store
    folder.disk("c1").scan().unwrap();
    assert!(folder.disk("c1").reserve(ip("10.0.0.2")).unwrap());
    assert!(folder.is_current());
    assert_eq!(folder.owned("c1"), ["10.0.0.2"]);
    assert!(folder.upstream_add("10.0.0.3", "c2"));
    assert!(!folder.is_current());
    assert_eq!(folder.owned("c2"), ["10.0.0.3"]);
    assert!(folder.is_current());
    folder.upstream_del("c1");
    assert!(folder.owned("c1").is_empty());
    assert!(folder.is_current());
}

#[test]
fn index_without_a_lock_is_never_current() {
    let folder = Folder::new();
    folder.disk("c1").scan().unwrap();
    assert!(folder.is_current());
    let store = File::open(folder.store()).unwrap();
    let boot = boot_id();
    let mut index = Index::open(&folder.side(), "net", &store, false, boot.as_deref());
    assert!(!index.current);
    index.rebuild(&[]);
    assert!(!index.current);
}

#[test]
fn draft_without_a_lock_is_not_used() {
    let folder = Folder::new();
    let mut disk = folder.disk("c1");
    let draft = folder.side().join("draft");
    disk.draft = Draft::new(draft.clone(), content(&owner("c1")), false);
    // the draft of another call
    fs::write(&draft, "c2\r\neth0").unwrap();
    assert!(disk.reserve(ip("10.0.0.2")).unwrap());
    assert!(!disk.reserve(ip("10.0.0.2")).unwrap());
    assert_eq!(
        fs::read(folder.store().join("10.0.0.2")).unwrap(),
        b"c1\r\neth0"
    );
    assert!(draft.exists());
}

#[test]
fn rewritten_file_belongs_to_its_new_owner() {
    let folder = Folder::new();
    folder.disk("c1").scan().unwrap();
    folder.disk("c1").reserve(ip("10.0.0.2")).unwrap();
    fs::write(folder.store().join("10.0.0.2"), "c2\r\neth0").unwrap();
    assert!(folder.owned("c1").is_empty());
    assert_eq!(folder.owned("c2"), ["10.0.0.2"]);
}

#[test]
fn unreadable_file_does_not_affect_other_reservations() {
    let folder = Folder::new();
    folder.disk("c1").reserve(ip("10.0.0.2")).unwrap();
    symlink("10.0.0.9", folder.store().join("10.0.0.9")).unwrap();
    assert_eq!(folder.owned("c1"), ["10.0.0.2"]);
    assert!(!folder.is_current(), "its owner is unknown");
    let mut disk = folder.disk("c2");
    assert!(!disk.reserve(ip("10.0.0.9")).unwrap());
    assert!(!disk.reclaim(&|_| true).unwrap());
}

#[test]
fn damaged_or_missing_index_is_rebuilt() {
    let folder = Folder::new();
    folder.disk("c1").scan().unwrap();
    folder.disk("c1").reserve(ip("10.0.0.2")).unwrap();
    for damage in ["stamp", "draft", ""] {
        match damage {
            "" => fs::remove_dir_all(folder.side()).unwrap(),
            name => fs::write(folder.side().join(name), "1 torn").unwrap(),
        }
        assert_eq!(folder.owned("c1"), ["10.0.0.2"], "{damage}");
    }
    fs::remove_dir_all(folder.side()).unwrap();
    fs::write(folder.0.path().join(".host-local/net"), "not a folder").unwrap();
    assert_eq!(folder.owned("c1"), ["10.0.0.2"]);
    assert!(folder.disk("c2").reserve(ip("10.0.0.3")).unwrap());
    assert_eq!(folder.owned("c2"), ["10.0.0.3"]);
}

#[test]
fn draft_linked_to_a_reservation_is_not_written_to() {
    let folder = Folder::new();
    folder.disk("c1").reserve(ip("10.0.0.2")).unwrap();
    // the call was killed between link and unlink
    fs::hard_link(folder.store().join("10.0.0.2"), folder.side().join("draft")).unwrap();
    assert!(folder.disk("c2").reserve(ip("10.0.0.3")).unwrap());
    assert_eq!(
        fs::read(folder.store().join("10.0.0.2")).unwrap(),
        b"c1\r\neth0"
    );
}

#[test]
fn empty_files_are_reclaimed_and_foreign_ones_stay() {
    let folder = Folder::new();
    drop(folder.disk("c1"));
    for (name, content) in [
        ("10.0.0.2", &b""[..]),
        ("10.0.0.3", b"\0\0\0\0"),
        ("10.0.0.4", b"{\"a\": 1}"),
        ("10.0.0.5", b"c9"),
    ] {
        fs::write(folder.store().join(name), content).unwrap();
    }
    let mut disk = folder.disk("c1");
    assert!(disk.reclaim(&|_| true).unwrap());
    assert!(!disk.reclaim(&|_| true).unwrap());
    let mut left: Vec<_> = disk.taken().unwrap().into_iter().collect();
    left.sort();
    assert_eq!(left, [ip("10.0.0.4"), ip("10.0.0.5")]);
}

#[test]
fn reservations_of_an_earlier_boot_are_reclaimed() {
    let folder = Folder::new();
    for id in ["old", "new"] {
        folder.disk(id).scan().unwrap();
        let at = if id == "old" { "10.0.0.2" } else { "10.0.0.3" };
        folder.disk(id).reserve(ip(at)).unwrap();
    }
    folder.upstream_add("10.0.0.4", "other");
    folder.disk("old").scan().unwrap();
    let mut disk = folder.disk("c1");
    // as in the index of an earlier boot
    let mut records = disk.scan().unwrap().records;
    for record in records
        .iter_mut()
        .filter(|record| record.owner.container_id == "old")
    {
        record.boot = "earlier".into();
    }
    disk.index.rebuild(&records);
    assert!(
        !disk.reclaim(&|other| other == ip("10.0.0.3")).unwrap(),
        "not wanted"
    );
    assert!(disk.reclaim(&|_| true).unwrap());
    let mut left: Vec<_> = disk.taken().unwrap().into_iter().collect();
    left.sort();
    assert_eq!(left, [ip("10.0.0.3"), ip("10.0.0.4")]);
}

#[test]
fn new_file_is_not_confused_with_one_of_an_earlier_boot() {
    let folder = Folder::new();
    let mut disk = folder.disk("c1");
    disk.scan().unwrap();
    disk.reserve(ip("10.0.0.2")).unwrap();
    let mut records = disk.scan().unwrap().records;
    records[0].boot = "earlier".into();
    disk.index.rebuild(&records);
    drop(disk);
    folder.upstream_del("c1");
    sleep(Duration::from_millis(20));
    folder.upstream_add("10.0.0.2", "c1");
    assert!(!folder.disk("c2").reclaim(&|_| true).unwrap());
}

#[derive(Debug, Clone)]
enum Step {
    Add {
        own: bool,
        id: u8,
        ip: u8,
    },
    Del {
        own: bool,
        id: u8,
    },
    /// An administrator removes the file.
    Remove {
        ip: u8,
    },
    Damage,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (any::<bool>(), 0u8..6, 2u8..12).prop_map(|(own, id, ip)| Step::Add { own, id, ip }),
        4 => (any::<bool>(), 0u8..6).prop_map(|(own, id)| Step::Del { own, id }),
        1 => (2u8..12).prop_map(|ip| Step::Remove { ip }),
        1 => Just(Step::Damage),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// After any sequence of changes by the plugin, upstream's plugin and an administrator, the
    /// container's reservations equal the files, and no address is reserved twice.
    #[test]
    fn reservations_equal_the_files_after_any_changes(steps in steps()) {
        let folder = Folder::new();
        drop(folder.disk("nobody"));
        let mut model: HashMap<u8, u8> = HashMap::new();
        for step in steps {
            match step {
                Step::Add { own, id, ip: last } => {
                    let at = format!("10.0.0.{last}");
                    let made = if own {
                        folder.disk(&format!("c{id}")).reserve(ip(&at)).unwrap()
                    } else {
                        folder.upstream_add(&at, &format!("c{id}"))
                    };
                    prop_assert_eq!(made, !model.contains_key(&last));
                    if made {
                        model.insert(last, id);
                    }
                }
                Step::Del { own, id } => {
                    if own {
                        let mut disk = folder.disk(&format!("c{id}"));
                        let owned = disk.owned().unwrap();
                        disk.remove(&owned).unwrap();
                    } else {
                        folder.upstream_del(&format!("c{id}"));
                    }
                    model.retain(|_, owner| *owner != id);
                }
                Step::Remove { ip: last } => {
                    fs::remove_file(folder.store().join(format!("10.0.0.{last}"))).ok();
                    model.remove(&last);
                }
                Step::Damage => fs::write(folder.side().join("2a"), "10.0.0.2 c1 eth").unwrap(),
            }
            for id in 0..6u8 {
                let mut expected: Vec<_> = model.iter().filter(|(_, owner)| **owner == id)
                    .map(|(last, _)| format!("10.0.0.{last}")).collect();
                expected.sort();
                prop_assert_eq!(folder.owned(&format!("c{id}")), expected);
            }
        }
    }
}
