//! Which process holds each lease, and which processes are connected. Two nodes with one public IP
//! (a cloned configuration) are one node to the store: the second is refused while the first one is
//! connected. In memory only: after a restart of the server, a node that renews says again what it
//! holds.

use crate::{best_effort::best_effort, model::Subnets};
use std::collections::BTreeMap;

/// Longest name of a session, bytes.
const MAX_NAME: usize = 64;

/// A random name for a process that holds a lease; None if the system has no random numbers.
pub(in super::super) fn random_session() -> Option<String> {
    let number = best_effort(getrandom::u64(), "another node is not told from this one");
    number.map(|number| format!("{number:016x}"))
}

/// The processes.
#[derive(Debug, Default)]
pub(super) struct Holders {
    /// Sessions with the number of their open watches.
    connected: BTreeMap<String, usize>,
    /// The session that acquired or renewed the lease last.
    holders: BTreeMap<Subnets, String>,
}

impl Holders {
    pub(super) fn connect(&mut self, session: &str) {
        if session.len() <= MAX_NAME {
            *self.connected.entry(session.to_owned()).or_default() += 1;
        }
    }

    pub(super) fn disconnect(&mut self, session: &str) {
        if let Some(count) = self.connected.get_mut(session) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.connected.remove(session);
            }
        }
    }

    /// True if a connected process other than this one holds the lease.
    pub(super) fn is_held_by_another(&self, key: &Subnets, session: Option<&str>) -> bool {
        let holder = self.holders.get(key).map(String::as_str);
        holder != session && holder.is_some_and(|holder| self.connected.contains_key(holder))
    }

    /// The lease was granted to the process, or renewed by it.
    pub(super) fn hold(&mut self, key: Subnets, session: Option<&str>) {
        match session.filter(|session| session.len() <= MAX_NAME) {
            Some(session) => self.holders.insert(key, session.to_owned()),
            None => self.holders.remove(&key),
        };
    }

    /// Forgets what is held of leases that have ended, once they are as many as those that have
    /// not.
    pub(super) fn prune(&mut self, leases: usize, is_lease: impl Fn(&Subnets) -> bool) {
        if self.holders.len() > 2 * leases + MAX_NAME {
            self.holders.retain(|key, _| is_lease(key));
        }
    }
}
