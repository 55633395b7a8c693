//! The `bridge` plugin with `host-local`, executed as a runtime does.

mod basic;
mod cost;
mod node;
mod ours;
mod rules;
mod undo;
mod verbs;
mod vlans;

use tests::Case;

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = basic::cases();
    cases.extend(cost::cases());
    cases.extend(ours::cases());
    cases.extend(rules::cases());
    cases.extend(undo::cases());
    cases.extend(verbs::cases());
    cases.extend(vlans::cases());
    cases
}
