use super::*;
use crate::model::lease::LeaseAttrs;
use crate::subnet::embedded::store::{Store, Update};
use proptest::prelude::*;
use serde_json::json;

fn lease(n: u8) -> Value {
    json!({"Subnet": format!("10.3.{n}.0/24"), "Attrs": {"PublicIP": format!("192.0.2.{n}")}})
}

fn snapshot(store: &str, cursor: u64, leases: &[Value]) -> Line {
    serde_json::from_value(
        json!({"store": store, "ttl": 100, "snapshot": leases, "cursor": cursor.to_string()}),
    )
    .unwrap()
}

fn event(kind: &str, reason: &str, lease: Value, cursor: u64) -> Line {
    serde_json::from_value(json!({
        "events": [{"type": kind, "reason": reason, "lease": lease}], "cursor": cursor.to_string()
    }))
    .unwrap()
}

fn known(cache: &LeaseCache) -> Vec<String> {
    let mut keys: Vec<String> = cache
        .leases()
        .iter()
        .map(|lease| lease.subnets.to_string())
        .collect();
    keys.sort();
    keys
}

fn started(leases: &[Value]) -> (LeaseCache, Instant) {
    let (mut cache, now) = (LeaseCache::default(), Instant::now());
    let effect = cache.apply(snapshot("a", 5, leases), now).unwrap();
    assert!(effect.changed && effect.snapshot);
    (cache, now)
}

#[test]
fn events_change_the_snapshot() {
    let (mut cache, now) = started(&[lease(1), lease(2)]);
    assert!(
        cache
            .apply(event("added", "", lease(3), 6), now)
            .unwrap()
            .changed
    );
    let effect = cache
        .apply(event("removed", "revoked", lease(1), 7), now)
        .unwrap();
    assert_eq!(effect.revoked, ["10.3.1.0-24".parse().unwrap()]);
    assert_eq!(known(&cache), ["10.3.2.0-24", "10.3.3.0-24"]);
    assert_eq!(cache.resume(), Some("store=a&next=7".to_owned()));
    // the same snapshot again changes nothing
    let again = snapshot("a", 9, &[lease(2), lease(3)]);
    assert!(!cache.apply(again, now).unwrap().changed);
}

#[test]
fn empty_first_snapshot_is_complete() {
    let (cache, _) = started(&[]);
    assert_eq!(known(&cache), [] as [&str; 0]);
}

fn with_epoch(line: Line, epoch: &str, continues: Option<bool>) -> Line {
    Line {
        epoch: Some(epoch.to_owned()),
        continues,
        ..line
    }
}

/// Its revisions have passed those of its successor, so that the cursor alone does not tell.
#[test]
fn store_restored_from_a_backup_takes_no_lease_away() {
    let (mut cache, now) = (LeaseCache::default(), Instant::now());
    let first = with_epoch(snapshot("a", 5, &[lease(1), lease(2)]), "e1", None);
    assert!(cache.apply(first, now).unwrap().opened.is_some());
    assert_eq!(cache.resume(), Some("store=a&next=5&epoch=e1".to_owned()));
    let restored = with_epoch(snapshot("a", 9, &[lease(1), lease(3)]), "e2", Some(false));
    assert!(cache.apply(restored, now).unwrap().opened.is_some());
    assert_eq!(known(&cache), ["10.3.1.0-24", "10.3.2.0-24", "10.3.3.0-24"]);
    // the same opening again: a peer that it does not know has left
    let later = with_epoch(snapshot("a", 12, &[lease(3)]), "e2", Some(false));
    assert_eq!(cache.apply(later, now).unwrap().opened, None);
    assert_eq!(known(&cache), ["10.3.2.0-24", "10.3.3.0-24"]);
    // a restart without a loss
    let restarted = with_epoch(snapshot("a", 14, &[]), "e3", Some(true));
    cache.apply(restarted, now).unwrap();
    assert_eq!(
        known(&cache),
        ["10.3.2.0-24"],
        "retained until it would have ended"
    );
}

#[test]
fn partial_snapshot_changes_nothing() {
    let (mut cache, now) = started(&[lease(1)]);
    let piece = |more: bool, leases: Value| -> Line {
        let mut line = json!({"store": "a", "snapshot": leases});
        line[if more { "more" } else { "cursor" }] = if more { json!(true) } else { json!("8") };
        serde_json::from_value(line).unwrap()
    };
    let effect = cache.apply(piece(true, json!([lease(4)])), now).unwrap();
    assert_eq!(effect, Effect::default());
    assert_eq!(known(&cache), ["10.3.1.0-24"]);
    // the connection breaks: the partial snapshot is dropped
    cache.resume();
    cache.apply(piece(true, json!([lease(5)])), now).unwrap();
    let effect = cache.apply(piece(false, json!([lease(6)])), now).unwrap();
    assert!(effect.changed && effect.snapshot);
    assert_eq!(known(&cache), ["10.3.5.0-24", "10.3.6.0-24"]);
}

#[test]
fn malformed_lease_hides_no_other() {
    let bad = [
        json!(7),
        json!({"Subnet": "10.3.9.7/24"}),
        json!({"Subnet": "10.3.9.0/24", "Attrs": {"PublicIP": "x"}}),
        json!({"Subnet": "10.3.9.0/24", "Attrs": {"BackendType": []}}),
        json!({"Subnet": "10.3.9.0/24", "Attrs": "x"}),
        json!({"Subnet": "10.3.9.0/24", "Expiration": "never"}),
        json!({}),
    ];
    let mut all = vec![lease(1)];
    all.extend(bad.iter().cloned());
    all.push(lease(2));
    let (mut cache, now) = started(&all);
    assert_eq!(known(&cache), ["10.3.1.0-24", "10.3.2.0-24"]);
    // a peer that turns bad keeps what is known of it
    let broken = json!({"Subnet": "10.3.1.0/24", "Attrs": {"PublicIP": "x"}});
    assert!(
        !cache
            .apply(event("added", "", broken, 6), now)
            .unwrap()
            .changed
    );
    assert_eq!(known(&cache), ["10.3.1.0-24", "10.3.2.0-24"]);
}

#[test]
fn leases_of_a_lost_store_are_retained_until_contradicted_or_ended() {
    let (mut cache, now) = started(&[lease(1), lease(2), lease(3), lease(4)]);
    assert!(!cache.apply(snapshot("b", 0, &[]), now).unwrap().changed);
    assert_eq!(known(&cache).len(), 4);
    assert_eq!(cache.get(&"10.3.1.0-24".parse().unwrap()), None);
    // nodes register again: one the same, one with another subnet; one subnet goes to another node
    cache.apply(event("added", "", lease(1), 1), now).unwrap();
    let moved = json!({"Subnet": "10.3.20.0/24", "Attrs": {"PublicIP": "192.0.2.2"}});
    cache.apply(event("added", "", moved, 2), now).unwrap();
    let other = json!({"Subnet": "10.3.3.0/24", "Attrs": {"PublicIP": "192.0.2.99"}});
    cache.apply(event("added", "", other, 3), now).unwrap();
    assert_eq!(
        known(&cache),
        ["10.3.1.0-24", "10.3.20.0-24", "10.3.3.0-24", "10.3.4.0-24"]
    );
    // the one that never came back ends when its lease would have
    let later = now + Duration::from_secs(101);
    let heartbeat = serde_json::from_value(json!({"cursor": "3"})).unwrap();
    assert!(cache.apply(heartbeat, later).unwrap().changed);
    assert_eq!(known(&cache).len(), 3);
}

#[test]
fn old_backup_counts_as_a_lost_store() {
    let (mut cache, now) = started(&[lease(1), lease(2)]);
    let backup = snapshot("a", 3, &[lease(1)]);
    assert!(!cache.apply(backup, now).unwrap().changed);
    assert_eq!(known(&cache).len(), 2);
    // a normal snapshot removes what is gone
    let (mut cache, now) = started(&[lease(1), lease(2)]);
    assert!(
        cache
            .apply(snapshot("a", 6, &[lease(1)]), now)
            .unwrap()
            .changed
    );
    assert_eq!(known(&cache).len(), 1);
}

#[test]
fn malformed_cursor_changes_nothing() {
    let (mut cache, now) = started(&[lease(1)]);
    let mut line = snapshot("a", 6, &[]);
    line.cursor = Some("-1".into());
    assert!(cache.apply(line, now).is_err());
    assert_eq!(known(&cache), ["10.3.1.0-24"]);
}

/// A client that took it would ask for what no server understands, for ever.
#[test]
fn id_that_is_no_part_of_a_query_is_refused() {
    for id in ["", "a b", "a&watch=false", "a\n", "\u{e9}", &"a".repeat(65)] {
        let (mut cache, now) = started(&[lease(1)]);
        assert!(cache.apply(snapshot(id, 6, &[]), now).is_err(), "{id:?}");
        let epoch = with_epoch(snapshot("a", 6, &[]), id, Some(true));
        let error = cache.apply(epoch, now).unwrap_err().to_string();
        assert!(!error.contains(char::is_control), "{error:?}");
        assert_eq!(cache.resume(), Some("store=a&next=5".to_owned()));
        assert_eq!(known(&cache), ["10.3.1.0-24"]);
    }
}

#[test]
fn life_of_a_lease_has_a_bound() {
    let (mut cache, now) = started(&[lease(1)]);
    let mut line = snapshot("a", 6, &[lease(1)]);
    line.ttl = Some(u64::MAX);
    cache.apply(line, now).unwrap();
    assert_eq!(cache.ttl(), LONGEST_TTL);
    // the lease is retained for so long
    let mut other = snapshot("b", 1, &[]);
    other.ttl = None;
    cache.apply(other, now).unwrap();
    assert_eq!(known(&cache), ["10.3.1.0-24"]);
    let mut cursor = snapshot("b", 1, &[]);
    cursor.cursor = Some(u64::MAX.to_string());
    cache.apply(cursor, now).unwrap();
    assert_eq!(cache.resume(), Some(format!("store=b&next={}", u64::MAX)));
}

/// What a server sends to a watcher at that revision.
fn line_of(store: &Store, cursor: Option<u64>) -> Line {
    let (update, revision) = store.since(cursor);
    let (name, items) = match &update {
        Update::Snapshot(leases) => ("snapshot", leases.join(",")),
        Update::Events(events) => ("events", events.join(",")),
    };
    let id = store.id.as_str();
    let text = format!(r#"{{"store":"{id}","{name}":[{items}],"cursor":"{revision}"}}"#);
    go_compat::json::from_slice(text.as_bytes()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Nodes come, change and go, and a watcher looks now and then, after breaks and from scratch:
    /// it always sees the same as the store.
    #[test]
    fn cache_has_the_leases_of_the_store(steps in proptest::collection::vec((0u8..6, 0u8..10), 1..60)) {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let mut config = crate::model::network_config::NetworkConfig::parse(r#"{"Network":"10.3.0.0/18"}"#).unwrap();
        config.check_subnets().unwrap();
        let store = Store::open(&folder.path().join("s"), config).unwrap();
        let (mut cache, now) = (LeaseCache::default(), Instant::now());
        for (what, n) in steps {
            let attrs = LeaseAttrs {
                public_ip: Some([192, 0, 2, n].into()),
                backend_data: Some(json!({ "what": what })),
                ..LeaseAttrs::default()
            };
            match what {
                0..=2 => drop(store.acquire(attrs, Subnets::default(), None).unwrap()),
                3 => {
                    let held = store.leases().into_iter().find(|lease| lease.attrs.same_node(&attrs));
                    held.map(|lease| store.revoke(lease.subnets).unwrap()).unwrap_or_default();
                }
                _ => {
                    let cursor = (what == 4 && cache.is_complete()).then_some(cache.cursor);
                    cache.resume();
                    cache.apply(line_of(&store, cursor), now).unwrap();
                    let seen: Map = cache.leases().iter().map(|lease| (lease.subnets, lease.clone())).collect();
                    prop_assert_eq!(seen.len(), store.leases().len());
                    for lease in store.leases() {
                        prop_assert_eq!(&seen[&lease.subnets].attrs, &lease.attrs);
                    }
                }
            }
        }
    }

    #[test]
    fn no_line_panics(text in r#"\{("(store|snapshot|events|cursor|more|ttl)":("[0-9a-z]{0,2}"|[0-9]|\[\{"(type|lease|Subnet)":("[a-z]{0,9}"|\{\})\}\]|true),?){0,5}\}"#) {
        if let Ok(line) = go_compat::json::from_slice::<Line>(text.as_bytes()) {
            drop(LeaseCache::default().apply(line, Instant::now()));
        }
    }
}
