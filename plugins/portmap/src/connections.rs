//! UDP has no connections, but the kernel remembers where it translated a flow to for as long as packets come. A sender that
//! does not pause would go on to reach the pod before, or none.
use crate::forward::{Forward, Protocol};
use packet_filter::{Connection, Conntrack};

/// New mappings: flows to their host ports are translated anew, whoever they went to.
pub(crate) fn of_ports_end(new: &[Forward]) {
    end(new, |forward, connection| {
        connection.destination_port == forward.host_port
    });
}

/// Mappings that are gone: flows that they led to the container end.
pub(crate) fn of_container_end(gone: &[Forward]) {
    end(gone, |forward, connection| {
        connection.destination_port == forward.host_port
            && connection.answered_by == forward.container
    });
}

/// A failure is told and fails nothing, as upstream.
fn end(forwards: &[Forward], which: impl Fn(&Forward, &Connection) -> bool) {
    for ipv6 in [false, true] {
        let udp: Vec<_> = forwards
            .iter()
            .filter(|forward| {
                forward.protocol == Protocol::Udp && forward.container.is_ipv6() == ipv6
            })
            .collect();
        if udp.is_empty() {
            continue;
        }
        let ended = Conntrack::open().and_then(|mut conntrack| {
            conntrack.forget(ipv6, |connection| {
                connection.protocol == Protocol::Udp.number()
                    && udp.iter().any(|forward| which(forward, connection))
            })
        });
        if let Err(error) = ended {
            plugin::warn(format_args!(
                "failed to delete UDP conntrack entries for port mappings: {error}"
            ));
        }
    }
}
