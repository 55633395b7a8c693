use super::{locked_file::LockedFile, *};
use crate::subnet::fixtures;
use proptest::prelude::*;
use redb::TableDefinition;
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
};
use tempfile::TempDir;

fn config(network: &str) -> NetworkConfig {
    let mut config = NetworkConfig::parse(&format!(r#"{{"Network":"{network}"}}"#)).unwrap();
    config.check_subnets().unwrap();
    config
}

fn node(n: u8) -> LeaseAttrs {
    LeaseAttrs {
        public_ip: Some([192, 0, 2, n].into()),
        backend_type: "vxlan".into(),
        backend_data: Some(serde_json::json!({"VNI": 1})),
        ..LeaseAttrs::default()
    }
}

fn key(text: &str) -> Subnets {
    text.parse().unwrap()
}

/// A subnet of the network that is not that one: nodes get theirs at random.
fn other_than(taken: Subnets) -> Subnets {
    let mut subnets = ["10.3.7.0-24", "10.3.8.0-24"].into_iter().map(key);
    subnets.find(|subnet| *subnet != taken).unwrap()
}

struct TestFolder {
    folder: TempDir,
}

impl TestFolder {
    fn new() -> TestFolder {
        TestFolder {
            // in memory where there is such a folder: what is tested here is the process that dies,
            // not the disk
            folder: tempfile::tempdir_in("/dev/shm")
                .or_else(|_| tempfile::tempdir())
                .unwrap(),
        }
    }
    fn path(&self) -> PathBuf {
        self.folder.path().join("deep/leases.redb")
    }
    fn open(&self) -> Arc<Store> {
        self.try_open().unwrap()
    }
    fn try_open(&self) -> Result<Arc<Store>, StoreError> {
        Store::open_with(&self.path(), config("10.3.0.0/16"), TTL, GRACE)
    }
    /// The files in the store's folder, with their content.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = fs::read_dir(self.path().parent().unwrap()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect()
    }
    /// Opens with that ttl and grace.
    fn open_for(&self, ttl: Duration, grace: Duration) -> Arc<Store> {
        Store::open_with(&self.path(), config("10.3.0.0/16"), ttl, grace).unwrap()
    }
}

#[test]
fn content_survives_a_restart() {
    let folder = TestFolder::new();
    let store = folder.open();
    let (id, lease) = (
        store.id.clone(),
        store.acquire(node(1), Subnets::default(), None).unwrap(),
    );
    let reservation = Reservation {
        subnets: other_than(lease.subnets),
        attrs: LeaseAttrs {
            public_ip: node(7).public_ip,
            ..LeaseAttrs::default()
        },
    };
    store.reserve(reservation.clone()).unwrap();
    let gone = store.acquire(node(2), Subnets::default(), None).unwrap();
    store.revoke(gone.subnets).unwrap();
    let (_, revision) = store.snapshot();
    drop(store);

    let store = folder.open();
    assert_eq!(store.id, id);
    assert!(store.snapshot().1 >= revision);
    let read = store.leases();
    assert_eq!(read.len(), 1);
    assert_eq!(
        (read[0].subnets, &read[0].attrs),
        (lease.subnets, &lease.attrs)
    );
    assert_eq!(store.reservations(), [reservation]);
    assert!(matches!(
        store.renew(gone.subnets, None),
        Err(StoreError::Revoked(_))
    ));
    assert_eq!(
        store
            .acquire(node(1), Subnets::default(), None)
            .unwrap()
            .subnets,
        lease.subnets
    );
}

#[test]
fn file_that_is_open_is_refused() {
    let folder = TestFolder::new();
    let _first = folder.open();
    let error = folder.try_open().err().unwrap().to_string();
    assert!(error.contains("in use by another process"), "{error}");
}

#[test]
fn revision_that_cannot_be_counted_on_is_refused() {
    let folder = TestFolder::new();
    drop(folder.open());
    for revision in ["18446744073709551615", "9223372036854775808", "-1", "x"] {
        let meta = TableDefinition::<&str, &str>::new("flanneld");
        edit(&folder.path(), &[(meta, "revision", revision)]);
        let error = folder.try_open().err().unwrap().to_string();
        assert!(
            error.contains("revision") && error.contains(revision),
            "{error}"
        );
    }
}

#[test]
fn store_never_writes_a_revision_that_it_would_refuse() {
    const META: TableDefinition<&str, &str> = TableDefinition::new("flanneld");
    let folder = TestFolder::new();
    let lease = folder.open().acquire(node(1), Subnets::default(), None);
    edit(&folder.path(), &[(META, "revision", "9223372036854775807")]);
    let store = folder.open();
    let error = store.acquire(node(2), Subnets::default(), None);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("9223372036854775808"), "{error}");
    drop(store);
    assert_eq!(folder.open().leases().len(), 1, "{lease:?}");
}

#[test]
fn lease_in_the_place_of_another_one_is_left_out() {
    const LEASES: TableDefinition<&str, &str> = TableDefinition::new("leases");
    const LEASE: &str = r#"{"Subnet":"10.3.6.0/24","Attrs":{"PublicIP":"192.0.2.6",
        "BackendType":"vxlan"},"Expiration":"2100-01-01T00:00:00Z"}"#;
    let folder = TestFolder::new();
    drop(folder.open());
    edit(&folder.path(), &[(LEASES, "10.3.6.0-24", LEASE)]);
    assert_eq!(folder.open().leases().len(), 1);
    edit(&folder.path(), &[(LEASES, "10.3.5.0-24", LEASE)]);
    edit(&folder.path(), &[(LEASES, "10.3.6.0-24", "{}")]);
    // the next lease of 10.3.5.0/24 would overwrite it
    assert_eq!(folder.open().leases().len(), 0);
}

#[test]
fn reserved_lease_does_not_end() {
    let folder = TestFolder::new();
    let store = folder.open();
    let lease = store.acquire(node(1), Subnets::default(), None).unwrap();
    assert!(lease.expiration.is_some());
    let reserve = |key, attrs| {
        store.reserve(Reservation {
            subnets: key,
            attrs,
        })
    };
    // a lease that its node reserves no longer ends
    reserve(lease.subnets, node(1)).unwrap();
    assert_eq!(store.lease(&lease.subnets).0.unwrap().expiration, None);
    assert_eq!(store.renew(lease.subnets, None).unwrap().expiration, None);
    assert_eq!(store.expire(Instant::now() + 2 * TTL).unwrap(), None);
    assert_eq!(store.leases().len(), 1);
    // no other node can reserve it, and a node has one reservation
    let error = reserve(lease.subnets, node(2)).unwrap_err().to_string();
    assert!(error.contains("192.0.2.1"), "{error}");
    let error = reserve(other_than(lease.subnets), node(1))
        .unwrap_err()
        .to_string();
    assert!(error.contains("delete it first"), "{error}");
    let error = reserve(key("10.99.1.0-24"), node(3))
        .unwrap_err()
        .to_string();
    assert!(error.contains("not a subnet of this network"), "{error}");
    // given up, it ends as others do
    store.unreserve(lease.subnets).unwrap();
    assert!(store.lease(&lease.subnets).0.unwrap().expiration.is_some());
    assert!(matches!(
        store.unreserve(lease.subnets),
        Err(StoreError::Unknown(_))
    ));
}

#[test]
fn leases_end_unless_renewed() {
    let folder = TestFolder::new();
    let store = folder.open();
    let (a, b) = (
        store.acquire(node(1), Subnets::default(), None).unwrap(),
        store.acquire(node(2), Subnets::default(), None).unwrap(),
    );
    let start = Instant::now();
    let next = store.expire(start).unwrap().unwrap();
    assert!(next > start + TTL - Duration::from_secs(60));
    thread::sleep(Duration::from_millis(20));
    store.renew(b.subnets, None).unwrap();
    store
        .expire(start + TTL + Duration::from_millis(10))
        .unwrap();
    assert_eq!(store.lease(&a.subnets).0, None);
    assert!(store.lease(&b.subnets).0.is_some());
    assert!(matches!(
        store.renew(a.subnets, None),
        Err(StoreError::Unknown(_))
    ));
}

#[test]
fn lease_that_ended_while_the_store_was_closed_gets_grace() {
    let folder = TestFolder::new();
    let short = Duration::from_secs(1);
    let store = folder.open_for(short, short);
    let lease = store.acquire(node(1), Subnets::default(), None).unwrap();
    drop(store);
    thread::sleep(Duration::from_millis(2100));
    let store = folder.open_for(Duration::from_secs(100), Duration::from_secs(50));
    let now = Instant::now();
    assert!(
        store
            .expire(now + Duration::from_secs(40))
            .unwrap()
            .is_some()
    );
    assert!(store.renew(lease.subnets, None).is_ok());
    // and a clock that went back does not make it live longer than a lease does
    drop(store);
    let store = folder.open_for(short, Duration::ZERO);
    store.expire(Instant::now() + short).unwrap();
    assert_eq!(store.leases(), []);
}

#[test]
fn lease_of_another_node_cannot_be_renewed() {
    let folder = TestFolder::new();
    let store = folder.open();
    let lease = store.acquire(node(1), Subnets::default(), None).unwrap();
    assert!(matches!(
        store.renew(lease.subnets, Some(node(2))),
        Err(StoreError::HeldBy(..))
    ));
    // new attributes are a change for watchers, a renewal alone is not
    let (_, before) = store.snapshot();
    store.renew(lease.subnets, Some(node(1))).unwrap();
    assert_eq!(store.snapshot().1, before);
    let moved = LeaseAttrs {
        backend_data: None,
        ..node(1)
    };
    store.renew(lease.subnets, Some(moved)).unwrap();
    assert_eq!(store.snapshot().1, before + 1);
}

#[test]
fn node_keeps_its_subnet_when_its_address_changes() {
    let folder = TestFolder::new();
    let store = folder.open();
    let lease = store.acquire(node(1), Subnets::default(), None).unwrap();
    let other = store.acquire(node(3), Subnets::default(), None).unwrap();
    let moved = store
        .acquire(node(2), Subnets::default(), Some(node(1)))
        .unwrap();
    assert_eq!(moved.subnets, lease.subnets);
    assert_eq!(store.leases().len(), 2);
    assert_eq!(store.lease(&lease.subnets).0.unwrap().attrs, node(2));
    // onto an address that has a lease: one is kept, one given back
    store
        .acquire(node(3), Subnets::default(), Some(node(2)))
        .unwrap();
    let left = store.leases();
    assert_eq!(left.len(), 1);
    assert!([lease.subnets, other.subnets].contains(&left[0].subnets));
}

#[test]
fn node_without_usable_address_is_refused() {
    let folder = TestFolder::new();
    let store = folder.open();
    for ip in [None, Some([224, 0, 0, 1].into()), Some([255; 4].into())] {
        let attrs = LeaseAttrs {
            public_ip: ip,
            public_ipv6: Some("fd00::1".parse().unwrap()),
            ..LeaseAttrs::default()
        };
        let error = store.acquire(attrs, Subnets::default(), None).unwrap_err();
        assert!(error.to_string().contains("PublicIP"), "{error}");
    }
}

#[test]
fn update_since_a_revision_is_events_or_a_snapshot() {
    let folder = TestFolder::new();
    let store = folder.open();
    store.acquire(node(1), Subnets::default(), None).unwrap();
    let (_, seen) = store.snapshot();
    let lease = store.acquire(node(2), Subnets::default(), None).unwrap();
    store.revoke(lease.subnets).unwrap();
    let (Update::Events(events), _) = store.since(Some(seen)) else {
        panic!("too little history")
    };
    assert_eq!(events.len(), 2);
    assert!(events[1].starts_with(r#"{"type":"removed","reason":"revoked","#));
    // the future, and a past that is forgotten, are answered with everything
    assert!(matches!(
        store.since(Some(u64::MAX)),
        (Update::Snapshot(_), _)
    ));
    assert!(matches!(store.since(None), (Update::Snapshot(_), _)));
    drop(store);
    let store = folder.open();
    assert!(matches!(store.since(Some(0)), (Update::Snapshot(_), _)));
}

#[test]
fn unreadable_files_are_refused_unchanged_with_advice() {
    let folder = TestFolder::new();
    drop(folder.open());
    let good = fs::read(folder.path()).unwrap();
    for (name, content) in [
        ("text", b"hello\n".to_vec()),
        ("long text", b"hello\n".repeat(100_000)),
        ("half", good[..good.len() / 2].to_vec()),
        ("head alone", good[..100].to_vec()),
        ("zeros", vec![0; good.len()]),
        (
            "a head, then zeros",
            [&good[..512], &vec![0; good.len() - 512]].concat(),
        ),
    ] {
        fs::write(folder.path(), &content).unwrap();
        let before = folder.files();
        let error = folder
            .try_open()
            .err()
            .unwrap_or_else(|| panic!("{name} opens"));
        let text = error.to_string();
        assert!(
            text.contains("leases.redb") && text.contains("move it away"),
            "{name}: {text}"
        );
        assert!(folder.files() == before, "{name} was changed");
    }
    // an empty file is no store: nothing is lost by making one
    fs::write(folder.path(), b"").unwrap();
    folder
        .open()
        .acquire(node(1), Subnets::default(), None)
        .unwrap();
    assert_eq!(folder.open().leases().len(), 1);
    // a folder, and a path below a file
    fs::remove_file(folder.path()).unwrap();
    fs::create_dir(folder.path()).unwrap();
    assert!(folder.try_open().is_err());
    let below_a_file = folder.folder.path().join("file");
    fs::write(&below_a_file, "x").unwrap();
    let path = below_a_file.join("leases.redb");
    assert!(Store::open_with(&path, config("10.3.0.0/16"), TTL, GRACE).is_err());
}

/// A change of a redb file by another program, or another version of this one.
fn edit(path: &Path, entries: &[(TableDefinition<&str, &str>, &str, &str)]) {
    let mut options = fs::File::options();
    let file = options.read(true).write(true).create(true).open(path);
    let file = LockedFile::new(file.unwrap());
    let database = file::database(&file).unwrap();
    let transaction = database.begin_write().unwrap();
    for (table, key, value) in entries {
        let mut table = transaction.open_table(*table).unwrap();
        table.insert(*key, *value).unwrap();
    }
    transaction.commit().unwrap();
}

#[test]
fn stores_of_other_programs_and_versions_are_refused_unchanged() {
    const META: TableDefinition<&str, &str> = TableDefinition::new("flanneld");
    const OTHER: TableDefinition<&str, &str> = TableDefinition::new("songs");
    let empty: &dyn Fn(&TestFolder) = &|folder| edit(&folder.path(), &[]);
    let foreign: &dyn Fn(&TestFolder) =
        &|folder| edit(&folder.path(), &[(OTHER, "1", "Autumn Leaves")]);
    let newer: &dyn Fn(&TestFolder) = &|folder| {
        let store = folder.open();
        store.acquire(node(1), Subnets::default(), None).unwrap();
        drop(store);
        edit(&folder.path(), &[(META, "format", "2")]);
    };
    for (make, reason) in [
        (empty, "another program's"),
        (foreign, "another program's"),
        (newer, "a newer version"),
    ] {
        let folder = TestFolder::new();
        fs::create_dir_all(folder.path().parent().unwrap()).unwrap();
        make(&folder);
        let whole = fs::read(folder.path()).unwrap();
        // also as kill -9 leaves it: redb would repair it
        let mut not_closed = whole.clone();
        not_closed[9] |= 2;
        for content in [whole, not_closed] {
            fs::write(folder.path(), content).unwrap();
            let before = folder.files();
            for _ in 0..2 {
                let error = folder.try_open().err().unwrap().to_string();
                assert!(error.contains(reason), "{error}");
                assert_eq!(folder.files().len(), before.len());
                assert!(folder.files() == before, "{reason}: the file was changed");
            }
        }
    }
}

#[test]
fn damage_is_an_error_or_costs_at_most_the_last_change() {
    let folder = TestFolder::new();
    let store = folder.open();
    for n in 0..50 {
        store.acquire(node(n), Subnets::default(), None).unwrap();
    }
    drop(store);
    let good = fs::read(folder.path()).unwrap();
    let used = good.iter().rposition(|byte| *byte != 0).unwrap();
    let (mut refused, mut opened) = (0, 0);
    // each byte of the head, and some of each page
    for at in (0..512).chain((512..used).step_by(293)) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(folder.path(), &bad).unwrap();
        match folder.try_open() {
            Err(_) => {
                refused += 1;
                let same = fs::read(folder.path()).unwrap() == bad;
                assert!(same, "byte {at}: the file was changed");
            }
            Ok(store) => {
                opened += 1;
                // at worst it is the state before the last change
                assert!(store.leases().len() >= 49, "byte {at}");
            }
        }
    }
    assert!(
        refused > 10 && opened > 10,
        "{refused} refused, {opened} opened"
    );
}

#[test]
fn next_change_after_a_failed_write_writes_everything() {
    let folder = TestFolder::new();
    let store = folder.open();
    let first = store.acquire(node(1), Subnets::default(), None).unwrap();
    // as after a failed write: the file is closed, and the next change opens it and writes
    // everything
    lock(&store.file).close();
    let second = store.acquire(node(2), Subnets::default(), None).unwrap();
    store.revoke(first.subnets).unwrap();
    drop(store);
    let keys: Vec<Subnets> = folder
        .open()
        .leases()
        .iter()
        .map(|lease| lease.subnets)
        .collect();
    assert_eq!(keys, [second.subnets]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn restart_has_the_same_content(steps in proptest::collection::vec((0u8..5, 0u8..12), 1..30)) {
        let folder = TestFolder::new();
        let store = folder.open();
        let mut revision = 0;
        for (what, n) in steps {
            let held = store.leases().into_iter().find(|lease| lease.attrs.same_node(&node(n)));
            let own = held.map_or(key("10.3.200.0-24"), |lease| lease.subnets);
            // refusals are part of it
            match what {
                0 => drop(store.acquire(node(n), Subnets::default(), None)),
                1 => drop(store.revoke(own)),
                2 => drop(store.renew(own, None)),
                3 => drop(store.reserve(Reservation { subnets: own, attrs: node(n) })),
                _ => drop(store.unreserve(own)),
            }
            let now = store.snapshot().1;
            prop_assert!(now >= revision);
            revision = now;
        }
        let without_end = |store: &Store| -> HashMap<Subnets, LeaseAttrs> {
            store.leases().into_iter().map(|lease| (lease.subnets, lease.attrs.clone())).collect()
        };
        let (leases, reservations) = (without_end(&store), store.reservations());
        drop(store);
        let store = folder.open();
        prop_assert_eq!(without_end(&store), leases);
        prop_assert_eq!(store.reservations(), reservations);
    }
}

const WRITER: &str = "LEASE_STORE_OF_WRITER";

/// Not a test by itself: the process that [`promised_changes_survive_sigkill`] kills. It prints
/// what it was promised.
#[test]
fn writer() {
    let Ok(path) = std::env::var(WRITER) else {
        return;
    };
    let config = config("10.3.0.0/16");
    let store = Store::open_with(Path::new(&path), config, TTL, GRACE).unwrap();
    let mut out = std::io::stdout();
    let mut print = |text: String| {
        writeln!(out, "{text}").unwrap();
        out.flush().unwrap();
    };
    for round in 0u64.. {
        let n = (getrandom::u64().unwrap() % 40) as u8;
        let attrs = LeaseAttrs {
            backend_data: Some(serde_json::json!({ "round": round })),
            ..node(n)
        };
        print(format!("+? {n} {round}"));
        let lease = store.acquire(attrs, Subnets::default(), None).unwrap();
        print(format!("+ {n} {round}"));
        if getrandom::u64().unwrap().is_multiple_of(3) {
            print(format!("-? {n} {round}"));
            store.revoke(lease.subnets).unwrap();
            print(format!("- {n} {round}"));
        }
    }
}

#[test]
fn promised_changes_survive_sigkill() {
    let folder = TestFolder::new();
    // what each node was promised: None is "no lease"
    let mut promised: HashMap<u8, Option<u64>> = HashMap::new();
    let mut changes = 0;
    for run in 0..100u64 {
        // a slow machine makes fewer changes in a run
        if run >= 15 && changes > 50 {
            break;
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "--exact",
                "subnet::embedded::store::tests::writer",
                "--nocapture",
            ])
            .env(WRITER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = fixtures::spawn(&mut command).unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        let reader = thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        // the first runs end while the file is made, the others at any point of any transaction
        thread::sleep(Duration::from_micros(
            run.min(20).pow(2) * 900 + getrandom::u64().unwrap() % 3000,
        ));
        child.kill().unwrap();
        child.wait().unwrap();
        reader.join().unwrap();
        let mut open = None;
        for line in lines.try_iter() {
            let mut words = line.split(' ');
            let (Some(what), Some(n), Some(round)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let (Ok(n), Ok(round)) = (n.parse::<u8>(), round.parse::<u64>()) else {
                continue;
            };
            match what {
                "+?" => open = Some((n, Some(round))),
                "-?" => open = Some((n, None)),
                "+" | "-" => {
                    promised.insert(n, (what == "+").then_some(round));
                    open = None;
                    changes += 1;
                }
                _ => {}
            }
        }
        let store = folder.open();
        let found: HashMap<u8, u64> = store
            .leases()
            .into_iter()
            .map(|lease| {
                let n = lease.attrs.public_ip.unwrap().octets()[3];
                (
                    n,
                    lease.attrs.backend_data.as_ref().unwrap()["round"]
                        .as_u64()
                        .unwrap(),
                )
            })
            .collect();
        for (n, round) in &promised {
            let found = found.get(n).copied();
            let underway = open.is_some_and(|(m, to)| m == *n && to == found);
            assert!(
                found == *round || underway,
                "run {run}, node {n}: {found:?}, promised {round:?}, open {open:?}"
            );
        }
        // what was underway is now either done or not
        if let Some((n, _)) = open {
            promised.insert(n, found.get(&n).copied());
        }
    }
    assert!(changes > 50, "only {changes} changes were made");
}
