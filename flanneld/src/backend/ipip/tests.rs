use crate::{
    backend::{CandidateRoute, Error, Input, NodeIdentity, Plan, build, fixtures},
    files::node_state::NodeState,
    model::{
        Family,
        entry::Entry,
        host_state::{DeviceKind, HostRoute},
        lease::Lease,
        network_config::NetworkConfig,
        node_record::NodeRecord,
    },
    reconcile::device_link,
    underlay::{self, Underlay, UnderlayRoutes},
};
use linux_net::link::{IpTunnel, Kind, Link, Outer};
use std::path::Path;

const KIND: &str = "ipip";
const PLAIN: &str = r#"{"Type":"ipip"}"#;
const DIRECT: &str = r#"{"type":"IPIP","directrouting":true}"#;
const LAN: &[&str] = &["172.31.0.0/24", "fd31::/64"];

fn plan(keys: &str, leases: &[Lease], routes: &UnderlayRoutes) -> Plan {
    let config = fixtures::config(keys);
    let backend = fixtures::backend(&config).unwrap();
    backend.plan(&Input {
        config: &config,
        underlay: &fixtures::underlay(),
        own: &fixtures::lease(1, KIND),
        leases: &fixtures::decoded(&*backend, leases),
        routes,
    })
}

fn shown(plan: &Plan) -> Vec<String> {
    let routes = plan.state.routes.iter().cloned();
    routes
        .map(|route| Entry::Route(route).to_string())
        .collect()
}

#[test]
fn peer_gets_a_route_over_the_device_of_its_family() {
    let leases = [fixtures::lease(1, KIND), fixtures::lease(2, KIND)];
    let plan = plan(PLAIN, &leases, &fixtures::on_link(LAN));
    assert_eq!(
        shown(&plan),
        [
            "route 10.244.2.0/24 via 172.31.0.2 dev flannel.ipip onlink",
            "route fd00:10:244:2::/64 encap ip6 dst fd31::2 dev flannel.ip6ip6",
        ]
    );
    assert_eq!((plan.peers.len(), plan.skipped.len()), (2, 0));
    let device = &plan.state.devices["flannel.ipip"];
    let expected = IpTunnel {
        local: Some([172, 31, 0, 1].into()),
        ..IpTunnel::new(Outer::V4)
    };
    assert_eq!(device.link.kind, DeviceKind::IpTunnel(expected));
    assert_eq!((device.link.mtu, device.link.up), (1480, true));
    assert_eq!(device.addresses, ["10.244.1.0/32".parse().unwrap()].into());
    let device = &plan.state.devices["flannel.ip6ip6"];
    let expected = IpTunnel {
        external: true,
        protocol: 41,
        ..IpTunnel::new(Outer::V6)
    };
    assert_eq!(device.link.kind, DeviceKind::IpTunnel(expected));
    assert_eq!(device.link.mtu, 1460);
    let address = "fd00:10:244:1::/128".parse().unwrap();
    assert_eq!(device.addresses, [address].into());
}

/// A node behind a NAT says so in its data, and is reached by the tunnel alone.
#[test]
fn direct_routing_leads_to_peers_on_the_link_without_the_tunnel() {
    let mut behind_nat = fixtures::lease(4, KIND);
    behind_nat.attrs.backend_data = Some(serde_json::json!({"DirectRouting": false}));
    let leases = [
        fixtures::lease(2, KIND),
        fixtures::lease(3, KIND),
        behind_nat,
    ];
    let routes = fixtures::on_link(&["172.31.0.2/32", "172.31.0.4/32", "fd31::/64"]);
    let plan = plan(DIRECT, &leases, &routes);
    assert_eq!(
        shown(&plan),
        [
            "route 10.244.2.0/24 via 172.31.0.2 dev eth0",
            "route 10.244.3.0/24 via 172.31.0.3 dev flannel.ipip onlink",
            "route 10.244.4.0/24 via 172.31.0.4 dev flannel.ipip onlink",
            "route fd00:10:244:2::/64 via fd31::2 dev eth0",
            "route fd00:10:244:3::/64 via fd31::3 dev eth0",
            "route fd00:10:244:4::/64 via fd31::4 dev eth0",
        ]
    );
    assert_eq!(plan.state.devices.len(), 2);
}

#[test]
fn published_attributes_have_upstreams_bytes() {
    let text = |keys: &str, underlay: &Underlay| {
        let backend = fixtures::backend(&fixtures::config(keys)).unwrap();
        serde_json::to_string(&backend.lease_attrs(underlay)).unwrap()
    };
    let plain = r#"{"PublicIP":"172.31.0.1","PublicIPv6":"fd31::1","BackendType":"ipip"}"#;
    assert_eq!(text(PLAIN, &fixtures::underlay()), plain);
    assert_eq!(text(DIRECT, &fixtures::underlay()), plain);
    let behind_nat = Underlay {
        public_ip: Some([203, 0, 113, 1].into()),
        ..fixtures::underlay()
    };
    assert!(!text(PLAIN, &behind_nat).contains("BackendData"));
    assert!(text(DIRECT, &behind_nat).contains(r#""BackendData":{"DirectRouting":false}"#));
}

#[test]
fn pod_mtu_is_what_the_longest_header_leaves() {
    let mtu = |config: &NetworkConfig| {
        let backend = fixtures::backend(config).unwrap();
        backend.pod_mtu(&fixtures::underlay())
    };
    assert_eq!(mtu(&fixtures::config(PLAIN)), 1460);
    let v4 = r#"{"Network":"10.244.0.0/16","Backend":{"Type":"ipip"}}"#;
    assert_eq!(mtu(&NetworkConfig::parse(v4).unwrap()), 1480);
}

fn link(name: &str, kind: Kind) -> Link {
    Link {
        kind,
        mac: None,
        ..underlay::fixtures::link(9, name)
    }
}

#[test]
fn link_of_another_kind_is_refused_in_upstreams_words() {
    let start = |links: &[Link]| {
        build(
            &fixtures::config(PLAIN),
            &mut NodeIdentity {
                state: &mut NodeState::load(Path::new("/nonexistent/node.json")),
                links,
                record: &NodeRecord::default(),
                run_folder: Path::new("/nonexistent"),
            },
        )
    };
    let own = Kind::IpTunnel(IpTunnel::new(Outer::V4));
    start(&[
        link("flannel.ipip", own),
        link("tunl0", Kind::Other("sit".into())),
    ])
    .unwrap();
    let error = start(&[link("flannel.ipip", Kind::Other("dummy".into()))]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "flannel.ipip isn't an ipip mode device, please remove device and try again"
    );
    let other = Kind::IpTunnel(IpTunnel::new(Outer::V4));
    let error = start(&[link("flannel.ip6ip6", other)]).unwrap_err();
    let name = "flannel.ip6ip6";
    assert!(matches!(error, Error::NotATunnel { name: found, .. } if found == name));
}

#[test]
fn device_of_go_flannel_is_adopted_and_another_local_address_is_not() {
    let plan = plan(PLAIN, &[], &fixtures::on_link(LAN));
    let wanted = &plan.state.devices["flannel.ipip"].link;
    let observed = |local: [u8; 4]| {
        let tunnel = IpTunnel {
            local: Some(local.into()),
            ..IpTunnel::new(Outer::V4)
        };
        device_link(&link("flannel.ipip", Kind::IpTunnel(tunnel)))
    };
    assert!(observed([172, 31, 0, 1]).adoptable_as(wanted));
    assert!(!observed([172, 31, 0, 9]).adoptable_as(wanted));
}

#[test]
fn routes_of_go_flannel_are_ours_by_their_shape() {
    let config = fixtures::config(DIRECT);
    let backend = fixtures::backend(&config).unwrap();
    let families = [Family {
        network: "10.244.0.0/16".parse().unwrap(),
        subnet: "10.244.1.0/24".parse().unwrap(),
    }];
    let owns = |dst: &str, onlink: bool, over_own_device: bool| {
        let route = HostRoute {
            onlink,
            ..HostRoute::new(dst.parse().unwrap(), [172, 31, 0, 2].into(), "x".into())
        };
        backend.owns_route(&CandidateRoute {
            route: &route,
            over_own_device,
            families: &families,
        })
    };
    assert!(owns("10.244.2.0/24", true, true));
    assert!(owns("10.9.2.0/24", true, true), "of an earlier network");
    assert!(owns("10.244.2.0/24", true, false), "its direct route");
    assert!(
        !owns("10.244.1.0/24", true, false),
        "this node's own subnet"
    );
    assert!(!owns("10.9.2.0/24", true, false), "a stranger's");
}
