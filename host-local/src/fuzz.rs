//! The entry point of the fuzz target in tests/fuzz. No program calls it.

use crate::{resolv_conf, store};

/// A file of the store, a line of its index, and resolv.conf.
pub fn files(bytes: &[u8]) {
    store::fuzz(bytes);
    resolv_conf::parse(&String::from_utf8_lossy(bytes));
}
