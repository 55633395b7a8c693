//! UDP flows in conntrack. The kernel translates a flow as it did the first packet for as long as
//! packets come, so a sender that does not pause keeps the previous translation. Changed mappings
//! therefore delete the flows that they affect.

use crate::forward::{Forward, Protocol};
use packet_filter::{Connection, Conntrack};

/// Deletes the flows to the host ports of new mappings, whatever their destination was.
pub(crate) fn delete_to_host_ports(added: &[Forward]) {
    delete(added, |forward, connection| {
        connection.destination_port == forward.host_port
    });
}

/// Deletes the flows that removed mappings translated to the container.
pub(crate) fn delete_to_container(removed: &[Forward]) {
    delete(removed, |forward, connection| {
        connection.destination_port == forward.host_port
            && connection.answered_by == forward.container
    });
}

/// A failure is a warning, as upstream.
fn delete(forwards: &[Forward], matches: impl Fn(&Forward, &Connection) -> bool) {
    for ipv6 in [false, true] {
        let is_udp = |forward: &&Forward| {
            forward.protocol == Protocol::Udp && forward.container.is_ipv6() == ipv6
        };
        let udp: Vec<_> = forwards.iter().filter(is_udp).collect();
        if udp.is_empty() {
            continue;
        }
        let deleted = Conntrack::open().and_then(|mut conntrack| {
            conntrack.forget(ipv6, |connection| {
                connection.protocol == Protocol::Udp as u8
                    && udp.iter().any(|forward| matches(forward, connection))
            })
        });
        if let Err(error) = deleted {
            plugin::warn(format_args!(
                "failed to delete UDP conntrack entries for port mappings: {error}"
            ));
        }
    }
}
