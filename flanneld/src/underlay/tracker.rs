//! Tracks the underlay while the daemon runs. A chosen interface stays chosen as long as it has its
//! addresses: a VPN that takes the default route, or a second address, must not give a node another
//! public IP. The tracker selects again only after the interface or an address has been missing for
//! `REPLACEMENT_DELAY`, and goes back when the replaced underlay returns. A link-local address,
//! which is all that an interface has for a while after it went down and up, never replaces a
//! global one, and is itself replaced as soon as there is a global one.

use super::{
    LinkState, Obstacle, addresses::is_link_local, error::Error, host_network::HostNetwork,
    select::select, selected::Underlay, selector::Selector,
};
use crate::best_effort::best_effort;
use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

/// How long an address may be missing (a DHCP client or the network service restarts) before
/// another one replaces it.
const REPLACEMENT_DELAY: Duration = Duration::from_secs(5);

/// Why it does no harm that no other underlay is found.
const AWAITED: &str = "the underlay in use may return";

/// The underlay in use.
#[derive(Debug)]
pub(crate) struct Tracker {
    /// as it was when its interface and addresses were last present
    pub(crate) current: Underlay,
    /// the first one that was replaced because it was missing
    replaced: Option<Underlay>,
    missing: Option<Missing>,
    link_state: LinkState,
}

#[derive(Debug)]
struct Missing {
    since: Instant,
    what: Obstacle,
}

/// How the underlay compares with the previous update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Observation {
    Unchanged,
    /// It returned, its interface has another index, MTU or state, or another underlay replaced it.
    Changed,
    /// Its interface or an address is missing. The data path stays as it is.
    Missing {
        /// the previous update still saw it
        first: bool,
        /// when another underlay may replace it
        until: Instant,
    },
}

impl Tracker {
    pub(crate) fn new(current: Underlay) -> Tracker {
        Tracker {
            current,
            replaced: None,
            missing: None,
            link_state: LinkState::Up,
        }
    }

    /// False while the interface or an address is missing.
    pub(crate) fn is_present(&self) -> bool {
        self.missing.is_none()
    }

    /// The state of the interface when it was last present.
    pub(crate) fn link_state(&self) -> LinkState {
        self.link_state
    }

    /// Why no packet can leave by the underlay.
    pub(crate) fn obstacle(&self) -> Option<Obstacle> {
        match &self.missing {
            Some(missing) => Some(missing.what.clone()),
            None => Obstacle::of_link(&self.current.name, self.link_state),
        }
    }

    /// True if a new address may lead to a better underlay, though the one in use is whole.
    pub(crate) fn awaits_better(&self) -> bool {
        self.replaced.is_some() || addresses(&self.current).any(|ip| is_link_local(&ip))
    }

    /// Compares the underlay with the host's network. Another underlay with the same public
    /// addresses replaces a missing one at once.
    pub(crate) fn update(
        &mut self,
        selector: &Selector,
        host: &HostNetwork,
        now: Instant,
    ) -> Observation {
        let found = match self.refreshed(host) {
            Ok(present) => Ok(self.better(selector, host).unwrap_or(present)),
            Err(what) => {
                let replacement = self.replacement(selector, host, now);
                replacement.ok_or_else(|| with_pod_address(what, selector, host))
            }
        };
        match found {
            Ok(underlay) => self.take(underlay, host, now),
            Err(what) => self.miss(what, now),
        }
    }

    fn take(&mut self, underlay: Underlay, host: &HostNetwork, now: Instant) -> Observation {
        let link_state = host
            .link(&underlay.name)
            .map_or(self.link_state, LinkState::of);
        if underlay == self.current && self.is_present() && link_state == self.link_state {
            return Observation::Unchanged;
        }
        let original = self.replaced.take();
        if !has_addresses_of(&underlay, &self.current) {
            let before = std::mem::replace(&mut self.current, underlay);
            let original = original.unwrap_or(before);
            self.replaced = (!has_addresses_of(&original, &self.current)).then_some(original);
        } else {
            self.current = underlay;
            self.replaced = original;
        }
        self.link_state = link_state;
        // an address that only a link-local one could replace is still missing
        let since = self.missing.take().map_or(now, |missing| missing.since);
        let missing = self.refreshed(host).err();
        self.missing = missing.map(|what| Missing { since, what });
        Observation::Changed
    }

    fn miss(&mut self, what: Obstacle, now: Instant) -> Observation {
        let first = self.is_present();
        let since = self.missing.as_ref().map_or(now, |missing| missing.since);
        self.missing = Some(Missing { since, what });
        Observation::Missing {
            first,
            until: since + REPLACEMENT_DELAY,
        }
    }

    /// Another underlay for one that is missing, if it is time to take it.
    fn replacement(
        &self,
        selector: &Selector,
        host: &HostNetwork,
        now: Instant,
    ) -> Option<Underlay> {
        let selected = best_effort(select(selector, host), AWAITED)?;
        let other = self.merged(selected, host);
        let same_public_ips = other.public_ip == self.current.public_ip
            && other.public_ipv6 == self.current.public_ipv6;
        let missing = self.missing.as_ref();
        let is_due = missing.is_some_and(|missing| now >= missing.since + REPLACEMENT_DELAY);
        let is_other = !has_addresses_of(&other, &self.current);
        (is_other && (same_public_ips || is_due)).then_some(other)
    }

    /// The underlay that the present one replaced, if the host selects it again; or global
    /// addresses in place of link-local ones.
    fn better(&self, selector: &Selector, host: &HostNetwork) -> Option<Underlay> {
        if !self.awaits_better() {
            return None;
        }
        let selected = best_effort(select(selector, host), AWAITED)?;
        let replaced = self.replaced.as_ref();
        if replaced.is_some_and(|replaced| has_addresses_of(replaced, &selected)) {
            return Some(selected);
        }
        (selected.name == self.current.name)
            .then(|| self.merged(selected, host))
            .filter(|merged| !has_addresses_of(merged, &self.current))
    }

    /// What was selected, with those addresses of the current underlay that need not change.
    fn merged(&self, selected: Underlay, host: &HostNetwork) -> Underlay {
        let same_interface = selected.name == self.current.name;
        let is_present = |ip: IpAddr| {
            let link = host.link(&self.current.name);
            link.is_some_and(|link| host.has_address(link, ip))
        };
        let keeps = |current: Option<IpAddr>, selected: Option<IpAddr>| {
            let Some((current, selected)) = current.zip(selected) else {
                return false;
            };
            match (is_link_local(&current), is_link_local(&selected)) {
                (false, true) => true,
                (true, false) => false,
                _ => same_interface && is_present(current),
            }
        };
        let Underlay {
            address: v4,
            address_v6: v6,
            ..
        } = self.current;
        let mut merged = selected;
        if keeps(v4.map(IpAddr::V4), merged.address.map(IpAddr::V4)) {
            (merged.address, merged.public_ip) = (v4, self.current.public_ip);
        }
        if keeps(v6.map(IpAddr::V6), merged.address_v6.map(IpAddr::V6)) {
            (merged.address_v6, merged.public_ipv6) = (v6, self.current.public_ipv6);
        }
        merged
    }

    /// Selects again because the selector changed; true if the underlay did. On failure the one in
    /// use stays.
    pub(crate) fn reselect(
        &mut self,
        selector: &Selector,
        host: &HostNetwork,
    ) -> Result<bool, Error> {
        let selected = select(selector, host)?;
        let changed = selected != self.current;
        if changed {
            *self = Tracker {
                link_state: self.link_state,
                ..Tracker::new(selected)
            };
        }
        Ok(changed)
    }

    /// The current underlay with its interface's present index and MTU; else what is missing.
    fn refreshed(&self, host: &HostNetwork) -> Result<Underlay, Obstacle> {
        let interface = &self.current.name;
        let link = host.link(interface).filter(|link| link.mtu > 0);
        let link = link.ok_or_else(|| Obstacle::NoInterface(interface.clone()))?;
        match addresses(&self.current).find(|ip| !host.has_address(link, *ip)) {
            Some(address) => Err(Obstacle::NoAddress {
                interface: interface.clone(),
                address,
                in_pod_network: None,
            }),
            None => Ok(Underlay {
                index: link.index,
                mtu: link.mtu,
                ..self.current.clone()
            }),
        }
    }
}

/// Adds to a missing address the one of the pods' network that the interface has in its place.
fn with_pod_address(what: Obstacle, selector: &Selector, host: &HostNetwork) -> Obstacle {
    let Obstacle::NoAddress {
        interface, address, ..
    } = what
    else {
        return what;
    };
    let of_pods = |ip: IpAddr| Some((ip, selector.pod_network_of(ip)?));
    let link = host.link(&interface);
    let mut present = link.into_iter().flat_map(|link| host.addresses_of(link));
    Obstacle::NoAddress {
        in_pod_network: present.find_map(|address| of_pods(address.net.ip())),
        interface,
        address,
    }
}

/// The addresses on the interface.
fn addresses(underlay: &Underlay) -> impl Iterator<Item = IpAddr> + use<> {
    let v4 = underlay.address.map(IpAddr::V4);
    let v6 = underlay.address_v6.map(IpAddr::V6);
    v4.into_iter().chain(v6)
}

/// True if both have the same interface and the same addresses.
fn has_addresses_of(one: &Underlay, other: &Underlay) -> bool {
    let key = |underlay: &Underlay| {
        let Underlay {
            address,
            address_v6,
            public_ip,
            public_ipv6,
            ..
        } = underlay;
        (*address, *address_v6, *public_ip, *public_ipv6)
    };
    one.name == other.name && key(one) == key(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::underlay::fixtures::{
        PERMANENT, address, default_route, host, iface, link, v4_only,
    };

    fn tracker() -> (Tracker, Selector) {
        let selector = v4_only();
        (Tracker::new(select(&selector, &host()).unwrap()), selector)
    }

    #[test]
    fn moved_default_route_does_not_change_the_underlay() {
        let (mut tracker, selector) = tracker();
        let mut host = host();
        host.routes = vec![default_route(false, Some(3))];
        let now = Instant::now();
        assert_eq!(
            tracker.update(&selector, &host, now),
            Observation::Unchanged
        );
        host.routes.clear();
        assert_eq!(
            tracker.update(&selector, &host, now),
            Observation::Unchanged
        );
    }

    #[test]
    fn changed_selector_selects_another_underlay_at_once_if_there_is_one() {
        let (mut tracker, selector) = tracker();
        let with = |ip: &str| Selector {
            public_ip: Some(ip.parse().unwrap()),
            ..selector.clone()
        };
        let first = tracker.current.clone();
        assert!(tracker.reselect(&with("203.0.113.9"), &host()).is_err());
        assert_eq!(tracker.current, first);
        assert!(tracker.reselect(&with("172.31.0.101"), &host()).unwrap());
        assert_eq!(
            tracker.current.public_ip.unwrap().to_string(),
            "172.31.0.101"
        );
        assert!(tracker.reselect(&selector, &host()).unwrap());
        assert_eq!(tracker.current, first);
        assert!(!tracker.reselect(&selector, &host()).unwrap());
    }

    #[test]
    fn recreated_interface_is_adopted_at_once() {
        let (mut tracker, selector) = tracker();
        let mut host = host();
        host.links[1].mtu = 9000;
        let now = Instant::now();
        assert_eq!(tracker.update(&selector, &host, now), Observation::Changed);
        assert_eq!(tracker.current.mtu, 9000);
        host.links[1] = link(12, "eth0");
        host.addresses.push(address(12, "172.31.0.1/24", PERMANENT));
        assert_eq!(tracker.update(&selector, &host, now), Observation::Changed);
        assert_eq!(tracker.current.index, 12);
    }

    #[test]
    fn missing_address_is_replaced_after_a_delay_and_taken_again_before() {
        let (mut tracker, selector) = tracker();
        let (whole, start) = (host(), Instant::now());
        let mut without = host();
        without
            .addresses
            .retain(|address| address.net.ip().to_string() != "172.31.0.1");
        let until = start + REPLACEMENT_DELAY;
        assert_eq!(
            tracker.update(&selector, &without, start),
            Observation::Missing { first: true, until }
        );
        let later = start + Duration::from_secs(1);
        assert_eq!(
            tracker.update(&selector, &without, later),
            Observation::Missing {
                first: false,
                until
            }
        );
        assert_eq!(
            tracker.update(&selector, &whole, later),
            Observation::Changed,
            "it returned"
        );
        assert_eq!(
            tracker.update(&selector, &whole, later),
            Observation::Unchanged
        );
        assert_eq!(
            tracker.update(&selector, &without, later),
            Observation::Missing {
                first: true,
                until: later + REPLACEMENT_DELAY
            }
        );
        assert_eq!(
            tracker.update(&selector, &without, later + REPLACEMENT_DELAY),
            Observation::Changed
        );
        assert_eq!(tracker.current.address.unwrap().to_string(), "172.31.0.101");
    }

    fn lose(host: &mut HostNetwork, ip: &str) {
        host.addresses
            .retain(|address| address.net.ip().to_string() != ip);
    }

    #[test]
    fn address_inside_of_the_pod_network_is_never_taken() {
        let (mut tracker, selector) = tracker();
        let selector = Selector {
            pod_networks: vec!["10.244.0.0/16".parse().unwrap()],
            ..selector
        };
        let (whole, start) = (host(), Instant::now());
        let mut moved = host();
        lose(&mut moved, "172.31.0.1");
        lose(&mut moved, "172.31.0.101");
        moved
            .addresses
            .push(address(2, "10.244.77.2/24", PERMANENT));
        for seconds in [0, 6, 3600] {
            let now = start + Duration::from_secs(seconds);
            let observation = tracker.update(&selector, &moved, now);
            let missing = matches!(observation, Observation::Missing { .. });
            assert!(missing, "{observation:?}");
        }
        assert_eq!(
            tracker.obstacle().unwrap().to_string(),
            "eth0 no longer has the address 172.31.0.1, and 10.244.77.2 is inside of the pod network 10.244.0.0/16"
        );
        let later = start + Duration::from_secs(3601);
        let update = tracker.update(&selector, &whole, later);
        assert_eq!(update, Observation::Changed);
        assert_eq!(tracker.obstacle(), None);
        // nor by an option
        let selector = Selector {
            public_ip: Some("10.244.77.2".parse().unwrap()),
            ..selector
        };
        let error = tracker.reselect(&selector, &moved).unwrap_err().to_string();
        assert!(error.contains("inside of the pod network"), "{error}");
    }

    /// After it went down and up an interface has only its link-local IPv6 address.
    #[test]
    fn link_local_address_never_replaces_a_global_one() {
        let selector = Selector {
            ipv6: true,
            ..v4_only()
        };
        let mut tracker = Tracker::new(select(&selector, &host()).unwrap());
        let (whole, start) = (host(), Instant::now());
        let mut flapped = host();
        lose(&mut flapped, "fd31::1");
        lose(&mut flapped, "fd31::abcd");
        for seconds in [0, 3, 6, 3600] {
            let now = start + Duration::from_secs(seconds);
            let observation = tracker.update(&selector, &flapped, now);
            assert!(
                matches!(observation, Observation::Missing { .. }),
                "{observation:?}"
            );
        }
        let obstacle = tracker.obstacle().unwrap().to_string();
        assert_eq!(obstacle, "eth0 no longer has the address fd31::1");
        // IPv4 still follows its own changes
        lose(&mut flapped, "172.31.0.1");
        let later = start + Duration::from_secs(3601);
        assert_eq!(
            tracker.update(&selector, &flapped, later),
            Observation::Changed
        );
        let current = &tracker.current;
        assert_eq!(current.address.unwrap().to_string(), "172.31.0.101");
        assert_eq!(current.address_v6.unwrap().to_string(), "fd31::1");
        assert!(tracker.obstacle().is_some());
        assert_eq!(
            tracker.update(&selector, &whole, later),
            Observation::Changed
        );
        assert_eq!(tracker.obstacle(), None);
    }

    #[test]
    fn global_address_replaces_a_link_local_one_at_once() {
        let selector = Selector {
            ipv6: true,
            ..v4_only()
        };
        let mut early = host();
        lose(&mut early, "fd31::1");
        lose(&mut early, "fd31::abcd");
        let mut tracker = Tracker::new(select(&selector, &early).unwrap());
        let now = Instant::now();
        assert!(tracker.awaits_better());
        assert_eq!(
            tracker.update(&selector, &early, now),
            Observation::Unchanged
        );
        assert_eq!(
            tracker.update(&selector, &host(), now),
            Observation::Changed
        );
        let address = tracker.current.address_v6.unwrap().to_string();
        assert_eq!(address, "fd31::1");
        // the other one does not come back as the better one
        assert_eq!(
            tracker.update(&selector, &early, now),
            Observation::Missing {
                first: true,
                until: now + REPLACEMENT_DELAY
            }
        );
    }

    #[test]
    fn replaced_underlay_is_taken_again_when_it_returns() {
        let selector = iface(v4_only(), &["eth0", "eth1"]);
        let mut tracker = Tracker::new(select(&selector, &host()).unwrap());
        let (whole, start) = (host(), Instant::now());
        let first = tracker.current.clone();
        let mut without = host();
        without.links.remove(1);
        without.addresses.retain(|address| address.index != 2);
        tracker.update(&selector, &without, start);
        assert_eq!(
            tracker.obstacle(),
            Some(Obstacle::NoInterface("eth0".into()))
        );
        let due = start + REPLACEMENT_DELAY;
        assert_eq!(
            tracker.update(&selector, &without, due),
            Observation::Changed
        );
        assert_eq!(tracker.current.name, "eth1");
        assert_eq!(
            tracker.update(&selector, &without, due),
            Observation::Unchanged
        );
        assert_eq!(tracker.update(&selector, &whole, due), Observation::Changed);
        assert_eq!(tracker.current, first);
        assert!(!tracker.awaits_better());
    }

    #[test]
    fn state_of_the_interface_is_an_observation() {
        let (mut tracker, selector) = tracker();
        let (mut host, now) = (host(), Instant::now());
        for (up, carrier, reason) in [
            (false, false, Some("eth0 is down")),
            (true, false, Some("eth0 has no carrier")),
            (true, true, None),
        ] {
            (host.links[1].up, host.links[1].carrier) = (up, carrier);
            assert_eq!(tracker.update(&selector, &host, now), Observation::Changed);
            assert_eq!(
                tracker.update(&selector, &host, now),
                Observation::Unchanged
            );
            let obstacle = tracker.obstacle().map(|obstacle| obstacle.to_string());
            assert_eq!(obstacle.as_deref(), reason);
        }
    }

    #[test]
    fn another_interface_with_the_same_public_ip_replaces_a_missing_one_at_once() {
        let selector = Selector {
            public_ip: Some("203.0.113.9".parse().unwrap()),
            ..iface(v4_only(), &["eth0", "eth1"])
        };
        let mut tracker = Tracker::new(select(&selector, &host()).unwrap());
        let mut host = host();
        host.links.remove(1);
        host.addresses.retain(|address| address.index != 2);
        assert_eq!(
            tracker.update(&selector, &host, Instant::now()),
            Observation::Changed
        );
        assert_eq!(tracker.current.name, "eth1");
    }
}
