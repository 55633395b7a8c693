//! Following the underlay while the daemon runs. The interface that was chosen stays chosen as long as it has its
//! addresses: a VPN that takes the default route, or a second address, must not move a node and cost its pods their
//! subnet. Only what is gone for a while is chosen anew.
use super::{Seen, Underlay, Wish, select};
use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

/// How long an address may be gone (a DHCP client, a restart of the network) before another one takes its place.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The underlay in use.
#[derive(Debug)]
pub struct Follow {
    /// the last one that was there
    pub current: Underlay,
    /// when it went
    pub gone_since: Option<Instant>,
}

/// What a look at the host told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// As before.
    Same,
    /// It is back, its interface was made anew or has another MTU, or another one took its place.
    Changed,
    /// It is gone; the data path is left as it is until this time at least. True if this is new.
    Gone {
        /// nobody was told yet
        first: bool,
        /// when another one may take its place
        until: Instant,
    },
}

impl Follow {
    /// From the first choice.
    pub fn new(current: Underlay) -> Follow {
        Follow {
            current,
            gone_since: None,
        }
    }

    /// Looks again.
    pub fn look(&mut self, wish: &Wish, seen: &Seen, now: Instant) -> Sight {
        let found = match self.refreshed(seen) {
            Some(underlay) => Some(underlay),
            None => select(wish, seen).ok().filter(|other| {
                let reached_the_same = other.public_ip == self.current.public_ip
                    && other.public_ipv6 == self.current.public_ipv6;
                reached_the_same || self.gone_since.is_some_and(|since| now >= since + PATIENCE)
            }),
        };
        match found {
            Some(underlay) if underlay == self.current && self.gone_since.is_none() => Sight::Same,
            Some(underlay) => {
                *self = Follow::new(underlay);
                Sight::Changed
            }
            None => {
                let first = self.gone_since.is_none();
                let since = *self.gone_since.get_or_insert(now);
                Sight::Gone {
                    first,
                    until: since + PATIENCE,
                }
            }
        }
    }

    /// The current one with its interface as it is now; None if interface or addresses are gone.
    fn refreshed(&self, seen: &Seen) -> Option<Underlay> {
        let link = seen
            .links
            .iter()
            .find(|link| link.name == self.current.name)?;
        let v4 = self.current.address.map(IpAddr::V4);
        let v6 = self.current.address_v6.map(IpAddr::V6);
        let has = |ip: IpAddr| {
            let mut of_link = seen
                .addresses
                .iter()
                .filter(|address| address.index == link.index);
            of_link.any(|address| address.net.ip() == ip)
        };
        let whole = link.mtu > 0 && v4.into_iter().chain(v6).all(has);
        whole.then(|| Underlay {
            index: link.index,
            mtu: link.mtu,
            ..self.current.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::select::tests::{address, default_route, iface, link, seen, v4_only},
        *,
    };

    fn following() -> (Follow, Wish) {
        let wish = v4_only();
        (Follow::new(select(&wish, &seen()).unwrap()), wish)
    }

    #[test]
    fn a_default_route_that_moves_does_not_move_the_node() {
        let (mut follow, wish) = following();
        let mut seen = seen();
        seen.routes = vec![default_route(false, Some(3))];
        assert_eq!(follow.look(&wish, &seen, Instant::now()), Sight::Same);
        seen.routes.clear();
        assert_eq!(follow.look(&wish, &seen, Instant::now()), Sight::Same);
    }

    #[test]
    fn an_interface_made_anew_is_taken_at_once() {
        let (mut follow, wish) = following();
        let mut seen = seen();
        seen.links[1].mtu = 9000;
        assert_eq!(follow.look(&wish, &seen, Instant::now()), Sight::Changed);
        assert_eq!(follow.current.mtu, 9000);
        seen.links[1] = link(12, "eth0");
        seen.addresses.push(address(12, "172.31.0.1/24", 0x80));
        assert_eq!(follow.look(&wish, &seen, Instant::now()), Sight::Changed);
        assert_eq!(follow.current.index, 12);
    }

    #[test]
    fn another_address_waits_and_the_old_one_is_welcome_back() {
        let (mut follow, wish) = following();
        let (whole, start) = (seen(), Instant::now());
        let mut without = seen();
        without
            .addresses
            .retain(|address| address.net.ip().to_string() != "172.31.0.1");
        let until = start + PATIENCE;
        assert_eq!(
            follow.look(&wish, &without, start),
            Sight::Gone { first: true, until }
        );
        let soon = start + Duration::from_secs(1);
        assert_eq!(
            follow.look(&wish, &without, soon),
            Sight::Gone {
                first: false,
                until
            }
        );
        assert_eq!(follow.look(&wish, &whole, soon), Sight::Changed, "back");
        assert_eq!(follow.look(&wish, &whole, soon), Sight::Same);
        assert_eq!(
            follow.look(&wish, &without, soon),
            Sight::Gone {
                first: true,
                until: soon + PATIENCE
            }
        );
        assert_eq!(
            follow.look(&wish, &without, soon + PATIENCE),
            Sight::Changed
        );
        assert_eq!(follow.current.address.unwrap().to_string(), "172.31.0.101");
    }

    #[test]
    fn behind_the_same_public_ip_another_interface_serves_at_once() {
        let wish = Wish {
            public_ip: Some("203.0.113.9".parse().unwrap()),
            ..iface(v4_only(), &["eth0", "eth1"])
        };
        let mut follow = Follow::new(select(&wish, &seen()).unwrap());
        let mut seen = seen();
        seen.links.remove(1);
        seen.addresses.retain(|address| address.index != 2);
        assert_eq!(follow.look(&wish, &seen, Instant::now()), Sight::Changed);
        assert_eq!(follow.current.name, "eth1");
    }
}
