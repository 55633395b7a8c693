//! Whether the underlay's interface can send.

use linux_net::link::Link;

/// The state of an interface. IPv4 routes over an interface go when it goes down, without a
/// notification, and IPv6 addresses too: the program that made such routes makes them again when
/// the state changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// It is up and has a carrier.
    Up,
    /// It is up, without a carrier.
    NoCarrier,
    /// An administrator set it down.
    Down,
}

impl LinkState {
    pub(crate) fn of(link: &Link) -> LinkState {
        match (link.up, link.carrier) {
            (false, _) => LinkState::Down,
            (true, false) => LinkState::NoCarrier,
            (true, true) => LinkState::Up,
        }
    }
}
