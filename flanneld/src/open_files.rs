//! The limit on open files. The daemon raises it, and keeps a part for itself: clients of its
//! servers get the rest.

use crate::best_effort::best_effort;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What the daemon needs itself: its files, netlink sockets, the connections to its store, and the
/// admin endpoint's connections.
const RESERVED: u64 = 256;

/// Raises the limit of this process as far as its owner may: to the hard limit.
pub(crate) fn raise_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    best_effort(raised, "fewer clients are served at the same time");
}

/// How many connections of clients this process may hold, at most `wanted`.
pub(crate) fn connections(wanted: usize) -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE);
    let limit = best_effort(limit, "a small limit on open files is assumed");
    for_clients(limit.map_or(2 * RESERVED, |(soft, _)| soft), wanted)
}

/// Under a low limit a quarter of it is for clients.
pub(crate) fn for_clients(limit: u64, wanted: usize) -> usize {
    let free = limit.saturating_sub(RESERVED).max(limit / 4).max(1);
    usize::try_from(free).unwrap_or(usize::MAX).min(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_the_daemon_does_not_need() {
        for (limit, expected) in [
            (0, 1),
            (64, 16),
            (256, 64),
            (1024, 768),
            (20_000, 4096),
            (u64::MAX, 4096),
        ] {
            assert_eq!(for_clients(limit, 4096), expected, "{limit}");
        }
    }

    #[test]
    fn limit_is_raised_to_the_hard_one() {
        raise_limit();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(soft, hard);
    }
}
