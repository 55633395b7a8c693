//! Entry points of the fuzz targets in tests/fuzz. No program calls them.

use crate::{config, resolv_conf, store};
use plugin::Call;

/// A file of the store, a line of its index, and resolv.conf.
pub fn files(bytes: &[u8]) {
    store::fuzz(bytes);
    resolv_conf::parse(&String::from_utf8_lossy(bytes));
}

/// A call. Addresses that can be allocated are in their range and are not the gateway, after any
/// last one; DEL finds the folders in whatever it is given.
pub fn call(call: &Call) {
    let folders = config::folders(call);
    if plugin::fuzz::is_del(call) {
        assert!(folders.is_ok(), "DEL reads only dataDir");
        return;
    }
    let Ok(config) = config::load(call) else {
        return;
    };
    for set in &config.sets {
        let first = set.candidates(None).next().map(|(ip, _)| ip);
        for last in [None, first, config.requested.first().copied()] {
            for (ip, range) in set.candidates(last).take(20) {
                assert!(range.contains(ip) && ip != range.gateway, "{ip} of {range}");
                assert!(range.with_prefix(ip).prefix() == range.subnet.prefix());
            }
        }
    }
}
