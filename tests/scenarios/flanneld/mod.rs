//! flanneld on hosts in namespaces: what it makes, what it repairs, what it leaves alone.

mod cluster;
mod garbage;
mod join;
mod lifecycle;
mod repair;
mod scale;
mod start;

use tests::Case;

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(garbage::cases());
    cases.extend(join::cases());
    cases.extend(lifecycle::cases());
    cases.extend(repair::cases());
    cases.extend(scale::cases());
    cases.extend(start::cases());
    cases
}
