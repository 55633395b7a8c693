use crate::{
    backend::{Input, PeerError, Plan, fixtures},
    model::lease::Lease,
    underlay::{Underlay, UnderlayRoutes},
};

const KIND: &str = "host-gw";
const LAN: &[&str] = &["172.31.0.0/24", "fd31::/64"];

fn plan(underlay: &Underlay, leases: &[Lease], routes: &UnderlayRoutes) -> Plan {
    let config = fixtures::config(r#"{"Type":"host-gw"}"#);
    let backend = fixtures::backend(&config).unwrap();
    backend.plan(&Input {
        config: &config,
        underlay,
        own: &fixtures::lease(1, KIND),
        leases: &fixtures::decoded(&*backend, leases),
        routes,
    })
}

fn shown(plan: &Plan) -> Vec<String> {
    let routes = plan.state.routes.iter().cloned();
    routes
        .map(|route| crate::model::entry::Entry::Route(route).to_string())
        .collect()
}

#[test]
fn peer_gets_a_route_in_each_family_and_no_device() {
    let leases = [fixtures::lease(1, KIND), fixtures::lease(2, KIND)];
    let plan = plan(&fixtures::underlay(), &leases, &fixtures::on_link(LAN));
    assert_eq!(
        shown(&plan),
        [
            "route 10.244.2.0/24 via 172.31.0.2 dev eth0",
            "route fd00:10:244:2::/64 via fd31::2 dev eth0",
        ]
    );
    assert_eq!((plan.peers.len(), plan.skipped.len()), (2, 0));
    assert!(plan.state.devices.is_empty());
}

#[test]
fn peer_behind_a_router_is_skipped_with_the_reason() {
    let leases = [fixtures::lease(2, KIND), fixtures::lease(3, KIND)];
    let routes = fixtures::on_link(&["172.31.0.2/32", "fd31::/64"]);
    let plan = plan(&fixtures::underlay(), &leases, &routes);
    assert_eq!(plan.peers.len(), 3);
    let [skipped] = &plan.skipped[..] else {
        panic!("{:?}", plan.skipped);
    };
    assert_eq!(skipped.off_link(), Some([172, 31, 0, 3].into()));
    assert!(
        skipped
            .to_string()
            .contains("172.31.0.3 is not on the link"),
        "{skipped}"
    );
}

/// The kernel takes such a gateway over any interface, and has a route for it over each.
#[test]
fn link_local_peer_is_on_the_link() {
    let mut peer = fixtures::lease(2, KIND);
    peer.attrs.public_ipv6 = Some("fe80::2".parse().unwrap());
    let plan = plan(&fixtures::underlay(), &[peer], &fixtures::on_link(LAN));
    assert!(shown(&plan).contains(&"route fd00:10:244:2::/64 via fe80::2 dev eth0".to_owned()));
}

#[test]
fn peer_of_another_backend_is_skipped() {
    let leases = [fixtures::lease(2, "vxlan")];
    let plan = plan(&fixtures::underlay(), &leases, &fixtures::on_link(LAN));
    let reasons: Vec<_> = plan.skipped.into_iter().map(|one| one.reason).collect();
    let other = PeerError::OtherBackend {
        peer: "vxlan".to_owned(),
        own: KIND,
    };
    assert_eq!(reasons, [other.clone(), other]);
    assert!(plan.state.routes.is_empty());
}

#[test]
fn published_attributes_have_upstreams_bytes() {
    let config = fixtures::config(r#"{"type":"Host-GW"}"#);
    let backend = fixtures::backend(&config).unwrap();
    let attrs = backend.lease_attrs(&fixtures::underlay());
    assert_eq!(
        serde_json::to_string(&attrs).unwrap(),
        r#"{"PublicIP":"172.31.0.1","PublicIPv6":"fd31::1","BackendType":"host-gw"}"#
    );
    assert_eq!(backend.pod_mtu(&fixtures::underlay()), 1500);
}

#[test]
fn nat_in_either_family_is_refused_in_upstreams_words() {
    let config = fixtures::config(r#"{"Type":"host-gw"}"#);
    let backend = fixtures::backend(&config).unwrap();
    assert!(backend.refuses(&fixtures::underlay()).is_none());
    let v4 = Underlay {
        public_ip: Some([203, 0, 113, 1].into()),
        ..fixtures::underlay()
    };
    let v6 = Underlay {
        public_ipv6: Some("2001:db8::1".parse().unwrap()),
        ..fixtures::underlay()
    };
    for (underlay, public, own) in [
        (v4, "203.0.113.1", "172.31.0.1"),
        (v6, "2001:db8::1", "fd31::1"),
    ] {
        let text = backend.refuses(&underlay).unwrap().to_string();
        assert!(
            text.starts_with(
                "your PublicIP differs from interface IP, meaning that probably you're on a NAT, which is not supported \
                 by host-gw backend"
            ),
            "{text}"
        );
        assert!(text.contains(public) && text.contains(own), "{text}");
    }
}
