//! The fuzz target of what a lease server sends.

use super::{cache::LeaseCache, wire::Line};
use crate::subnet::renewal::LastRenewal;
use std::time::{Duration, Instant};

/// Lines of a watch, as a client takes them in: until one cannot be used.
pub(crate) fn watch(bytes: &[u8]) {
    let (mut cache, mut now) = (LeaseCache::default(), Instant::now());
    let renewed = LastRenewal::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(line) = go_compat::json::from_slice::<Line>(line) else {
            return;
        };
        if cache.apply(line, now).is_err() {
            return;
        }
        for lease in cache.leases().iter() {
            renewed.record(lease);
            renewed.next(&lease.subnets, cache.ttl(), Duration::from_secs(3600));
        }
        now += Duration::from_secs(10);
    }
    cache.resume();
}
