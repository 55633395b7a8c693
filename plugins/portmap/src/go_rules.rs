//! Rules that the Go plugin made in the same table: one for each mapping. Their comment is the
//! container's id alone.

use crate::forward::Forward;
use packet_filter::{Installed, Statement};

/// Chains with a rule for each mapping.
const MAPPINGS: [&str; 2] = ["hostports", "hostip_hostports"];
/// The chain with up to two rules for each container.
const MASQUERADING: &str = "masquerading";

pub(crate) fn is_of_container(rule: &Installed, container_id: &str) -> bool {
    let in_chain = MASQUERADING == rule.chain || MAPPINGS.contains(&rule.chain.as_str());
    in_chain && rule.rule.comment.as_deref() == Some(container_id)
}

/// True if the rule translates packets of this mapping before our maps are looked up.
pub(crate) fn shadows(rule: &Installed, forward: &Forward) -> bool {
    MAPPINGS.contains(&rule.chain.as_str())
        && rule.rule.is_dnat()
        && matches_host_side(rule, forward)
}

/// True if the rule translates packets of this mapping to its container.
pub(crate) fn serves(rule: &Installed, forward: &Forward) -> bool {
    let dnat = Statement::Dnat {
        ip: forward.container,
        port: Some(forward.container_port),
    };
    MAPPINGS.contains(&rule.chain.as_str())
        && rule.rule.contains(&dnat)
        && matches_host_side(rule, forward)
}

/// `[ip daddr HOST] tcp dport PORT`
fn matches_host_side(rule: &Installed, forward: &Forward) -> bool {
    let port = Statement::Dport {
        protocol: forward.protocol as u8,
        port: forward.host_port,
    };
    // a rule for one host address does not conflict with a mapping for all of them
    let same_address = match forward.host_ip {
        _ if !rule.rule.matches_destination() => true,
        Some(ip) => rule.rule.contains(&Statement::Daddr {
            net: ip.into(),
            negated: false,
        }),
        None => false,
    };
    rule.rule.contains(&port) && same_address
}
