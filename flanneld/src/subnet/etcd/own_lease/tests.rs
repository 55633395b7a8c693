use super::*;
use crate::subnet::etcd::{
    cache::{Change, Listing, Record, StoreRevision},
    keys::Keys,
};

const TTL: Duration = Duration::from_secs(86_400);
const MARGIN: Duration = Duration::from_secs(3600);
const WRITTEN: Written = Written {
    mod_revision: 10,
    lease_id: 5,
};
const OWN: &str = r#"{"PublicIP":"192.0.2.1"}"#;

fn own_written(written: Written) -> OwnLease {
    let lease = Lease {
        subnets: "10.3.7.0-24".parse().unwrap(),
        attrs: LeaseAttrs {
            public_ip: Some([192, 0, 2, 1].into()),
            ..LeaseAttrs::default()
        },
        expiration: None,
    };
    OwnLease::new(lease, written, Moment::now(), TTL, MARGIN)
}

fn own() -> OwnLease {
    own_written(WRITTEN)
}

fn record(value: &str, mod_revision: i64) -> Record {
    Record {
        key: b"/p/subnets/10.3.7.0-24".to_vec(),
        value: Some(value.as_bytes().to_vec()),
        mod_revision,
        lease_id: 5,
    }
}

/// What the cache shows at a revision.
fn cache(records: Vec<Record>, revision: i64) -> LeaseCache {
    let mut cache = LeaseCache::new(Keys::new("/p"), TTL);
    let store = StoreRevision {
        cluster: 1,
        revision,
    };
    cache.replace(Listing { store, records }, std::time::Instant::now());
    cache
}

#[tokio::test(start_paused = true)]
async fn renewal_is_due_before_the_margin_and_keep_alives_in_between() {
    let own = own();
    assert_eq!(own.due(), Due::Nothing);
    assert!(own.renew_at <= Instant::now() + (TTL - MARGIN));
    assert!(own.renew_at >= Instant::now() + (TTL - MARGIN).mul_f64(0.94));
    tokio::time::advance(TTL / KEEP_ALIVES).await;
    assert_eq!(own.due(), Due::KeepAlive);
    assert!(own.next_due().unwrap() <= Instant::now());
    tokio::time::advance(TTL - MARGIN).await;
    assert_eq!(own.due(), Due::Renewal);
}

#[tokio::test(start_paused = true)]
async fn reservation_is_never_renewed() {
    let own = own_written(Written {
        lease_id: 0,
        ..WRITTEN
    });
    tokio::time::advance(TTL * 2).await;
    assert_eq!((own.due(), own.next_due()), (Due::Nothing, None));
    assert_eq!((own.ttl(), own.lease.expiration), (None, None));
    let gone = cache(vec![], 20);
    assert_eq!(own.inspect(&gone), Finding::Deleted);
}

#[tokio::test(start_paused = true)]
async fn margin_that_is_longer_than_the_life_renews_at_half_of_it() {
    let lease = own().lease;
    let ttl = Duration::from_secs(60);
    let own = OwnLease::new(lease, WRITTEN, Moment::now(), ttl, MARGIN);
    assert!(own.renew_at <= Instant::now() + ttl / 2);
}

#[tokio::test(start_paused = true)]
async fn own_writes_and_events_that_are_late_are_no_change() {
    let own = own();
    assert_eq!(own.inspect(&cache(vec![], 9)), Finding::Unchanged);
    assert_eq!(
        own.inspect(&cache(vec![record("[]", 8)], 9)),
        Finding::Unchanged
    );
    assert_eq!(
        own.inspect(&cache(vec![record(OWN, 10)], 12)),
        Finding::Unchanged
    );
}

#[tokio::test(start_paused = true)]
async fn what_another_party_wrote_decides() {
    let own = own();
    let found = |value: &str| own.inspect(&cache(vec![record(value, 11)], 12));
    let rewritten = Finding::Rewritten {
        mod_revision: 11,
        lease_id: 5,
    };
    assert_eq!(found(OWN), rewritten);
    assert_eq!(
        found(r#"{"PublicIP":"192.0.2.1","BackendType":"udp"}"#),
        Finding::Overwritten
    );
    assert_eq!(found("[]"), Finding::Overwritten);
    let clone = r#"{"PublicIP":"192.0.2.1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:99"}}"#;
    assert_eq!(found(clone), Finding::Contended);
    let by = "192.0.2.9".to_owned();
    assert_eq!(found(r#"{"PublicIP":"192.0.2.9"}"#), Finding::Taken { by });
    // the last lease that was read is not what is there
    let mut cache = cache(vec![record(OWN, 10)], 12);
    cache.apply(Change::Put(record("[]", 13)), std::time::Instant::now());
    assert_eq!(own.inspect(&cache), Finding::Overwritten);
}

#[tokio::test(start_paused = true)]
async fn missing_key_is_a_revocation_unless_the_lease_may_have_ended() {
    let gone = cache(vec![], 12);
    let mut own = own();
    assert_eq!(own.inspect(&gone), Finding::Deleted);
    tokio::time::advance(TTL / 2).await;
    assert_eq!(own.inspect(&gone), Finding::Deleted);
    tokio::time::advance(TTL / 2).await;
    assert_eq!(own.inspect(&gone), Finding::Ended);
    own.kept_alive(Moment::now());
    assert_eq!(own.inspect(&gone), Finding::Deleted);
    own.store_lost();
    assert_eq!(own.inspect(&cache(vec![], 3)), Finding::Ended);
}

/// A suspended machine: the wall clock goes on, the monotonic one does not.
#[tokio::test(start_paused = true)]
async fn either_clock_shows_that_a_lease_may_have_ended() {
    let mut own = own();
    own.alive.wall -= TTL;
    assert_eq!(own.inspect(&cache(vec![], 12)), Finding::Ended);
    // a wall clock that is set back says nothing
    own.alive.wall = SystemTime::now() + TTL;
    assert_eq!(own.inspect(&cache(vec![], 12)), Finding::Deleted);
    assert_eq!(own.due(), Due::Nothing);
}

/// The later one of two nodes with one public IP does not answer the first one.
#[tokio::test(start_paused = true)]
async fn lease_of_a_node_that_runs_is_left_to_it() {
    let mut own = own();
    own.leave_to_holder();
    assert!(!own.may_rewrite());
    tokio::time::advance(REWRITE_INTERVAL).await;
    assert!(own.may_rewrite(), "the first one may have ended since");
}

#[tokio::test(start_paused = true)]
async fn answers_to_another_writer_are_a_minute_apart() {
    let mut own = own();
    assert!(own.may_rewrite());
    assert!(!own.may_rewrite());
    assert_eq!(own.next_due(), Some(Instant::now() + REWRITE_INTERVAL));
    tokio::time::advance(REWRITE_INTERVAL).await;
    assert!(own.may_rewrite());
    assert!(own.next_due().unwrap() > Instant::now() + REWRITE_INTERVAL);
    own.rewrite_later();
    assert_eq!(own.next_due(), Some(Instant::now() + REWRITE_INTERVAL));
    own.rewritten(11, 7);
    assert_eq!(own.due(), Due::Nothing);
    tokio::time::advance(REWRITE_INTERVAL).await;
    assert_eq!(own.due(), Due::Renewal);
}
