//! The entry point of the fuzz target in tests/fuzz. No program calls it.

use crate::conf::Bandwidth;
use plugin::Call;

/// A call: a bucket lasts no longer than a counter of the kernel.
pub fn call(call: &Call) {
    if let Ok(bandwidth) = Bandwidth::read(call.document()) {
        for bucket in [&bandwidth.ingress, &bandwidth.egress]
            .into_iter()
            .flatten()
        {
            assert!(bucket.rate <= u64::MAX / 8, "{bucket:?} in bytes");
            assert!(!bandwidth.is_unlimited());
        }
    }
}
