//! Entry points of the fuzz targets in tests/fuzz. No program calls them.

use crate::{
    bus,
    conf::Conf,
    dbus::{self, HEAD},
    record::Record,
    rule,
};
use plugin::Call;

/// A call: each rule is one line.
pub fn call(call: &Call) {
    let Ok(conf) = Conf::read(call) else { return };
    let result = call.prev_result().ok();
    let ips = result.iter().flat_map(|result| &result.ips);
    let ips: Vec<_> = ips.map(|ip| ip.address.ip()).collect();
    for rule in rule::allowing(&conf.admin_chain, &ips) {
        let text = rule.addition();
        assert!(!text.contains(['\n', '\r', '\0']), "{text:?}");
    }
    if let Some(result) = result
        && let Ok(Some(bridge)) = conf.policy.bridge(result)
    {
        assert!(rule::is_plain(bridge), "{bridge:?}");
    }
}

/// What the bus sends: a message, as far as its head says that it goes. And the address of a bus.
pub fn message(bytes: &[u8]) {
    bus::path(&String::from_utf8_lossy(bytes));
    let Some(head) = bytes.first_chunk::<HEAD>() else {
        return;
    };
    if let Ok(length) = dbus::length(head) {
        assert!((HEAD..4 << 20).contains(&length), "{length}");
        dbus::decode(bytes.get(..length).unwrap_or(bytes)).ok();
    }
}

/// The file of an attachment.
pub fn record(bytes: &[u8]) {
    if let Ok(record) = go_compat::json::from_slice::<Record>(bytes) {
        record.addresses();
        let text = go_compat::json::marshal(&record).into_bytes();
        let again = go_compat::json::from_slice::<Record>(&text);
        let again = again.ok().map(|again| again.addresses());
        assert_eq!(again, Some(record.addresses()));
    }
}
