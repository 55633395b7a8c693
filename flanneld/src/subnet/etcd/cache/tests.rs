use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const TTL: Duration = Duration::from_secs(86_400);
const STORE: StoreRevision = StoreRevision {
    cluster: 1,
    revision: 100,
};

fn cache() -> LeaseCache {
    LeaseCache::new(Keys::new("/p"), TTL)
}

fn value(node: u8) -> Vec<u8> {
    format!(r#"{{"PublicIP":"192.0.2.{node}","PublicIPv6":null}}"#).into_bytes()
}

fn record(subnets: &str, value: &[u8], mod_revision: i64) -> Record {
    Record {
        key: format!("/p/subnets/{subnets}").into_bytes(),
        value: Some(value.to_vec()),
        mod_revision,
        lease_id: 5,
    }
}

fn listing(store: StoreRevision, records: &[Record]) -> Listing {
    Listing {
        store,
        records: records.to_vec(),
    }
}

/// Takes over a listing; true if the leases are not the same as before.
fn replace(cache: &mut LeaseCache, listing: Listing, now: Instant) -> bool {
    cache.replace(listing, now).changed
}

fn deleted(subnets: &str, mod_revision: i64) -> Change {
    Change::Delete {
        key: format!("/p/subnets/{subnets}").into_bytes(),
        mod_revision,
    }
}

/// `10.1.1.0-24=192.0.2.1`, sorted.
fn seen(cache: &LeaseCache) -> Vec<String> {
    let leases = cache.leases();
    let mut seen: Vec<String> = leases
        .iter()
        .map(|lease| format!("{}={}", lease.subnets, lease.attrs.node()))
        .collect();
    seen.sort();
    seen
}

#[test]
fn bad_keys_and_values_do_not_affect_the_others() {
    let mut cache = cache();
    let now = Instant::now();
    let mut too_long = record("10.1.9.0-24", b"", 9);
    too_long.value = None;
    let records = [
        record("10.1.1.0-24", &value(1), 1),
        record("nonsense", &value(2), 2),
        record("10.1.3.0-24", b"[]", 3),
        record("10.1.4.0-24", b"\xff", 4),
        record("10.1.5.0-24", &value(5), 5),
        too_long,
    ];
    assert!(replace(&mut cache, listing(STORE, &records), now));
    assert_eq!(
        seen(&cache),
        ["10.1.1.0-24=192.0.2.1", "10.1.5.0-24=192.0.2.5"]
    );
    assert_eq!(cache.unreadable.len(), 4);
    // mended
    assert!(cache.apply(Change::Put(record("10.1.3.0-24", &value(3), 101)), now));
    assert_eq!(seen(&cache).len(), 3);
    assert_eq!(cache.unreadable.len(), 3);
}

#[test]
fn value_that_becomes_unreadable_keeps_the_last_lease_until_the_key_goes() {
    let mut cache = cache();
    let now = Instant::now();
    replace(
        &mut cache,
        listing(STORE, &[record("10.1.1.0-24", &value(1), 1)]),
        now,
    );
    assert!(!cache.apply(Change::Put(record("10.1.1.0-24", b"[]", 101)), now));
    assert!(cache.is_unreadable(&"10.1.1.0-24".parse().unwrap()));
    assert_eq!(seen(&cache), ["10.1.1.0-24=192.0.2.1"]);
    // a new listing keeps it, too
    let store = StoreRevision {
        revision: 110,
        ..STORE
    };
    assert!(!replace(
        &mut cache,
        listing(store, &[record("10.1.1.0-24", b"[]", 101)]),
        now
    ));
    assert!(!replace(
        &mut cache,
        listing(store, &[record("10.1.1.0-24", b"[7]", 105)]),
        now
    ));
    assert_eq!(seen(&cache), ["10.1.1.0-24=192.0.2.1"]);
    assert!(cache.apply(deleted("10.1.1.0-24", 111), now));
    assert!(seen(&cache).is_empty() && cache.unreadable.is_empty());
}

#[test]
fn listing_is_compared_with_what_is_known() {
    let mut cache = cache();
    let now = Instant::now();
    let records = [
        record("10.1.1.0-24", &value(1), 1),
        record("10.1.2.0-24", &value(2), 2),
    ];
    replace(&mut cache, listing(STORE, &records), now);
    let before = cache.leases();
    assert!(!replace(&mut cache, listing(STORE, &records), now));
    // a renewal writes the same value again
    let renewed = [records[0].clone(), record("10.1.2.0-24", &value(2), 99)];
    assert!(!replace(&mut cache, listing(STORE, &renewed), now));
    for (before, after) in before.iter().zip(cache.leases().iter()) {
        assert!(Arc::ptr_eq(before, after));
    }
    let moved = [record("10.1.2.0-24", &value(3), 99)];
    let store = StoreRevision {
        revision: 120,
        ..STORE
    };
    assert!(
        replace(&mut cache, listing(store, &moved), now),
        "one gone, one changed"
    );
    assert_eq!(
        seen(&cache),
        ["10.1.2.0-24=192.0.2.2"],
        "the revision is the same"
    );
    let moved = [record("10.1.2.0-24", &value(3), 119)];
    assert!(replace(&mut cache, listing(store, &moved), now));
    assert_eq!(seen(&cache), ["10.1.2.0-24=192.0.2.3"]);
}

#[test]
fn key_without_etcd_lease_is_a_reservation() {
    let mut cache = cache();
    let now = Instant::now();
    let mut reserved = record("10.1.1.0-24", &value(1), 1);
    reserved.lease_id = 0;
    replace(&mut cache, listing(STORE, &[reserved]), now);
    assert!(cache.leases()[0].expiration.is_none());
    assert!(cache.apply(Change::Put(record("10.1.1.0-24", &value(1), 101)), now));
    assert!(cache.leases()[0].expiration.is_some());
}

#[test]
fn lost_store_retains_leases_until_it_contradicts_them() {
    let now = Instant::now();
    let records = [
        record("10.1.1.0-24", &value(1), 1),
        record("10.1.2.0-24", &value(2), 2),
        record("10.1.3.0-24", &value(3), 3),
    ];
    let other_cluster = StoreRevision {
        cluster: 2,
        revision: 100,
    };
    let backup = StoreRevision {
        cluster: 1,
        revision: 50,
    };
    for lost in [other_cluster, backup] {
        let mut cache = cache();
        replace(&mut cache, listing(STORE, &records), now);
        assert!(cache.is_resumable(STORE) && !cache.is_resumable(lost));
        assert!(cache.replace(listing(lost, &records[..1]), now).lost);
        assert_eq!(seen(&cache).len(), 3);
        // node 2 registers again with another subnet, node 9 takes that of node 3
        assert!(cache.apply(Change::Put(record("10.1.7.0-24", &value(2), 101)), now));
        assert!(cache.apply(Change::Put(record("10.1.3.0-24", &value(9), 102)), now));
        assert_eq!(
            seen(&cache),
            [
                "10.1.1.0-24=192.0.2.1",
                "10.1.3.0-24=192.0.2.9",
                "10.1.7.0-24=192.0.2.2"
            ]
        );
    }
    let mut cache = cache();
    replace(&mut cache, listing(STORE, &records), now);
    replace(&mut cache, listing(other_cluster, &[]), now);
    assert_eq!(seen(&cache).len(), 3);
    assert!(cache.apply(deleted("10.9.9.0-24", 101), now + TTL));
    assert!(seen(&cache).is_empty());
}

#[test]
fn conflicting_leases_are_ordered_by_their_writes() {
    let mut cache = cache();
    let records = [
        record("10.1.1.0-24", &value(1), 50),
        record("10.1.0.0-16", &value(2), 10),
    ];
    replace(&mut cache, listing(STORE, &records), Instant::now());
    let end = |key: &str| {
        let entry = cache.get(&key.parse().unwrap()).unwrap();
        entry.lease.expiration.unwrap()
    };
    assert!(end("10.1.1.0-24") > end("10.1.0.0-16"));
}

#[test]
fn watch_resumes_after_the_last_revision_that_arrived() {
    let mut cache = cache();
    assert!(!cache.is_resumable(STORE));
    replace(&mut cache, listing(STORE, &[]), Instant::now());
    cache.apply(deleted("10.1.1.0-24", 105), Instant::now());
    let current = StoreRevision {
        revision: 200,
        ..STORE
    };
    assert!(cache.is_resumable(current) && !cache.is_resumable(STORE));
    assert_eq!(cache.next_revision(), Some(106));
    assert!(cache.shows(105) && !cache.shows(106));
    cache.advance(150);
    cache.advance(120);
    assert_eq!(cache.next_revision(), Some(151));
    cache.start_over();
    assert!(!cache.is_resumable(current));
}

/// What happens to one of a few keys.
#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Break(u8),
    Delete(u8),
    /// A new listing of the same state.
    List,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..5, 1u8..9).prop_map(|(key, node)| Step::Put(key, node)),
        (0u8..5).prop_map(Step::Break),
        (0u8..5).prop_map(Step::Delete),
        Just(Step::List),
    ]
}

proptest! {
    /// Events and listings lead to the same leases: every readable key's, and of an unreadable one
    /// the last that was readable.
    #[test]
    fn every_sequence_of_changes_leads_to_the_stores_leases(steps in proptest::collection::vec(step(), 0..40)) {
        let (mut cache, now) = (cache(), Instant::now());
        replace(&mut cache, listing(STORE, &[]), now);
        let mut store: BTreeMap<u8, Record> = BTreeMap::new();
        let mut expected: BTreeMap<u8, u8> = BTreeMap::new();
        let mut revision = STORE.revision;
        for step in steps {
            revision += 1;
            let name = |key: u8| format!("10.1.{key}.0-24");
            let before = seen(&cache);
            let changed = match step {
                Step::Put(key, node) => {
                    let record = record(&name(key), &value(node), revision);
                    expected.insert(key, node);
                    store.insert(key, record.clone());
                    cache.apply(Change::Put(record), now)
                }
                Step::Break(key) => {
                    let record = record(&name(key), b"[", revision);
                    store.insert(key, record.clone());
                    cache.apply(Change::Put(record), now)
                }
                Step::Delete(key) => {
                    expected.remove(&key);
                    store.remove(&key);
                    cache.apply(deleted(&name(key), revision), now)
                }
                Step::List => {
                    let records: Vec<Record> = store.values().cloned().collect();
                    let store = StoreRevision { revision, ..STORE };
                    replace(&mut cache, listing(store, &records), now)
                }
            };
            let wanted: Vec<String> =
                expected.iter().map(|(key, node)| format!("{}=192.0.2.{node}", name(*key))).collect();
            prop_assert_eq!(seen(&cache), wanted);
            prop_assert_eq!(changed, before != seen(&cache));
            let broken: BTreeSet<u8> =
                store.iter().filter(|(_, r)| r.value.as_deref() == Some(b"[")).map(|(k, _)| *k).collect();
            prop_assert_eq!(cache.unreadable.len(), broken.len());
        }
    }
}
