//! The allocator with a store in memory.

use super::*;
use crate::range_set::tests::set;
use std::collections::BTreeMap;

#[derive(Default)]
struct Memory {
    taken: BTreeMap<IpAddr, &'static str>,
    last: BTreeMap<usize, IpAddr>,
    caller: &'static str,
    /// Owners whose containers are gone.
    dead: Vec<&'static str>,
    tries: usize,
}

impl Store for Memory {
    fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        self.last.get(&set).copied()
    }
    fn set_last_reserved(&mut self, set: usize, ip: IpAddr) {
        self.last.insert(set, ip);
    }
    fn reserve(&mut self, ip: IpAddr) -> Result<bool, FileError> {
        self.tries += 1;
        let free = !self.taken.contains_key(&ip);
        self.taken.entry(ip).or_insert(self.caller);
        Ok(free)
    }
    fn release(&mut self, ip: IpAddr) {
        self.taken.remove(&ip);
    }
    fn held(&mut self) -> Result<Vec<Held>, FileError> {
        let own = self
            .taken
            .iter()
            .filter(|(_, owner)| **owner == self.caller);
        Ok(own
            .map(|(ip, _)| Held {
                ip: *ip,
                exact: true,
            })
            .collect())
    }
    fn taken(&self) -> Result<HashSet<IpAddr>, FileError> {
        Ok(self.taken.keys().copied().collect())
    }
    fn reclaim(&mut self, wanted: &dyn Fn(IpAddr) -> bool) -> Result<bool, FileError> {
        let before = self.taken.len();
        self.taken
            .retain(|ip, owner| !wanted(*ip) || !self.dead.contains(owner));
        Ok(self.taken.len() < before)
    }
}

impl Memory {
    fn add(
        &mut self,
        caller: &'static str,
        sets: &[&[&str]],
        requested: &[&str],
        live: bool,
    ) -> Result<Vec<String>, String> {
        self.caller = caller;
        let sets: Vec<_> = sets.iter().map(|ranges| set(ranges).unwrap()).collect();
        let requested: Vec<_> = requested.iter().map(|ip| ip.parse().unwrap()).collect();
        allocate(self, &sets, &requested, caller, &|_| live)
            .map(|all| {
                all.iter()
                    .map(|allocated| allocated.address.to_string())
                    .collect()
            })
            .map_err(|error| error.to_string())
    }
}

const SMALL: &[&str] = &["10.0.0.0/29"];

#[test]
fn addresses_are_allocated_round_robin() {
    let mut store = Memory::default();
    for (caller, ip) in [("a", 2), ("b", 3), ("c", 4)] {
        assert_eq!(
            store.add(caller, &[SMALL], &[], true).unwrap(),
            [format!("10.0.0.{ip}/29")]
        );
    }
    store.taken.remove(&"10.0.0.2".parse().unwrap());
    for (caller, ip) in [("d", 5), ("e", 6), ("f", 2)] {
        assert_eq!(
            store.add(caller, &[SMALL], &[], true).unwrap(),
            [format!("10.0.0.{ip}/29")]
        );
    }
    assert_eq!(
        store.add("g", &[SMALL], &[], true).unwrap_err(),
        "failed to allocate for range 0: no IP addresses available in range set: 10.0.0.1-10.0.0.6"
    );
}

#[test]
fn failed_set_releases_the_addresses_of_the_others() {
    let mut store = Memory::default();
    let sets: &[&[&str]] = &[SMALL, &["fd00::/64"]];
    assert_eq!(
        store.add("a", sets, &[], true).unwrap(),
        ["10.0.0.2/29", "fd00::2/64"]
    );
    let full: &[&[&str]] = &[&["fd00::/64"], &["10.9.0.0/30 10.9.0.1 10.9.0.1"]];
    assert_eq!(
        store.add("b", full, &[], true).unwrap_err(),
        "failed to allocate for range 1: no IP addresses available in range set: 10.9.0.1-10.9.0.1"
    );
    assert_eq!(
        store.taken.len(),
        2,
        "the reservation of the first set is released"
    );
}

#[test]
fn requested_address_is_allocated_or_refused_with_upstreams_message() {
    let mut store = Memory::default();
    let sets: &[&[&str]] = &[SMALL, &["fd00::/64"]];
    assert_eq!(
        store
            .add("a", sets, &["fd00::9", "10.0.0.6"], true)
            .unwrap(),
        ["10.0.0.6/29", "fd00::9/64"]
    );
    for (caller, requested, message) in [
        (
            "b",
            &["10.0.0.1"][..],
            "failed to allocate for range 0: requested ip 10.0.0.1 is subnet's gateway",
        ),
        (
            "c",
            &["10.0.0.6"],
            "failed to allocate for range 0: requested IP address 10.0.0.6 is not available in range set 10.0.0.1-10.0.0.6",
        ),
        (
            "d",
            &["10.7.0.1", "10.0.0.4", "10.8.0.1"],
            "failed to allocate all requested IPs: 10.7.0.1 10.8.0.1",
        ),
    ] {
        assert_eq!(
            store.add(caller, sets, requested, true).unwrap_err(),
            message
        );
    }
    assert_eq!(store.taken.len(), 2);
}

#[test]
fn second_add_is_refused_while_an_interface_has_the_address() {
    let mut store = Memory::default();
    store.add("a", &[SMALL], &[], true).unwrap();
    assert_eq!(
        store.add("a", &[SMALL], &[], true).unwrap_err(),
        "failed to allocate for range 0: 10.0.0.2 has been allocated to a, duplicate allocation is not allowed"
    );
    assert_eq!(
        store.add("a", &[SMALL], &[], false).unwrap(),
        ["10.0.0.2/29"]
    );
    assert_eq!(
        store.add("a", &[SMALL], &["10.0.0.2"], false).unwrap(),
        ["10.0.0.2/29"]
    );
    assert!(store.add("a", &[SMALL], &["10.0.0.2"], true).is_err());
    // a failed ADD does not release older reservations
    let full: &[&[&str]] = &[SMALL, &["10.9.0.0/30 10.9.0.1 10.9.0.1"]];
    store.add("a", full, &[], false).unwrap_err();
    assert_eq!(store.taken.len(), 1);
}

#[test]
fn abandoned_addresses_are_reclaimed_only_if_no_other_is_free() {
    let mut store = Memory {
        dead: vec!["a"],
        ..Memory::default()
    };
    for caller in ["a", "b", "c", "d", "e"] {
        store.add(caller, &[SMALL], &[], true).unwrap();
    }
    assert_eq!(store.taken.len(), 5);
    assert_eq!(
        store.add("f", &[SMALL], &[], true).unwrap(),
        ["10.0.0.2/29"]
    );
    assert!(store.add("g", &[SMALL], &[], true).is_err());
    store.dead = vec!["b"];
    assert!(
        store.add("h", &[SMALL], &["10.0.0.4"], true).is_err(),
        "c is alive"
    );
    assert_eq!(
        store.add("h", &[SMALL], &["10.0.0.3"], true).unwrap(),
        ["10.0.0.3/29"]
    );
}

#[test]
fn reserved_addresses_are_listed_once_after_the_first_probes() {
    let mut store = Memory {
        caller: "old",
        ..Memory::default()
    };
    let large: &[&str] = &["10.0.0.0/16"];
    let all = set(large).unwrap();
    for (ip, _) in all.candidates(None).take(60_000) {
        store.taken.insert(ip, "old");
    }
    assert_eq!(
        store.add("new", &[large], &[], true).unwrap(),
        ["10.0.234.98/16"]
    );
    assert!(store.tries <= MAX_PROBES + 1, "{}", store.tries);
    assert!(has_free(&store, 0, &all, &|ip| store.taken.contains_key(&ip)).unwrap());
}
