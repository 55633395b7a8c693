use super::*;
use crate::{
    backend::fixtures::{backend, config, decoded, lease, on_link, underlay},
    model::lease::Lease,
};

fn plan(backend_json: &str, leases: &[Lease]) -> Plan {
    let config = config(backend_json);
    let backend = backend(&config).unwrap();
    let leases = decoded(&*backend, leases);
    backend.plan(&Input {
        config: &config,
        underlay: &underlay(),
        own: &lease(1, ""),
        leases: &leases,
        routes: &on_link(&[]),
    })
}

#[test]
fn device_has_both_families_and_the_process_every_peer() {
    let plan = plan(
        r#"{"Type":"udp"}"#,
        &[lease(1, ""), lease(2, ""), lease(3, "vxlan")],
    );
    let device = &plan.state.devices["flannel0"];
    assert_eq!(
        (device.link.mtu, &device.link.kind),
        (1452, &DeviceKind::Tun)
    );
    let addresses: Vec<_> = device.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.244.1.0/32", "fd00:10:244:1::/128"]);
    let routes: Vec<_> = plan
        .state
        .routes
        .iter()
        .map(|route| (route.dst.to_string(), route.gateway))
        .collect();
    assert_eq!(
        routes,
        [
            ("10.244.0.0/16".to_owned(), None),
            ("fd00:10:244::/48".to_owned(), None)
        ]
    );
    let config = &plan.data_path[0];
    assert_eq!((config.port, config.port_v6), (Some(8285), Some(8285)));
    assert_eq!(config.address, Some([10, 244, 1, 0].into()));
    let EngineConfig::Udp { own, routes } = &config.engine else {
        panic!("another engine");
    };
    assert_eq!(own, &["10.244.1.0/24", "fd00:10:244:1::/64"]);
    assert_eq!(
        routes,
        &[
            (
                "10.244.2.0/24".to_owned(),
                "172.31.0.2:8285".parse().unwrap()
            ),
            (
                "fd00:10:244:2::/64".to_owned(),
                "[fd31::2]:8285".parse().unwrap()
            ),
        ]
    );
    let skipped: Vec<_> = plan.skipped.iter().map(ToString::to_string).collect();
    assert_eq!(skipped.len(), 2, "{skipped:?}");
    assert!(
        skipped[0].contains(r#"its backend is "vxlan""#),
        "{skipped:?}"
    );
}

#[test]
fn lease_names_no_backend_as_upstreams() {
    let backend = backend(&config(r#"{"Type":"udp"}"#)).unwrap();
    let attrs = backend.lease_attrs(&underlay());
    assert_eq!(
        (attrs.backend_type.as_str(), attrs.backend_data),
        ("", None)
    );
}

#[test]
fn keys_change_port_and_mtu() {
    let with = |backend: &str| plan(backend, &[lease(2, "")]);
    let plan = with(r#"{"Type":"UDP","port":9000,"MTU":1400}"#);
    assert_eq!(plan.data_path[0].port_v6, Some(9000));
    assert_eq!(plan.state.devices["flannel0"].link.mtu, 1352);
    let plan = with(r#"{"Type":"udp","MTU":9000}"#);
    assert_eq!(plan.state.devices["flannel0"].link.mtu, 1452);
    for bad in [
        r#"{"Type":"udp","Port":70000}"#,
        r#"{"Type":"udp","MTU":1327}"#,
    ] {
        assert!(backend(&config(bad)).is_err(), "{bad}");
    }
}

#[test]
fn without_ipv6_packets_have_its_bytes() {
    let text = r#"{"Network":"10.244.0.0/16"}"#;
    let config = NetworkConfig::parse(text).unwrap();
    let backend = backend(&config).unwrap();
    assert_eq!(backend.pod_mtu(&underlay()), 1472);
}
