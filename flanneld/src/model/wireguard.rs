//! What a WireGuard device has besides its link, whether the kernel runs it or user space: key,
//! port and peers. One type says what is wanted and what was observed.

use ipnetwork::IpNetwork;
use linux_net::wireguard::{PresharedKey, PrivateKey, PublicKey};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

/// A device without its link.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Wireguard {
    pub(crate) interface: Interface,
    pub(crate) peers: Peers,
}

/// Shared, since the wanted state, the observed one and the changes between them have each.
pub(crate) type Peers = BTreeMap<PublicKey, Arc<Peer>>;

/// What is of the device itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Interface {
    /// None: it was observed without one. Wanted devices have one.
    pub(crate) private_key: Option<PrivateKey>,
    /// The UDP port of both address families.
    pub(crate) listen_port: u16,
}

/// A peer; its public key names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    pub(crate) preshared_key: Option<PresharedKey>,
    /// Where packets go to until one of the peer comes from elsewhere.
    pub(crate) endpoint: Option<SocketAddr>,
    /// Seconds between packets that keep a NAT's mapping; 0 is off.
    pub(crate) keepalive: u16,
    /// Sorted, without duplicates: the destinations that it has, and the sources that it may use.
    pub(crate) allowed_ips: Vec<IpNetwork>,
    /// Of an observed peer. A wanted one is at home.
    pub(crate) session: Session,
}

/// Why an observed endpoint may differ from the wanted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Session {
    /// There is no session: the endpoint has to be the wanted one.
    #[default]
    None,
    /// The peer may have sent from the observed endpoint. This daemon had set the given one, or an
    /// earlier daemon had set another.
    Since(Option<SocketAddr>),
}

impl Peer {
    /// True if this observed peer needs no change. A peer that moved stays where it is as long as
    /// its session lasts, unless its lease moved too.
    pub(crate) fn matches(&self, wanted: &Peer) -> bool {
        let Peer {
            preshared_key,
            endpoint,
            keepalive,
            allowed_ips,
            session: _,
        } = wanted;
        let moved = match self.session {
            Session::None => false,
            Session::Since(None) => true,
            Session::Since(set) => set == *endpoint,
        };
        self.preshared_key == *preshared_key
            && self.keepalive == *keepalive
            && self.allowed_ips == *allowed_ips
            && (moved || endpoint.is_none() || self.endpoint == *endpoint)
    }

    /// True if this observed peer has allowed IPs that `wanted` has not.
    pub(crate) fn has_surplus(&self, wanted: &Peer) -> bool {
        let mut own = self.allowed_ips.iter();
        own.any(|net| !wanted.allowed_ips.contains(net))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(endpoint: &str, nets: &[&str], session: Session) -> Peer {
        Peer {
            preshared_key: None,
            endpoint: Some(endpoint.parse().unwrap()),
            keepalive: 0,
            allowed_ips: nets.iter().map(|net| net.parse().unwrap()).collect(),
            session,
        }
    }

    const HOME: &str = "172.31.0.2:51820";
    const AWAY: &str = "203.0.113.7:40000";
    const NETS: &[&str] = &["10.244.2.0/24", "fd00:10:244:2::/64"];

    #[test]
    fn peer_may_be_elsewhere_during_a_session_unless_its_lease_moved() {
        let wanted = peer(HOME, NETS, Session::None);
        assert!(wanted.matches(&wanted));
        let at = |endpoint: &str, session| peer(endpoint, NETS, session).matches(&wanted);
        assert!(at(HOME, Session::None));
        assert!(!at(AWAY, Session::None));
        assert!(at(AWAY, Session::Since(None)));
        assert!(at(AWAY, Session::Since(wanted.endpoint)));
        let earlier = Some("172.31.0.9:51820".parse().unwrap());
        assert!(!at("172.31.0.9:51820", Session::Since(earlier)));
    }

    #[test]
    fn everything_else_has_to_be_as_wanted() {
        let wanted = peer(HOME, NETS, Session::None);
        let fewer = peer(HOME, &NETS[..1], Session::None);
        assert!(!fewer.matches(&wanted) && !fewer.has_surplus(&wanted));
        assert!(!wanted.matches(&fewer) && wanted.has_surplus(&fewer));
        let keyed = Peer {
            preshared_key: Some(PresharedKey::new([1; 32])),
            ..wanted.clone()
        };
        assert!(!keyed.matches(&wanted) && !wanted.matches(&keyed));
        let kept_alive = Peer {
            keepalive: 25,
            ..wanted.clone()
        };
        assert!(!kept_alive.matches(&wanted));
    }
}
