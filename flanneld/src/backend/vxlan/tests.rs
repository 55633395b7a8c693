use super::*;
use crate::{
    backend::fixtures::{self, OWN_MAC, config, underlay},
    files::node_state::NodeState,
    model::{
        Family,
        lease::{Lease, LeaseAttrs},
        node_record::NodeRecord,
    },
    underlay::UnderlayRoutes,
};
use ipnetwork::IpNetwork;
use linux_net::route::Route;
use std::{
    path::Path,
    time::{Duration, SystemTime},
};

fn vxlan(keys: &str) -> Result<Vxlan, Error> {
    let mut state = NodeState::load(Path::new("/nonexistent/node.json"));
    for name in ["flannel.1", "flannel-v6.1", "flannel.5", "flannel.7"] {
        state.mac(name, [Some(OWN_MAC), None]).unwrap();
    }
    let mut node = NodeIdentity {
        state: &mut state,
        links: &[],
        record: &NodeRecord::default(),
        run_folder: Path::new("/nonexistent"),
    };
    Vxlan::new(&config(keys), &mut node)
}

fn lease(number: u8, data: Value) -> Lease {
    Lease {
        subnets: format!("10.244.{number}.0-24&fd00:10:244:{number}::-64")
            .parse()
            .unwrap(),
        attrs: LeaseAttrs {
            public_ip: Some(format!("172.31.0.{number}").parse().unwrap()),
            public_ipv6: Some(format!("fd31::{number}").parse().unwrap()),
            backend_type: "vxlan".to_owned(),
            backend_data: Some(data.clone()),
            backend_v6_data: Some(data),
        },
        expiration: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - u64::from(number))),
    }
}

fn mac(number: u8) -> Value {
    json!({"VNI": 1, "VtepMAC": format!("02:00:00:00:01:{number:02x}")})
}

fn plan(keys: &str, leases: &[Lease], routes: &UnderlayRoutes) -> Plan {
    let backend = vxlan(keys).unwrap();
    backend.plan(&Input {
        config: &config(keys),
        underlay: &underlay(),
        own: &lease(1, mac(1)),
        leases: &fixtures::decoded(&backend, leases),
        routes,
    })
}

/// `dst gateway device onlink` of each route to such a subnet.
fn routes(plan: &Plan, of: impl Fn(&IpNetwork) -> bool) -> Vec<String> {
    let routes = plan.state.routes.iter().filter(|route| of(&route.dst));
    routes
        .map(|route| {
            format!(
                "{} {} {} {}",
                route.dst,
                route.gateway.unwrap(),
                route.device,
                route.onlink
            )
        })
        .collect()
}

const PLAIN: &str = r#"{"Type":"vxlan"}"#;

/// Behind a NAT only the lease has the public addresses.
#[test]
fn device_has_the_interfaces_address_whatever_the_public_one_is() {
    let behind_nat = Underlay {
        public_ip: Some("203.0.113.1".parse().unwrap()),
        public_ipv6: Some("2001:db8::1".parse().unwrap()),
        ..underlay()
    };
    let backend = vxlan(PLAIN).unwrap();
    let published = backend.lease_attrs(&behind_nat);
    assert_eq!(published.public_ip, behind_nat.public_ip);
    assert_eq!(published.public_ipv6, behind_nat.public_ipv6);
    let mut own = lease(1, mac(1));
    for overwritten in [published.public_ip, Some("198.51.100.7".parse().unwrap())] {
        own.attrs.public_ip = overwritten;
        let plan = backend.plan(&Input {
            config: &config(PLAIN),
            underlay: &behind_nat,
            own: &own,
            leases: &fixtures::decoded(&backend, &[lease(2, mac(2))]),
            routes: &UnderlayRoutes::default(),
        });
        for (device, local) in [("flannel.1", "172.31.0.1"), ("flannel-v6.1", "fd31::1")] {
            let DeviceKind::Vxlan(vxlan) = &plan.state.devices[device].link.kind else {
                panic!("{device} is a vxlan device");
            };
            assert_eq!(vxlan.local.unwrap().to_string(), local);
        }
        assert_eq!(plan.peers.len(), 2);
    }
}

#[test]
fn peer_gets_route_neighbour_and_fdb_entry_in_each_family() {
    let plan = plan(
        PLAIN,
        &[lease(1, mac(1)), lease(2, mac(2))],
        &UnderlayRoutes::default(),
    );
    assert_eq!((plan.peers.len(), &plan.skipped), (2, &vec![]));
    let device = &plan.state.devices["flannel.1"];
    let vtep: Mac = "02:00:00:00:01:02".parse().unwrap();
    assert_eq!(device.addresses, ["10.244.1.0/32".parse().unwrap()].into());
    assert_eq!(
        device.neighbours,
        [("10.244.2.0".parse().unwrap(), vtep)].into()
    );
    assert_eq!(device.fdb, [(vtep, "172.31.0.2".parse().unwrap())].into());
    assert_eq!(
        (device.link.mtu, device.link.mac, device.link.up),
        (1450, Some(OWN_MAC), true)
    );
    let device = &plan.state.devices["flannel-v6.1"];
    assert_eq!(
        device.addresses,
        ["fd00:10:244:1::/128".parse().unwrap()].into()
    );
    assert_eq!(device.fdb, [(vtep, "fd31::2".parse().unwrap())].into());
    assert_eq!(device.link.mtu, 1430, "the outer header is 20 bytes longer");
    assert_eq!(
        routes(&plan, |_| true),
        [
            "10.244.2.0/24 10.244.2.0 flannel.1 true",
            "fd00:10:244:2::/64 fd00:10:244:2:: flannel-v6.1 true",
        ]
    );
}

#[test]
fn published_attributes_have_upstreams_bytes() {
    let attrs = vxlan(r#"{"type":"VXLAN","vni":7}"#)
        .unwrap()
        .lease_attrs(&underlay());
    assert_eq!(attrs.backend_type, "vxlan");
    assert_eq!(
        attrs.backend_data.unwrap().to_string(),
        r#"{"VNI":7,"VtepMAC":"02:00:00:00:00:01"}"#
    );
    assert_eq!(attrs.public_ipv6, underlay().public_ipv6);
    let attrs = vxlan(r#"{"type":"VXLAN","vni":7,"port":4789}"#)
        .unwrap()
        .lease_attrs(&underlay());
    assert_eq!(
        attrs.backend_data.unwrap(),
        json!({"VNI": 7, "VtepMAC": "02:00:00:00:00:01", "Port": 4789}),
        "another port is told"
    );
}

#[test]
fn absent_port_is_the_kernels_default() {
    let backend = vxlan(PLAIN).unwrap();
    let own = OwnFamily {
        family: Family {
            network: "10.0.0.0/8".parse().unwrap(),
            subnet: "10.1.0.0/24".parse().unwrap(),
        },
        public_ip: "1.2.3.4".parse().unwrap(),
        selected_public_ip: "203.0.113.1".parse().unwrap(),
        local: "1.2.3.4".parse().unwrap(),
    };
    let wanted = backend.link(&own, &underlay(), OWN_MAC);
    let mut observed = wanted.clone();
    let DeviceKind::Vxlan(link) = &mut observed.kind else {
        panic!("not vxlan")
    };
    assert_eq!(link.port, Some(backend.keys.port));
    link.port = Some(4789);
    assert!(
        !observed.adoptable_as(&wanted),
        "a device of an earlier Port is made again"
    );
}

#[test]
fn vni_whose_device_name_is_too_long_is_refused() {
    let v4 = |vni| {
        let config = NetworkConfig::parse(&format!(
            r#"{{"Network":"10.244.0.0/16","Backend":{{"Type":"vxlan","VNI":{vni}}}}}"#
        ));
        fixtures::backend(&config.unwrap()).map(drop)
    };
    v4(9_999_999).unwrap();
    let error = v4(10_000_000).unwrap_err().to_string();
    assert!(
        error.starts_with("Backend.VNI 10000000") && error.contains("flannel.10000000"),
        "{error}"
    );
    vxlan(r#"{"Type":"vxlan","VNI":9999}"#).unwrap();
    let error = vxlan(r#"{"Type":"vxlan","VNI":10000}"#)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("Backend.VNI 10000 ") && error.contains("flannel-v6.10000"),
        "{error}"
    );
}

#[test]
fn peers_with_other_settings_are_skipped_by_name() {
    for (keys, data, reason) in [
        (
            PLAIN,
            json!({"VNI": 2, "VtepMAC": "02:00:00:00:01:03"}),
            "10.244.3.0/24: its Backend.VNI is 2, this node's is 1: ",
        ),
        (
            PLAIN,
            json!({"VNI": 1, "VtepMAC": "02:00:00:00:01:03", "Port": 4789}),
            "10.244.3.0/24: its Backend.Port is 4789, this node's is 8472: ",
        ),
    ] {
        let mut other = lease(3, mac(3));
        other.attrs.backend_data = Some(data);
        let plan = plan(keys, &[other, lease(2, mac(2))], &UnderlayRoutes::default());
        assert_eq!(plan.peers.len(), 3, "the other families stay");
        let skipped = plan.skipped[0].to_string();
        assert!(
            skipped.starts_with(reason) && skipped.ends_with("(node 172.31.0.3)"),
            "{skipped}"
        );
    }
    let unknown = r#"{"Type":"vxlan","Port":4789}"#;
    let plan = plan(unknown, &[lease(2, mac(2))], &UnderlayRoutes::default());
    assert!(plan.skipped.is_empty(), "Go flannel publishes no port");
}

#[test]
fn keys_are_read_as_go_reads_them() {
    let backend = vxlan(r#"{"Type":"vxlan","vni":5,"PORT":4789,"mtu":1400,"gbp":true,"learning":true,"unknown":[]}"#).unwrap();
    assert_eq!(&*backend.names[0], "flannel.5");
    let own = OwnFamily {
        family: Family {
            network: "10.0.0.0/8".parse().unwrap(),
            subnet: "10.1.0.0/24".parse().unwrap(),
        },
        public_ip: "203.0.113.9".parse().unwrap(),
        selected_public_ip: "203.0.113.1".parse().unwrap(),
        local: "1.2.3.4".parse().unwrap(),
    };
    let DeviceKind::Vxlan(link) = backend.link(&own, &underlay(), OWN_MAC).kind else {
        panic!("not vxlan")
    };
    assert_eq!(
        (link.vni, link.port, link.gbp, link.learning),
        (5, Some(4789), true, true)
    );
    assert_eq!((link.lower, link.local), (Some(2), Some(own.local)));
    assert_eq!(backend.pod_mtu(&underlay()), 1330);
    for (bad, reason) in [
        (
            r#"{"Type":"vxlan","VNI":"x"}"#,
            "error decoding VXLAN backend config: json: cannot unmarshal string into field VNI ",
        ),
        (
            r#"{"Type":"vxlan","VNI":-1}"#,
            "error decoding VXLAN backend config",
        ),
        (
            r#"{"Type":"vxlan","Port":70000}"#,
            "error decoding VXLAN backend config: json: cannot unmarshal number 70000 into field Port ",
        ),
        (
            r#"{"Type":"vxlan","VNI":16777216}"#,
            "VNI 16777216 is too large",
        ),
        (r#"{"Type":"vxlan","MTU":1300}"#, "MTU 1300 is too small"),
    ] {
        let error = vxlan(bad).unwrap_err().to_string();
        assert!(error.contains(reason), "{bad}: {error}");
    }
}

#[test]
fn mtu_is_limited_by_the_interface() {
    assert_eq!(
        vxlan(r#"{"Type":"vxlan","MTU":9000}"#)
            .unwrap()
            .pod_mtu(&underlay()),
        1430
    );
}

/// As Go flannel writes it. With IPv6, the smaller of both: a pod has one MTU.
#[test]
fn pod_mtu_of_ipv4_alone_is_upstreams() {
    let v4 = r#"{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}"#;
    let v4 = NetworkConfig::parse(v4).unwrap();
    let backend = fixtures::backend(&v4).unwrap();
    assert_eq!(backend.pod_mtu(&underlay()), 1450);
    assert_eq!(vxlan(PLAIN).unwrap().pod_mtu(&underlay()), 1430);
}

#[test]
fn invalid_backend_data_skips_one_family_of_one_peer() {
    let good = lease(2, mac(2));
    for (data, reason) in [
        (Value::Null, "no vxlan backend data"),
        (json!("x"), "no vxlan backend data"),
        (json!([1]), "no vxlan backend data"),
        (json!({}), "no VtepMAC"),
        (json!({"VNI": 4096, "VtepMAC": ""}), "no VtepMAC"),
        (json!({"VtepMAC": 7}), "cannot be read"),
        (json!({"VtepMAC": "zz:zz"}), "is not a MAC address"),
        (
            json!({"VtepMAC": "00:00:00:00:00:00"}),
            "not a device's address",
        ),
        (
            json!({"VtepMAC": "01:00:5e:00:00:01"}),
            "not a device's address",
        ),
        (
            json!({"VtepMAC": "ff:ff:ff:ff:ff:ff"}),
            "not a device's address",
        ),
        (
            json!({"VtepMAC": OWN_MAC.to_string()}),
            "is also that of 172.31.0.1",
        ),
        (mac(2), "is also that of 172.31.0.2"),
    ] {
        let mut bad = lease(3, mac(3));
        bad.attrs.backend_data = Some(data.clone());
        let plan = plan(PLAIN, &[bad, good.clone()], &UnderlayRoutes::default());
        assert_eq!(
            plan.peers.len(),
            3,
            "{data}: the other peer's families and this one's IPv6"
        );
        assert_eq!(plan.skipped.len(), 1);
        assert_eq!(plan.skipped[0].subnet.to_string(), "10.244.3.0/24");
        assert!(
            plan.skipped[0].reason.to_string().contains(reason),
            "{data}: {:?}",
            plan.skipped
        );
    }
}

/// A node that comes back with another address leaves a lease behind: its MAC is where the newer
/// lease says.
#[test]
fn newest_lease_decides_where_a_vtep_mac_is() {
    let (mut old, new) = (lease(9, mac(2)), lease(2, mac(2)));
    old.expiration = Some(SystemTime::UNIX_EPOCH);
    let plan = plan(PLAIN, &[old, new], &UnderlayRoutes::default());
    let fdb = &plan.state.devices["flannel.1"].fdb;
    assert_eq!(
        fdb.iter()
            .map(|(_, dst)| dst.to_string())
            .collect::<Vec<_>>(),
        ["172.31.0.2"]
    );
}

#[test]
fn direct_routing_is_used_without_a_gateway_in_between() {
    let mut connected = Route::new("172.31.0.0/24".parse().unwrap());
    connected.oif = Some(2);
    let underlay_routes = UnderlayRoutes::new([&connected], |_| false);
    let mut far = lease(3, mac(3));
    far.attrs.public_ip = Some("192.0.2.3".parse().unwrap());
    let plan = plan(
        r#"{"Type":"vxlan","DirectRouting":true}"#,
        &[lease(2, mac(2)), far],
        &underlay_routes,
    );
    assert_eq!(
        routes(&plan, IpNetwork::is_ipv4),
        [
            "10.244.2.0/24 172.31.0.2 eth0 false",
            "10.244.3.0/24 10.244.3.0 flannel.1 true"
        ]
    );
    assert_eq!(plan.state.devices["flannel.1"].fdb.len(), 1);
}

#[test]
fn devices_of_disabled_families_are_ours_too() {
    let config =
        NetworkConfig::parse(r#"{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}"#).unwrap();
    let backend = fixtures::backend(&config).unwrap();
    assert_eq!(
        backend.device_names().len(),
        2,
        "the IPv6 device of an earlier configuration is ours to remove"
    );
    assert_eq!(backend.lease_attrs(&underlay()).backend_v6_data, None);
}
