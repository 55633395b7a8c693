//! portmap: real traffic through host ports, and what is left when something went wrong.

mod cleaning;
mod nftables;
mod stage;

use tests::Case;

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = nftables::cases();
    cases.extend(cleaning::cases());
    cases
}
