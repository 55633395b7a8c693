//! The fuzz targets of what a lease server sends.

use super::{
    cache::LeaseCache,
    http::{ClientOptions, Http},
    wire::Line,
};
use crate::{
    model::{Subnets, lease::Lease},
    subnet::renewal::LastRenewal,
};
use hyper::{StatusCode, Uri};
use std::time::{Duration, Instant};

/// Lines of a watch, as a client takes them in: until one cannot be used. What it then asks for can
/// be asked.
pub(crate) fn watch(bytes: &[u8]) {
    let (mut cache, mut now) = (LeaseCache::default(), Instant::now());
    let renewed = LastRenewal::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(line) = go_compat::json::from_slice::<Line>(line) else {
            break;
        };
        if cache.apply(line, now).is_err() {
            break;
        }
        for lease in cache.leases().iter() {
            renewed.record(lease);
            renewed.next(&lease.subnets, cache.ttl(), Duration::from_secs(3600));
        }
        now += Duration::from_secs(10);
    }
    if let Some(query) = cache.resume() {
        let uri = format!("http://127.0.0.1:8888/v1/_/leases?watch=true&{query}");
        let parsed = uri.parse::<Uri>().ok();
        let names = parsed.as_ref().and_then(Uri::query).map(|query| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.map(|(name, _)| name).collect::<Vec<_>>()
        });
        let names = names.unwrap_or_default();
        assert!(names.starts_with(&["watch", "store", "next"]), "{uri:?}");
        assert!(names.len() <= 4, "{uri:?}");
    }
}

/// An answer. What an error says is one short line.
pub(crate) fn answer(status: StatusCode, body: &[u8]) {
    let options = ClientOptions {
        remote: "127.0.0.1:8888".to_owned(),
        tls: None,
        insecure: true,
        renew_margin: Duration::from_secs(3600),
    };
    let Ok(http) = Http::new(&options) else {
        return;
    };
    if status == StatusCode::OK {
        drop(go_compat::json::from_slice::<Lease>(body));
        return;
    }
    let error = http.refused(status, body, Subnets::default());
    let text = error.to_string();
    assert!(!text.contains(char::is_control), "{text:?}");
    assert!(text.len() < 4096, "{text}");
}
