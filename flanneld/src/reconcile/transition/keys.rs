//! The change to a backend that negotiates keys: a peer is reached by the earlier backend until
//! there are keys for it.
//!
//! The kernel drops what a policy demands to be encrypted as long as there are no keys, and these
//! take charon a second or more. So the policy about packets to a peer comes once there are keys,
//! and the earlier backend's route stays until then. A policy that is there already stays, and a
//! peer to which no earlier route leads gets its policy at once: nothing leaves in clear text by
//! another route of the host.
//!
//! What a peer sends is taken in clear text too (`level use`) while the peer may send it so.

use crate::{
    model::host_state::{HostRoute, HostState},
    reconcile::REQID,
};
use ipnetwork::IpNetwork;
use linux_net::xfrm::{Direction, Policy, SecurityAssociation};
use std::{
    collections::BTreeMap,
    mem,
    net::IpAddr,
    time::{Duration, Instant},
};
use tracing::{info, warn};

/// How long a peer is still reached the earlier way after its last new keys. The one that answers
/// has keys first: if its answer is lost, the other one asks again after 4 seconds, and once more
/// after 7.2 (charon's `retransmit_timeout` and `retransmit_base`). Where both ends begin to
/// negotiate there are two pairs of keys.
const KEYS_DELAY: Duration = Duration::from_secs(12);

/// How long keys are waited for. After it packets are dropped until there are some: the network is
/// configured to be encrypted.
const KEYS_TIMEOUT: Duration = Duration::from_secs(60);

/// The peers that this node or that themselves may not encrypt yet, by their subnets.
#[derive(Debug, Default)]
pub(super) struct AwaitedKeys(BTreeMap<IpNetwork, Awaited>);

#[derive(Debug, Clone, Copy)]
enum Awaited {
    /// The peer is reached the earlier way.
    Keys { since: Instant, keys: Option<Keys> },
    /// What is sent to it is encrypted. Until then it may not encrypt itself.
    Peer { until: Instant },
}

/// Both directions have keys.
#[derive(Debug, Clone, Copy)]
struct Keys {
    /// Security associations of both directions.
    count: usize,
    since: Instant,
}

/// What the host has.
struct Present<'a> {
    observed: &'a HostState,
    policies: BTreeMap<(IpNetwork, IpNetwork, Direction), &'a Policy>,
    /// The number of our security associations by the ends between which packets are encrypted.
    associations: BTreeMap<(IpAddr, IpAddr), usize>,
}

impl AwaitedKeys {
    /// Takes the policies about packets to peers without keys out of what is wanted, and adds the
    /// earlier routes to these peers. True if keys were missing until now.
    pub(super) fn keep_ways(
        &mut self,
        wanted: &mut HostState,
        observed: &HostState,
        associations: &[SecurityAssociation],
        now: Instant,
    ) -> bool {
        let present = Present::new(observed, associations);
        let before = mem::take(&mut self.0);
        let policies = mem::take(&mut wanted.policies);
        for policy in policies {
            let mut awaited = None;
            if policy.direction == Direction::Out {
                awaited = present.awaited(&policy, before.get(&policy.dst).copied(), now);
                self.0.extend(awaited.map(|awaited| (policy.dst, awaited)));
            }
            match awaited {
                Some(Awaited::Keys { .. }) => {
                    wanted.routes.extend(present.earlier_route(policy.dst));
                }
                Some(Awaited::Peer { .. }) | None => {
                    wanted.policies.insert(policy);
                }
            }
        }
        self.log(&before);
        count(&before) > 0 || self.are_awaited()
    }

    /// Lets what comes from these peers be in clear text, and from those that an earlier or a later
    /// backend reaches too.
    pub(super) fn accept_clear_text(&self, wanted: &mut HostState) {
        let policies = mem::take(&mut wanted.policies).into_iter();
        let policies = policies.map(|mut policy| {
            let peer = policy.src;
            let is_inward = policy.direction != Direction::Out;
            if is_inward && (self.0.contains_key(&peer) || wanted.way_to(peer).is_some()) {
                policy.accept_clear_text();
            }
            policy
        });
        wanted.policies = policies.collect();
    }

    /// True while a peer has no keys.
    pub(super) fn are_awaited(&self) -> bool {
        count(&self.0) > 0
    }

    /// When the next of these peers is treated otherwise.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(Awaited::ends).min()
    }

    fn log(&self, before: &BTreeMap<IpNetwork, Awaited>) {
        match (count(before), count(&self.0)) {
            (0, awaited @ 1..) => info!(
                "{awaited} subnets of other nodes are reached the earlier way until there are IPsec keys for them"
            ),
            (1.., 0) => info!("packets to all nodes are encrypted, or dropped without keys"),
            _ => {}
        }
    }
}

fn count(peers: &BTreeMap<IpNetwork, Awaited>) -> usize {
    let peers = peers.values();
    peers
        .filter(|awaited| matches!(awaited, Awaited::Keys { .. }))
        .count()
}

impl Awaited {
    fn ends(&self) -> Instant {
        match *self {
            Awaited::Keys { since, keys } => {
                let timeout = since + KEYS_TIMEOUT;
                keys.map_or(timeout, |keys| timeout.min(keys.since + KEYS_DELAY))
            }
            Awaited::Peer { until } => until,
        }
    }
}

impl<'a> Present<'a> {
    fn new(observed: &'a HostState, associations: &[SecurityAssociation]) -> Present<'a> {
        let policies = observed.policies.iter();
        let ours = associations
            .iter()
            .filter(|association| association.is_esp_tunnel && association.reqid == REQID);
        let mut counts = BTreeMap::new();
        for SecurityAssociation { src, dst, .. } in ours {
            *counts.entry((*src, *dst)).or_default() += 1;
        }
        Present {
            observed,
            policies: policies.map(|policy| (policy.place(), policy)).collect(),
            associations: counts,
        }
    }

    /// What is awaited before or after the policy comes; `before` was awaited at the last pass.
    fn awaited(&self, policy: &Policy, before: Option<Awaited>, now: Instant) -> Option<Awaited> {
        let peer = Awaited::Peer {
            until: now + super::LINGER,
        };
        let (since, known) = match before {
            Some(Awaited::Peer { until }) => return before.filter(|_| now < until),
            Some(Awaited::Keys { since, keys }) => (since, keys),
            None => (now, None),
        };
        if self.policies.contains_key(&policy.place()) {
            // an earlier run waited
            return Some(peer).filter(|_| self.takes_clear_text(policy));
        }
        if self.earlier_route(policy.dst).is_none() {
            return before.map(|_| peer);
        }
        let keys = self.keys_of(policy).map(|count| {
            let same = known.filter(|known| known.count == count);
            same.unwrap_or(Keys { count, since: now })
        });
        let awaited = Awaited::Keys { since, keys };
        if now < awaited.ends() {
            return Some(awaited);
        }
        if keys.is_none() {
            warn!(
                "no IPsec keys for {} within {KEYS_TIMEOUT:?}: packets are dropped until there are some",
                policy.dst
            );
        }
        Some(peer)
    }

    /// True if packets that come from where the policy leads need not be encrypted.
    fn takes_clear_text(&self, policy: &Policy) -> bool {
        let inward = (policy.dst, policy.src, Direction::In);
        let inward = self.policies.get(&inward);
        let template = inward.and_then(|inward| inward.template.as_ref());
        template.is_some_and(|template| template.optional)
    }

    /// The security associations that both directions of a policy have; None if one has none.
    fn keys_of(&self, policy: &Policy) -> Option<usize> {
        let template = policy.template.as_ref()?;
        let (here, there) = (template.src, template.dst);
        Some(self.associations.get(&(here, there))? + self.associations.get(&(there, here))?)
    }

    /// The earlier backend's route to a peer; out of one to the whole network, one to that peer.
    fn earlier_route(&self, subnet: IpNetwork) -> Option<HostRoute> {
        let route = self.observed.way_to(subnet)?;
        Some(HostRoute {
            dst: subnet,
            ..route.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::LINGER, *};
    use linux_net::xfrm::Template;

    fn policy(peer: u8, direction: Direction) -> Policy {
        let own = ([172, 31, 0, 1], "10.244.1.0/24".parse().unwrap());
        let peer = ([172, 31, 0, peer], subnet(peer));
        let (from, to) = match direction {
            Direction::Out => (own, peer),
            Direction::In | Direction::Forward => (peer, own),
        };
        let template = Template {
            src: from.0.into(),
            dst: to.0.into(),
            reqid: REQID,
            optional: false,
        };
        Policy::new(from.1, to.1, direction, template)
    }

    fn subnet(peer: u8) -> IpNetwork {
        format!("10.244.{peer}.0/24").parse().unwrap()
    }

    fn policies(peer: u8) -> [Policy; 3] {
        [Direction::Out, Direction::In, Direction::Forward].map(|way| policy(peer, way))
    }

    fn route(peer: u8) -> HostRoute {
        HostRoute::new(subnet(peer), [172, 31, 0, peer].into(), "eth0".into())
    }

    fn associations(peer: u8) -> [SecurityAssociation; 2] {
        let [out, inward, _] = policies(peer).map(|policy| policy.template.unwrap());
        [out, inward].map(|template| SecurityAssociation {
            src: template.src,
            dst: template.dst,
            spi: 1,
            reqid: REQID,
            is_esp_tunnel: true,
        })
    }

    fn state(routes: &[HostRoute], policies: &[Policy]) -> HostState {
        HostState {
            routes: routes.iter().cloned().collect(),
            policies: policies.iter().cloned().collect(),
            ..HostState::default()
        }
    }

    /// What is wanted of this host with two peers.
    fn adapt(
        awaited: &mut AwaitedKeys,
        observed: &HostState,
        associations: &[SecurityAssociation],
        now: Instant,
    ) -> HostState {
        let mut wanted = state(&[], &[2, 3].map(policies).concat());
        awaited.keep_ways(&mut wanted, observed, associations, now);
        awaited.accept_clear_text(&mut wanted);
        wanted
    }

    /// The peers to which packets have to be encrypted, and those from which they have to be.
    fn demanded(state: &HostState) -> [Vec<IpNetwork>; 2] {
        let find = |way: Direction, peer: fn(&Policy) -> IpNetwork| {
            let demands = |policy: &&Policy| {
                policy.direction == way && !policy.template.as_ref().unwrap().optional
            };
            state.policies.iter().filter(demands).map(peer).collect()
        };
        let inward = find(Direction::In, |policy| policy.src);
        assert_eq!(inward, find(Direction::Forward, |policy| policy.src));
        [find(Direction::Out, |policy| policy.dst), inward]
    }

    fn routes(state: &HostState) -> Vec<HostRoute> {
        state.routes.iter().cloned().collect()
    }

    #[test]
    fn policy_comes_with_the_keys_and_the_route_goes_then() {
        let (start, mut awaited) = (Instant::now(), AwaitedKeys::default());
        let host = state(&[route(2), route(3)], &[]);
        let wanted = adapt(&mut awaited, &host, &[], start);
        assert_eq!(demanded(&wanted), [[], []]);
        assert_eq!(routes(&wanted), [route(2), route(3)]);
        assert!(awaited.are_awaited());
        // one direction is not enough
        let later = start + KEYS_TIMEOUT / 4;
        let half = &associations(2)[..1];
        assert_eq!(demanded(&adapt(&mut awaited, &host, half, later))[0], []);
        assert_eq!(awaited.next(), Some(start + KEYS_TIMEOUT));
        adapt(&mut awaited, &host, &associations(2), later);
        assert_eq!(awaited.next(), Some(later + KEYS_DELAY));
        // the other end has begun to negotiate, too
        let (twice, later) = ([associations(2); 2].concat(), later + KEYS_DELAY / 2);
        assert_eq!(demanded(&adapt(&mut awaited, &host, &twice, later))[0], []);
        assert_eq!(awaited.next(), Some(later + KEYS_DELAY));
        let due = later + KEYS_DELAY;
        let wanted = adapt(&mut awaited, &host, &twice, due);
        assert_eq!(demanded(&wanted), [vec![subnet(2)], vec![]]);
        assert_eq!(routes(&wanted), [route(3)]);
        // what is demanded stays so, also with other keys, and without any
        let host = state(&[route(3)], &policies(2));
        for associations in [&associations(2)[..], &[]] {
            let wanted = adapt(&mut awaited, &host, associations, due);
            assert_eq!(demanded(&wanted)[0], [subnet(2)]);
        }
        // the peer has had the time to encrypt, too
        let wanted = adapt(&mut awaited, &host, &[], due + LINGER);
        assert_eq!(demanded(&wanted), [[subnet(2)], [subnet(2)]]);
    }

    #[test]
    fn nothing_is_sent_in_clear_text_when_there_are_no_keys_in_time() {
        let (start, mut awaited) = (Instant::now(), AwaitedKeys::default());
        let host = state(&[route(2), route(3)], &[]);
        adapt(&mut awaited, &host, &[], start);
        let wanted = adapt(&mut awaited, &host, &[], start + KEYS_TIMEOUT);
        assert_eq!(demanded(&wanted)[0], [subnet(2), subnet(3)]);
        assert_eq!(routes(&wanted), []);
        assert!(!awaited.are_awaited());
    }

    #[test]
    fn peer_without_an_earlier_route_gets_its_policies_at_once() {
        let mut awaited = AwaitedKeys::default();
        let host = state(&[route(2)], &[]);
        let wanted = adapt(&mut awaited, &host, &[], Instant::now());
        assert_eq!(demanded(&wanted), [[subnet(3)], [subnet(3)]]);
    }

    #[test]
    fn route_to_the_whole_network_becomes_one_to_each_peer() {
        let whole = HostRoute::on_link("10.244.0.0/16".parse().unwrap(), "flannel-wg".into());
        let mut awaited = AwaitedKeys::default();
        let host = state(&[whole], &[]);
        let wanted = adapt(&mut awaited, &host, &[], Instant::now());
        let to = |peer| HostRoute::on_link(subnet(peer), "flannel-wg".into());
        assert_eq!(routes(&wanted), [to(2), to(3)]);
    }

    #[test]
    fn restart_goes_on_to_take_clear_text_from_peers_that_may_send_it() {
        let (start, mut awaited) = (Instant::now(), AwaitedKeys::default());
        let mut host = state(&[], &[2, 3].map(policies).concat());
        let inward = policy(2, Direction::In);
        host.policies.remove(&inward);
        let mut optional = inward;
        optional.accept_clear_text();
        host.policies.insert(optional);
        let both = vec![subnet(2), subnet(3)];
        let wanted = adapt(&mut awaited, &host, &[], start);
        assert_eq!(demanded(&wanted), [both.clone(), vec![subnet(3)]]);
        assert_eq!(awaited.next(), Some(start + LINGER));
        let wanted = adapt(&mut awaited, &host, &[], start + LINGER);
        assert_eq!(demanded(&wanted), [both.clone(), both]);
    }

    #[test]
    fn clear_text_is_taken_from_peers_that_a_later_backend_reaches() {
        let mut wanted = state(&[route(2)], &[2, 3].map(policies).concat());
        AwaitedKeys::default().accept_clear_text(&mut wanted);
        let both = vec![subnet(2), subnet(3)];
        assert_eq!(demanded(&wanted), [both, vec![subnet(3)]]);
    }
}
