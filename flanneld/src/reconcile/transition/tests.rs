use super::*;
use crate::{
    backend::{PlannedPeer, fixtures},
    model::{
        host_state::{Device, DeviceKind, DeviceLink, HostState},
        lease::LeaseAttrs,
        wireguard::{Peer, Session, Wireguard},
    },
};
use linux_net::wireguard::PublicKey;
use serde_json::json;

const OLD: &str = r#"{"Type":"vxlan"}"#;
const NEW: &str = r#"{"Type":"vxlan","VNI":7}"#;

fn lease(number: u8, vni: u32) -> Arc<Lease> {
    Arc::new(Lease {
        subnets: format!("10.244.{number}.0-24").parse().unwrap(),
        attrs: LeaseAttrs {
            public_ip: Some([172, 31, 0, number].into()),
            backend_type: "vxlan".to_owned(),
            backend_data: Some(
                json!({"VNI": vni, "VtepMAC": format!("02:00:00:00:01:{number:02x}")}),
            ),
            ..LeaseAttrs::default()
        },
        expiration: None,
    })
}

fn transition(current: &str, earlier: &[&str]) -> Transition {
    let build = |backend: &str| fixtures::backend(&fixtures::config(backend)).unwrap();
    let earlier: Vec<_> = earlier.iter().map(|backend| build(backend)).collect();
    Transition::new(build(current), &earlier)
}

fn plan(transition: &mut Transition, now: Instant) -> Plan {
    let plan = transition.plan(
        Host {
            config: &fixtures::config(NEW),
            underlay: &Underlay {
                index: 2,
                name: "eth0".to_owned(),
                mtu: 1500,
                address: Some([172, 31, 0, 1].into()),
                address_v6: None,
                public_ip: Some([172, 31, 0, 1].into()),
                public_ipv6: None,
            },
            own: &lease(1, 7),
            routes: &UnderlayRoutes::default(),
        },
        now,
    );
    assert_eq!(plan.skipped, [], "each peer is reached");
    plan
}

/// The device by which each peer is reached, and all devices.
fn routed(transition: &mut Transition, now: Instant) -> (Vec<(String, String)>, usize) {
    let plan = plan(transition, now);
    let routes = plan.state.routes.iter();
    let routes: Vec<_> = routes
        .map(|route| (route.dst.to_string(), route.device.to_string()))
        .collect();
    assert_eq!(routes.len(), plan.peers.len());
    (routes, plan.state.devices.len())
}

fn by(subnets: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(subnet, device): &(&str, &str)| ((*subnet).to_owned(), (*device).to_owned());
    subnets.iter().map(owned).collect()
}

#[test]
fn each_peer_is_reached_by_the_backend_that_it_uses() {
    let mut transition = transition(NEW, &[OLD]);
    let now = Instant::now();
    transition.update(&Arc::new(vec![lease(2, 1), lease(3, 7)]), now);
    let (routes, devices) = routed(&mut transition, now);
    let wanted = [
        ("10.244.2.0/24", "flannel.1"),
        ("10.244.3.0/24", "flannel.7"),
    ];
    assert_eq!((routes, devices), (by(&wanted), 2));
}

#[test]
fn peer_that_changes_is_reached_by_the_earlier_backend_until_it_is_ready() {
    let mut transition = transition(NEW, &[OLD]);
    let start = Instant::now();
    transition.update(&Arc::new(vec![lease(2, 1)]), start);
    routed(&mut transition, start);
    transition.update(&Arc::new(vec![lease(2, 7)]), start);
    let device = |transition: &mut Transition, at| routed(transition, at).0[0].1.clone();
    assert_eq!(device(&mut transition, start), "flannel.1");
    assert_eq!(transition.next(start), Some(start + SWITCH_DELAY));
    let later = start + SWITCH_DELAY;
    assert_eq!(device(&mut transition, later), "flannel.7");
    // and back: this node's configuration has changed, the peer's was taken back
    transition.update(&Arc::new(vec![lease(2, 1)]), later);
    assert_eq!(device(&mut transition, later), "flannel.7");
    assert_eq!(device(&mut transition, later + SWITCH_DELAY), "flannel.1");
}

#[test]
fn earlier_backend_goes_a_while_after_its_last_peer() {
    let mut transition = transition(NEW, &[OLD]);
    let start = Instant::now();
    assert_eq!(transition.next(start), None, "the peers are unknown");
    transition.update(&Arc::new(vec![lease(2, 7)]), start);
    assert_eq!(transition.next(start), Some(start + HOLD));
    assert_eq!(transition.next(start + HOLD), Some(start + LINGER));
    assert!(transition.take_unused(start + LINGER / 2).is_empty());
    assert_eq!(routed(&mut transition, start).1, 2, "both devices");
    // a node that uses it appears again
    transition.update(&Arc::new(vec![lease(2, 1)]), start);
    assert!(transition.take_unused(start + LINGER).is_empty());
    transition.update(&Arc::new(vec![lease(2, 7)]), start);
    let gone = transition.take_unused(start + LINGER);
    assert_eq!(gone[0].device_names()[0].as_ref(), "flannel.1");
    assert!(!transition.has_earlier());
    assert_eq!(routed(&mut transition, start).1, 1);
}

#[test]
fn node_of_the_earlier_configuration_keeps_to_what_a_peer_published_before() {
    let mut transition = transition(OLD, &[]);
    let now = Instant::now();
    transition.update(&Arc::new(vec![lease(2, 1), lease(3, 1)]), now);
    for _ in 0..2 {
        transition.update(&Arc::new(vec![lease(2, 7), lease(3, 1)]), now);
        let (routes, _) = routed(&mut transition, now);
        let wanted = [
            ("10.244.2.0/24", "flannel.1"),
            ("10.244.3.0/24", "flannel.1"),
        ];
        assert_eq!(routes, by(&wanted));
    }
    // a node with another address is another node
    let mut moved = Lease::clone(&lease(2, 7));
    moved.attrs.public_ip = Some([172, 31, 0, 9].into());
    transition.update(&Arc::new(vec![Arc::new(moved)]), now);
    assert!(transition.current.leases.kept().is_empty());
}

#[test]
fn whole_network_of_an_earlier_backend_becomes_a_route_to_each_peer() {
    let network = "10.244.0.0/16".parse().unwrap();
    let peer = |number: u8| PlannedPeer {
        subnet: format!("10.244.{number}.0/24").parse().unwrap(),
        public_ip: [172, 31, 0, number].into(),
    };
    let whole = |device: &str| HostRoute::on_link(network, device.into());
    let plan = |device: &str, peers: &[u8]| Plan {
        state: HostState {
            routes: [whole(device)].into(),
            ..HostState::default()
        },
        peers: peers.iter().map(|number| peer(*number)).collect(),
        ..Plan::default()
    };
    let mut current = plan("flannel-wg", &[2]);
    let (reached, led) = ([peer(2).subnet].into(), [peer(3).subnet].into());
    add(&mut current, plan("flannel0", &[2, 3]), &reached, &led);
    let to_peer = HostRoute::on_link(peer(3).subnet, "flannel0".into());
    assert_eq!(current.state.routes, [whole("flannel-wg"), to_peer].into());
    assert_eq!(current.peers, [peer(2), peer(3)]);
}

const KEY: PublicKey = PublicKey([7; 32]);

/// A WireGuard device with a peer that has 10.244.2.0/24, and the way to it.
fn tunnel(own: u8, session: Session, way: &str) -> HostState {
    let subnet: IpNetwork = "10.244.2.0/24".parse().unwrap();
    let peer = Peer {
        preshared_key: None,
        endpoint: None,
        keepalive: 25,
        allowed_ips: vec![subnet],
        session,
    };
    let mut device = Device::bare(DeviceLink {
        kind: DeviceKind::Wireguard(Some(PublicKey([own; 32]))),
        mtu: 1420,
        mac: None,
        up: true,
        master: None,
    });
    device.wireguard = Some(Wireguard {
        peers: [(KEY, Arc::new(peer))].into(),
        ..Wireguard::default()
    });
    let whole = HostRoute::on_link("10.244.0.0/16".parse().unwrap(), "flannel-wg".into());
    let routes = match way {
        "flannel-wg" => [whole].into(),
        way => [whole, HostRoute::on_link(subnet, way.into())].into(),
    };
    HostState {
        devices: [("flannel-wg".into(), device)].into(),
        routes,
        ..HostState::default()
    }
}

/// The way that is kept to the peer, and whether a handshake begins.
fn awaited(
    transition: &mut Transition,
    own: u8,
    observed: &HostState,
    at: Instant,
) -> (Option<String>, bool) {
    let state = tunnel(own, Session::None, "flannel-wg");
    let mut plan = Plan {
        state,
        ..Plan::default()
    };
    let handshakes = transition.await_sessions(&mut plan, observed, at);
    let begins = handshakes
        .iter()
        .any(|begun| (&*begun.device, begun.peer, begun.keepalive) == ("flannel-wg", KEY, 25));
    let way = plan.state.route_to("10.244.2.0/24".parse().unwrap());
    (way.map(|way| way.device.to_string()), begins)
}

#[test]
fn peer_without_a_session_is_reached_by_the_earlier_backend_for_a_while() {
    let mut transition = transition(NEW, &[OLD]);
    let start = Instant::now();
    transition.update(&Arc::new(vec![lease(3, 1)]), start);
    let earlier = Some("flannel.1".to_owned());
    let before = tunnel(1, Session::None, "flannel.1");
    let second = Duration::from_secs(1);
    // the node with the smaller key begins at once, the other one later
    let mut after = |own, seconds: u32| {
        let awaited = awaited(&mut transition, own, &before, start + second * seconds);
        let looks = transition.next(start + second * seconds);
        (awaited, looks.unwrap() == start + second * (seconds + 1))
    };
    assert_eq!(after(1, 0), ((earlier.clone(), true), true));
    assert_eq!(after(9, 0), ((earlier.clone(), false), true));
    assert_eq!(after(9, 2), ((earlier.clone(), true), true));
    assert_eq!(after(9, 29), ((earlier, true), true));
    assert_eq!(after(9, 30).0, (None, false), "packets do not pass");
}

#[test]
fn earlier_backend_goes_a_while_after_the_last_wait_for_a_session() {
    let mut transition = transition(NEW, &[OLD]);
    let start = Instant::now();
    transition.update(&Arc::new(vec![lease(3, 7)]), start);
    let later = start + LINGER / 2;
    let before = tunnel(1, Session::None, "flannel.1");
    awaited(&mut transition, 1, &before, later);
    let there = tunnel(1, Session::Since(None), "flannel.1");
    awaited(&mut transition, 1, &there, later);
    assert_eq!(transition.next(later), Some(later + LINGER));
    assert!(transition.take_unused(start + LINGER).is_empty());
    assert_eq!(transition.take_unused(later + LINGER).len(), 1);
}

#[test]
fn session_ends_the_earlier_way_and_no_way_is_led_back() {
    let mut transition = transition(NEW, &[OLD]);
    let start = Instant::now();
    transition.update(&Arc::new(vec![lease(3, 1)]), start);
    let there = tunnel(1, Session::Since(None), "flannel.1");
    assert_eq!(awaited(&mut transition, 1, &there, start), (None, false));
    let taken = tunnel(1, Session::None, "flannel-wg");
    assert_eq!(awaited(&mut transition, 1, &taken, start), (None, false));
    // the whole network's way is that of each peer
    let mut whole = tunnel(1, Session::None, "flannel-wg");
    whole.routes = [HostRoute::on_link(
        "10.244.0.0/16".parse().unwrap(),
        "flannel0".into(),
    )]
    .into();
    let kept = Some("flannel0".to_owned());
    assert_eq!(awaited(&mut transition, 1, &whole, start), (kept, true));
}

#[test]
fn without_an_earlier_backend_nothing_waits_for_a_session() {
    let mut transition = transition(NEW, &[]);
    let start = Instant::now();
    transition.update(&Arc::new(vec![lease(3, 7)]), start);
    let before = tunnel(1, Session::None, "flannel.1");
    assert_eq!(awaited(&mut transition, 1, &before, start), (None, false));
    assert_eq!(transition.next(start), None);
}

const IPSEC: &str = r#"{"Type":"ipsec","PSK":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}"#;

fn ipsec_lease(number: u8) -> Arc<Lease> {
    let mut lease = Lease::clone(&lease(number, 0));
    lease.attrs.backend_type = "ipsec".to_owned();
    lease.attrs.backend_data = None;
    Arc::new(lease)
}

/// The numbers of routes and of policies outward, and whether clear text is taken.
fn ways(state: &HostState) -> (usize, usize, Option<bool>) {
    let policies = state.policies.iter();
    let (out, inward): (Vec<_>, Vec<_>) =
        policies.partition(|policy| policy.direction == Direction::Out);
    let mut inward = inward
        .iter()
        .map(|policy| policy.template.as_ref().unwrap());
    let optional = inward.next().map(|template| template.optional);
    assert!(inward.all(|template| Some(template.optional) == optional));
    (state.routes.len(), out.len(), optional)
}

#[test]
fn peer_that_leaves_ipsec_gets_encrypted_packets_until_it_is_ready() {
    let mut transition = transition(NEW, &[IPSEC]);
    let start = Instant::now();
    let mut kept = |lease: Arc<Lease>, observed: &HostState, at| {
        transition.update(&Arc::new(vec![lease]), start);
        let mut plan = plan(&mut transition, at);
        transition.keep(&mut plan, observed, &[], at);
        plan.state
    };
    let nothing = HostState::default();
    let encrypted = kept(ipsec_lease(2), &nothing, start + HOLD);
    assert_eq!(ways(&encrypted), (0, 1, Some(false)));
    // it may send in clear text from now on
    let both = kept(lease(2, 7), &encrypted, start + HOLD);
    assert_eq!(ways(&both), (1, 1, Some(true)));
    let after = kept(lease(2, 7), &both, start + HOLD + SWITCH_DELAY);
    assert_eq!(ways(&after), (1, 0, Some(true)));
}

#[test]
fn node_that_leaves_ipsec_last_goes_on_to_encrypt_for_a_while() {
    let start = Instant::now();
    let mut earlier = transition(IPSEC, &[]);
    earlier.update(&Arc::new(vec![ipsec_lease(2)]), start);
    let observed = plan(&mut earlier, start).state;
    let mut transition = transition(NEW, &[IPSEC]);
    transition.update(&Arc::new(vec![lease(2, 7)]), start);
    let mut kept = |at| {
        let mut plan = plan(&mut transition, at);
        transition.keep(&mut plan, &observed, &[], at);
        ways(&plan.state)
    };
    assert_eq!(kept(start), (1, 1, Some(true)));
    assert_eq!(kept(start + HOLD), (1, 0, Some(true)));
    assert_eq!(kept(start + LINGER), (1, 0, None));
}

#[test]
fn earlier_backend_stays_while_keys_are_awaited() {
    let start = Instant::now();
    let mut earlier = transition(NEW, &[]);
    earlier.update(&Arc::new(vec![lease(2, 7)]), start);
    let observed = plan(&mut earlier, start).state;
    let mut transition = transition(IPSEC, &[NEW]);
    let leases = Arc::new(vec![ipsec_lease(2)]);
    let mut pass = |at| {
        transition.update(&leases, at);
        let mut plan = plan(&mut transition, at);
        transition.keep(&mut plan, &observed, &[], at);
        let entries = plan.state.devices.values();
        let entries: usize = entries.map(|device| device.neighbours.len()).sum();
        (
            (ways(&plan.state), entries),
            transition.take_unused(at).len(),
            transition.next(at),
        )
    };
    let (kept, _, _) = pass(start);
    assert_eq!(kept, ((1, 0, Some(true)), 1));
    // without keys, for as long as they are waited for
    let (kept, unused, _) = pass(start + LINGER);
    assert_eq!((kept, unused), (((1, 0, Some(true)), 1), 0));
    // the peer may have to wait longer, and still sends by the earlier backend
    let end = start + 4 * LINGER;
    let (kept, unused, next) = pass(end);
    assert_eq!((kept, unused), (((0, 1, Some(true)), 1), 0));
    assert_eq!(next, Some(end + LINGER));
    let (kept, unused, _) = pass(end);
    assert_eq!((kept, unused), (((0, 1, Some(true)), 1), 0));
    let (kept, unused, _) = pass(end + LINGER);
    assert_eq!((kept, unused), (((0, 1, Some(false)), 0), 1));
}
