//! Which process holds each lease, and which processes are connected.
//!
//! Two nodes with one public IP (a cloned configuration) are one node to the store: the second is
//! refused while the first one is connected. A node that was not connected for a while is gone:
//! another one may have its public IP.
//!
//! In memory only: after a restart of the server, a node that renews says again what it holds.

use crate::{best_effort::best_effort, model::Subnets};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// Longest name of a session, bytes.
const MAX_NAME: usize = 64;

/// A random name for a process that holds a lease; None if the system has no random numbers.
pub(in super::super) fn random_session() -> Option<String> {
    let number = best_effort(getrandom::u64(), "another node is not told from this one");
    number.map(|number| format!("{number:016x}"))
}

/// The processes.
#[derive(Debug)]
pub(super) struct Holders {
    /// Nothing is known of the time before.
    opened: Instant,
    sessions: BTreeMap<String, Session>,
    holders: BTreeMap<Subnets, Holder>,
}

/// A process.
#[derive(Debug)]
struct Session {
    /// The number of its open watches.
    watches: usize,
    /// When it last opened or ended one.
    seen: Instant,
}

/// The process that acquired or renewed a lease last.
#[derive(Debug)]
struct Holder {
    /// None: it does not say which one it is.
    session: Option<String>,
    renewed: Instant,
}

impl Holders {
    pub(super) fn new(opened: Instant) -> Holders {
        Holders {
            opened,
            sessions: BTreeMap::new(),
            holders: BTreeMap::new(),
        }
    }

    pub(super) fn connect(&mut self, name: &str, now: Instant) {
        if name.len() > MAX_NAME {
            return;
        }
        let session = Session {
            watches: 0,
            seen: now,
        };
        let session = self.sessions.entry(name.to_owned()).or_insert(session);
        session.watches += 1;
        session.seen = now;
    }

    pub(super) fn disconnect(&mut self, name: &str, now: Instant) {
        if let Some(session) = self.sessions.get_mut(name) {
            session.watches = session.watches.saturating_sub(1);
            session.seen = now;
        }
        let connected = self.sessions.values().filter(|known| known.watches > 0);
        // few are not connected and hold nothing
        if self.sessions.len() > 2 * self.holders.len() + MAX_NAME
            && self.sessions.len() > 2 * connected.count()
        {
            let holders = self.holders.values();
            let holding: BTreeSet<_> = holders
                .filter_map(|holder| holder.session.as_ref())
                .collect();
            self.sessions
                .retain(|name, session| session.watches > 0 || holding.contains(name));
        }
    }

    fn is_connected(&self, session: &str) -> bool {
        let session = self.sessions.get(session);
        session.is_some_and(|session| session.watches > 0)
    }

    /// True if a connected process other than this one holds the lease.
    pub(super) fn is_held_by_another(&self, key: &Subnets, session: Option<&str>) -> bool {
        let holder = self.holders.get(key);
        let holder = holder.and_then(|holder| holder.session.as_deref());
        holder != session && holder.is_some_and(|holder| self.is_connected(holder))
    }

    /// True if the process that holds the lease has neither been connected nor renewed it for so
    /// long. One that does not say which process it is never counts as gone.
    pub(super) fn is_gone(&self, key: &Subnets, since: Duration, now: Instant) -> bool {
        let seen = match self.holders.get(key) {
            None => self.opened,
            Some(Holder { session: None, .. }) => return false,
            Some(Holder {
                session: Some(session),
                renewed,
            }) => match self.sessions.get(session) {
                Some(session) if session.watches > 0 => return false,
                Some(session) => session.seen.max(*renewed),
                None => *renewed,
            },
        };
        now.saturating_duration_since(seen) >= since
    }

    /// The lease was granted to the process, or renewed by it.
    pub(super) fn hold(&mut self, key: Subnets, session: Option<&str>, now: Instant) {
        let session = session.filter(|session| session.len() <= MAX_NAME);
        let holder = Holder {
            session: session.map(str::to_owned),
            renewed: now,
        };
        self.holders.insert(key, holder);
    }

    /// Forgets what is held of leases that have ended, once they are as many as those that have
    /// not.
    pub(super) fn prune(&mut self, leases: usize, is_lease: impl Fn(&Subnets) -> bool) {
        if self.holders.len() > 2 * leases + MAX_NAME {
            self.holders.retain(|key, _| is_lease(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(900);

    fn key(n: u8) -> Subnets {
        format!("10.3.{n}.0-24").parse().unwrap()
    }

    #[test]
    fn node_is_gone_when_it_was_not_connected_for_long() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut holders = Holders::new(start);
        let gone = |holders: &Holders, seconds| holders.is_gone(&key(1), LONG, at(seconds));
        // before a node has said what it holds
        assert!(!gone(&holders, 899) && gone(&holders, 900));
        holders.connect("a", at(10));
        holders.hold(key(1), Some("a"), at(20));
        assert!(!gone(&holders, 1_000_000));
        assert!(!holders.is_gone(&key(1), LONG, start), "an earlier moment");
        // the second watch of a process that has lost its first one
        holders.connect("a", at(30));
        holders.disconnect("a", at(40));
        assert!(!gone(&holders, 1_000_000));
        holders.disconnect("a", at(1000));
        assert!(!gone(&holders, 1899) && gone(&holders, 1900));
        // a moment's connection is a sign of life
        holders.connect("a", at(1899));
        holders.disconnect("a", at(1900));
        assert!(!gone(&holders, 2799) && gone(&holders, 2800));
        holders.hold(key(1), Some("a"), at(2800));
        assert!(!gone(&holders, 3699) && gone(&holders, 3700));
        holders.hold(key(1), None, at(3700));
        assert!(!gone(&holders, 1_000_000), "cannot be told");
    }

    #[test]
    fn sessions_of_strangers_are_forgotten() {
        let now = Instant::now();
        let mut holders = Holders::new(now);
        holders.connect("held", now);
        holders.hold(key(1), Some("held"), now);
        holders.disconnect("held", now);
        for number in 0..1000 {
            holders.connect(&number.to_string(), now);
            holders.disconnect(&number.to_string(), now);
        }
        assert!(holders.sessions.len() < 100, "{}", holders.sessions.len());
        assert!(holders.sessions.contains_key("held"));
        holders.connect(&"x".repeat(100), now);
        assert!(!holders.is_connected(&"x".repeat(100)));
    }
}
