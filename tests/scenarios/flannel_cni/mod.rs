//! The `flannel` plugin: subnet.env in every state, delegates of every kind, and what the state
//! files are good for.

mod chain;
mod delegates;
mod leases;
mod node;
mod remains;

use tests::Case;

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = chain::cases();
    cases.extend(leases::cases());
    cases.extend(delegates::cases());
    cases.extend(remains::cases());
    cases
}
