//! The fuzz targets of what is in etcd, and of its refusals.

use super::{
    cache::{Change, LeaseCache, Listing, Record, StoreRevision},
    error::Reason,
    keys::{self, Keys},
};
use crate::subnet::TTL;
use std::time::{Duration, Instant};

const PREFIX: &str = "/coreos.com/network";

/// Keys and values, a line each, with a tab between them: as a listing, as events, and as a listing
/// of another store. What can be read is written as the same key and value.
pub(crate) fn leases(bytes: &[u8]) {
    let keys = Keys::new(PREFIX);
    let lines = bytes.split(|byte| *byte == b'\n');
    let records = lines.zip(1..).map(|(line, revision)| {
        let at = line.iter().position(|byte| *byte == b'\t');
        let (key, value) = line.split_at(at.unwrap_or(line.len()));
        Record {
            key: key.to_vec(),
            value: Some(value.get(1..).unwrap_or_default().to_vec()),
            mod_revision: revision,
            lease_id: revision % 2,
        }
    });
    let records: Vec<_> = records.collect();
    for record in &records {
        round_trip(&keys, record);
    }
    let listing = |cluster, records| Listing {
        store: StoreRevision {
            cluster,
            revision: 1000,
        },
        records,
    };
    let mut now = Instant::now();
    let mut cache = LeaseCache::new(keys, TTL);
    cache.replace(listing(1, records.clone()), now);
    let listed = cache.leases();
    for record in records {
        let (key, revision) = (record.key.clone(), record.mod_revision + 1000);
        let changed = Record {
            mod_revision: revision,
            ..record
        };
        cache.apply(Change::Put(changed), now);
        if revision % 3 == 0 {
            let mod_revision = revision + 1;
            cache.apply(Change::Delete { key, mod_revision }, now);
        }
        now += Duration::from_secs(3600);
    }
    assert!(cache.leases().len() <= listed.len(), "no key was added");
    let known = cache.leases().len();
    cache.replace(listing(2, Vec::new()), now);
    assert_eq!(
        cache.leases().len(),
        known,
        "a lost store withdraws nothing"
    );
    cache.replace(listing(2, Vec::new()), now + TTL + TTL);
    assert_eq!(cache.leases().len(), 0, "until the leases would have ended");
}

/// A refusal: the code of gRPC and its text, which is logged as one short line.
pub(crate) fn answer(code: u16, text: &str) {
    let status = tonic::Status::new(tonic::Code::from_i32(code.into()), text);
    let reason = Reason::from(etcd_client::Error::from(status));
    reason.kind();
    let text = reason.to_string();
    assert!(!text.contains(char::is_control), "{text:?}");
    assert!(text.len() < 4096, "{text}");
}

fn round_trip(keys: &Keys, record: &Record) {
    let shown = keys::shown(&record.key);
    assert!(!shown.contains(char::is_control), "{shown:?}");
    if let Ok(subnets) = keys.parse(&record.key) {
        let again = keys.parse(keys.subnet(&subnets).as_bytes());
        assert_eq!(again.ok(), Some(subnets), "{shown}");
    }
    let value = record.value.as_deref().unwrap_or_default();
    if let Ok(attrs) = keys::parse_value(value) {
        let text = serde_json::to_vec(&attrs).unwrap_or_default();
        let again = keys::parse_value(&text);
        assert_eq!(again.ok(), Some(attrs), "{}", value.escape_ascii());
    }
}
