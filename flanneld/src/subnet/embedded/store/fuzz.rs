//! The fuzz targets of what clients of the lease server send, and of its file.

use super::{Store, StoreError, file::database, locked_file::LockedFile, state::State};
use crate::{
    model::{
        Subnets,
        lease::{Lease, LeaseAttrs},
        network_config::NetworkConfig,
    },
    subnet::{
        TTL,
        alloc::Reservation,
        embedded::wire::{Acquire, ReservationJson},
    },
};
use redb::TableDefinition;
use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
    sync::{Arc, LazyLock},
    time::Instant,
};

const CONFIG: &str =
    r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48"}"#;

fn config() -> Option<NetworkConfig> {
    let mut config = NetworkConfig::parse(CONFIG).ok()?;
    config.check_subnets().ok()?;
    Some(config)
}

/// A request, its body as that of every method: the subnets of the path, a line feed, the body.
pub(crate) fn request(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (path, body) = text.split_once('\n').unwrap_or((&text, ""));
    let Some(config) = config() else { return };
    let mut state = State::load(Vec::new(), 0, TTL, TTL);
    let (path, body) = (path.parse::<Subnets>(), body.as_bytes());
    if let Ok(attrs) = go_compat::json::from_slice::<LeaseAttrs>(body) {
        let acquire: Acquire = go_compat::json::from_slice(body).unwrap_or_default();
        let previous = acquire.previous.and_then(|text| text.parse().ok());
        let previous = previous.unwrap_or_default();
        if let Ok((changes, _)) = state.acquire(
            &config,
            attrs,
            previous,
            acquire.former.as_ref(),
            path.clone().ok(),
            7,
        ) {
            state.apply(changes);
        }
    }
    if let Ok(reservation) = go_compat::json::from_slice::<ReservationJson>(body)
        && let Ok(changes) = state.reserve(&config, Reservation::from(reservation))
    {
        state.apply(changes);
    }
    if let Ok(key) = path {
        let lease = go_compat::json::from_slice::<Lease>(body);
        if let Ok((changes, _)) = state.renew(&config, key, lease.ok().map(|lease| lease.attrs)) {
            state.apply(changes);
        }
        if let Ok(changes) = state.unreserve(key) {
            state.apply(changes);
        }
        if let Ok(changes) = state.revoke(key) {
            state.apply(changes);
        }
    }
    state.apply(state.expire(Instant::now() + TTL));
    state.since(Some(0));
}

const TABLES: [&str; 5] = ["flanneld", "leases", "reservations", "revoked", "owners"];

/// A file with leases of three nodes, one of which was revoked, and a reservation.
static STORE: LazyLock<Option<Vec<u8>>> = LazyLock::new(|| {
    let path = path("template");
    drop(fs::remove_file(&path));
    let bytes = fill(&path).and_then(|()| fs::read(&path).ok());
    drop(fs::remove_file(&path));
    bytes
});

fn path(what: &str) -> PathBuf {
    let shared = Path::new("/dev/shm");
    let folder = if shared.is_dir() {
        shared.to_owned()
    } else {
        env::temp_dir()
    };
    folder.join(format!("fuzz-store-{what}-{}", process::id()))
}

fn attrs(n: u8) -> LeaseAttrs {
    LeaseAttrs {
        public_ip: Some([172, 31, 0, n].into()),
        public_ipv6: Some([0xfd31, 0, 0, 0, 0, 0, 0, n.into()].into()),
        backend_type: "vxlan".to_owned(),
        ..LeaseAttrs::default()
    }
}

fn open(path: &Path) -> Result<Arc<Store>, StoreError> {
    Store::open_with(path, config().unwrap_or_default(), TTL, TTL)
}

fn fill(path: &Path) -> Option<()> {
    let store = open(path).ok()?;
    for n in 1..=3 {
        store.acquire(attrs(n), Subnets::default(), None).ok()?;
    }
    let first = store.leases().first()?.subnets;
    store.access(&super::TRUSTED).revoke(first).ok()?;
    // none of the first hundred, of which leases are
    let reservation = Reservation {
        subnets: "10.244.200.0-24&fd00:10:244:c8::-64".parse().ok()?,
        attrs: attrs(9),
    };
    store.access(&super::TRUSTED).reserve(reservation).ok()
}

/// Changes to a store's file, 5 bytes each: where (4 bytes, little-endian) and what. One that is
/// refused is not altered; one that is not serves, and is read again as it was.
pub(crate) fn file(bytes: &[u8]) {
    assert!(STORE.is_some(), "a store can be made");
    let Some(mut content) = STORE.clone() else {
        return;
    };
    let (changes, rest) = bytes.as_chunks::<5>();
    for [a, b, c, d, byte] in changes {
        let at = u32::from_le_bytes([*a, *b, *c, *d]);
        let at = usize::try_from(at).unwrap_or(0) % content.len();
        content[at] = *byte;
    }
    // and a file that ends early
    if let [first, second, ..] = rest {
        let end = usize::from(u16::from_le_bytes([*first, *second])) * 64;
        content.truncate(end.max(1));
    }
    let path = path("file");
    if fs::write(&path, &content).is_err() {
        return;
    }
    check(&path, &content);
    drop(fs::remove_file(&path));
}

/// Entries of a store's file, a line each: table, key and value, with tabs between them.
pub(crate) fn entries(bytes: &[u8]) {
    let path = path("entries");
    assert!(STORE.is_some(), "a store can be made");
    let Some(content) = &*STORE else { return };
    if fs::write(&path, content).is_err() {
        return;
    }
    let written = put(&path, &String::from_utf8_lossy(bytes));
    if written.is_ok()
        && let Ok(content) = fs::read(&path)
    {
        check(&path, &content);
    }
    drop(fs::remove_file(&path));
}

fn put(path: &Path, lines: &str) -> Result<(), redb::Error> {
    let file = LockedFile::open(path)?;
    let database = database(&file)?;
    let transaction = database.begin_write()?;
    for line in lines.lines() {
        let mut parts = line.splitn(3, '\t');
        let (Some(table), Some(key), Some(value)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if TABLES.contains(&table) {
            let table = TableDefinition::<&str, &str>::new(table);
            transaction.open_table(table)?.insert(key, value)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn check(path: &Path, content: &[u8]) {
    let store = match open(path) {
        Ok(store) => store,
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(&*path.to_string_lossy()), "{text}");
            let same = fs::read(path).is_ok_and(|bytes| bytes == content);
            assert!(same, "a refused store was altered: {text}");
            return;
        }
    };
    if let Ok(lease) = store.acquire(attrs(200), Subnets::default(), None) {
        store
            .access(&super::TRUSTED)
            .renew(lease.subnets, None)
            .ok();
    }
    store.since(Some(0));
    // the file has whole seconds
    let known = |store: &Store| -> Vec<_> {
        let leases = store.leases().into_iter();
        leases
            .map(|lease| (lease.subnets, lease.attrs.clone()))
            .collect()
    };
    let (leases, reservations) = (known(&store), store.reservations());
    drop(store);
    let again = open(path);
    assert!(again.is_ok(), "{:?}", again.err());
    if let Ok(again) = again {
        assert_eq!(known(&again), leases);
        assert_eq!(again.reservations(), reservations);
    }
}
