//! Tracks the underlay while the daemon runs. A chosen interface stays chosen as long as it has its
//! addresses: a VPN that takes the default route, or a second address, must not give a node another
//! public IP and cost its pods their subnet. The tracker selects again only after the interface or
//! an address has been missing for `REPLACEMENT_DELAY`.

use super::{
    error::Error, host_network::HostNetwork, select::select, selected::Underlay, selector::Selector,
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
    missing_since: Option<Instant>,
}

/// How the underlay compares with the previous update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Observation {
    Unchanged,
    /// It returned, its interface has another index or MTU, or another underlay replaced it.
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
            missing_since: None,
        }
    }

    /// False while the interface or an address is missing.
    pub(crate) fn is_present(&self) -> bool {
        self.missing_since.is_none()
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
            Some(underlay) => Some(underlay),
            None => best_effort(select(selector, host), AWAITED).filter(|other| {
                let same_public_ips = other.public_ip == self.current.public_ip
                    && other.public_ipv6 == self.current.public_ipv6;
                let is_due = |since| now >= since + REPLACEMENT_DELAY;
                same_public_ips || self.missing_since.is_some_and(is_due)
            }),
        };
        match found {
            Some(underlay) if underlay == self.current && self.is_present() => {
                Observation::Unchanged
            }
            Some(underlay) => {
                *self = Tracker::new(underlay);
                Observation::Changed
            }
            None => {
                let first = self.is_present();
                let since = *self.missing_since.get_or_insert(now);
                Observation::Missing {
                    first,
                    until: since + REPLACEMENT_DELAY,
                }
            }
        }
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
            *self = Tracker::new(selected);
        }
        Ok(changed)
    }

    /// The current underlay with its interface's present index and MTU; None if the interface or an
    /// address is missing.
    fn refreshed(&self, host: &HostNetwork) -> Option<Underlay> {
        let link = host.link(&self.current.name)?;
        let v4 = self.current.address.map(IpAddr::V4);
        let v6 = self.current.address_v6.map(IpAddr::V6);
        let mut addresses = v4.into_iter().chain(v6);
        let complete = link.mtu > 0 && addresses.all(|ip| host.has_address(link, ip));
        complete.then(|| Underlay {
            index: link.index,
            mtu: link.mtu,
            ..self.current.clone()
        })
    }
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
