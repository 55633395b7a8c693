//! Entry points of the fuzz targets in tests/fuzz. No program calls them.

use crate::{Desired, comment, conditional, iptables_rules, layout::Layout, mappings::Mappings};
use packet_filter::{COMMENT_MAX, Saved};
use plugin::Call;
use std::collections::BTreeSet;

/// A call: each rule is one line for iptables-restore, and mappings are found again in the rules
/// that are made of them.
pub fn call(call: &Call) {
    assert!(comment::comment(&call.attachment()).len() <= COMMENT_MAX);
    let Ok(desired) = Desired::read(call) else {
        return;
    };
    for address in &desired.addresses {
        let Desired {
            conf,
            owner,
            container,
            ..
        } = &desired;
        let mappings = Mappings::new(owner, conf, *address, container);
        if mappings.forwards.is_empty() {
            continue;
        }
        let lines = iptables_rules::additions(&mappings, &Saved::default()).unwrap_or_default();
        assert!(!lines.is_empty(), "an empty table has no other owner");
        for line in &lines {
            assert!(!line.contains(['\n', '\r', '\0']), "{line:?}");
        }
        let script = conditional::script(&mappings);
        assert_eq!(script.lines().count(), mappings.forwards.len(), "{script}");
        let saved = saved(&lines);
        assert_eq!(iptables_rules::missing(&mappings, &saved), None);
        let chains = BTreeSet::from(iptables_rules::chains_of(owner));
        let found = iptables_rules::forwards(&saved, &chains);
        assert_eq!(found, mappings.forwards, "{lines:?}");
        Layout::new(mappings.ipv6()).subnet_rule(address.prefix());
    }
}

/// The table after these lines, without the order of its rules.
fn saved(lines: &[String]) -> Saved {
    let rest = |prefix: &'static str| lines.iter().filter_map(move |l| l.strip_prefix(prefix));
    let rules = rest("-A ").chain(rest("-I "));
    Saved {
        chains: rest("-N ").map(str::to_owned).collect(),
        rules: rules.map(|rule| format!("-A {rule}")).collect(),
    }
}

/// What iptables-save prints: the owners of the chains in it.
pub fn saved_table(bytes: &[u8]) {
    let saved = packet_filter::fuzz::parse(bytes);
    for chain in iptables_rules::chains_of_network(&saved, "cbr0") {
        let chains = BTreeSet::from([chain.to_owned()]);
        iptables_rules::forwards(&saved, &chains);
        for line in iptables_rules::removals(&saved, &chains) {
            assert!(line.starts_with("-D ") || line.starts_with("-F ") || line.starts_with("-X "));
        }
    }
}
