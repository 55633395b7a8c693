//! nftables by netlink: `nft` is the judge of what we write, and what we read back must be what we wrote.

mod fixtures;
mod sets;
mod shapes;
mod tables;

use tests::{Case, case};

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("packet_filter/flannel-table", tables::flannel_table),
        case("packet_filter/shapes-as-nft-writes-them", shapes::shapes),
        case("packet_filter/reads-what-nft-wrote", shapes::reads_nft),
        case("packet_filter/sets-and-maps", sets::sets),
        case("packet_filter/all-or-nothing", tables::all_or_nothing),
        case("packet_filter/foreign-tables-stay", tables::foreign),
        case("packet_filter/monitor", tables::monitor),
        case("packet_filter/large-transaction", sets::large),
    ]
}
