//! Rules that the Go plugin made in the same table: one for each mapping, told apart by the container's id alone.
use crate::forward::Forward;
use packet_filter::{Installed, Statement};

/// Chains with a rule for each mapping.
const MAPPINGS: [&str; 2] = ["hostports", "hostip_hostports"];
/// The chain with up to two rules for each container.
const MASQUERADING: &str = "masquerading";

/// Is it a rule for this container?
pub(crate) fn is_of_container(rule: &Installed, container_id: &str) -> bool {
    let in_chain = MASQUERADING == rule.chain || MAPPINGS.contains(&rule.chain.as_str());
    in_chain && rule.rule.comment.as_deref() == Some(container_id)
}

/// Would it, being asked first, keep the packets for this mapping to itself?
pub(crate) fn is_in_the_way(rule: &Installed, forward: &Forward) -> bool {
    let leads = |statement: &Statement| matches!(statement, Statement::Dnat { .. });
    MAPPINGS.contains(&rule.chain.as_str())
        && rule.rule.statements.iter().any(leads)
        && covers(rule, forward)
}

/// Does it lead this mapping's packets to its container?
pub(crate) fn serves(rule: &Installed, forward: &Forward) -> bool {
    let target = Statement::Dnat {
        ip: forward.container,
        port: Some(forward.container_port),
    };
    MAPPINGS.contains(&rule.chain.as_str())
        && rule.rule.statements.contains(&target)
        && covers(rule, forward)
}

/// `[ip daddr HOST] tcp dport PORT`
fn covers(rule: &Installed, forward: &Forward) -> bool {
    let port = Statement::Dport {
        protocol: forward.protocol.number(),
        port: forward.host_port,
    };
    let statements = &rule.rule.statements;
    let address = statements.iter().find_map(|statement| match statement {
        Statement::Daddr {
            net,
            negated: false,
        } => Some(net),
        _ => None,
    });
    // one for a single address of the host goes together with one for any
    let same_address = match (address, forward.host_ip) {
        (Some(net), Some(ip)) => net.contains(ip),
        (Some(_), None) => false,
        (None, _) => true,
    };
    statements.contains(&port) && same_address
}
