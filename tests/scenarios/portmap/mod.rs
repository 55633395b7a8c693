//! portmap: real traffic through host ports, and what is left when something went wrong.

mod cleaning;
mod iptables;
mod nftables;
mod stage;
mod traffic;

use tests::Case;

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = traffic::cases();
    cases.extend(nftables::cases());
    cases.extend(iptables::cases());
    cases.extend(cleaning::cases());
    cases
}
