use super::*;
use crate::underlay::fixtures::{
    DEPRECATED, DYNAMIC, PERMANENT, TEMPORARY, address, default_route, host, iface, v4_only,
};
use linux_net::address::AddressFlags;

fn both() -> Selector {
    Selector {
        ipv4: true,
        ipv6: true,
        ..Selector::default()
    }
}

fn chosen(selector: &Selector, host: &HostNetwork) -> String {
    match select(selector, host) {
        Ok(underlay) => underlay.to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn default_route_decides() {
    assert_eq!(chosen(&v4_only(), &host()), "eth0 (MTU 1500), 172.31.0.1");
    assert_eq!(
        chosen(&both(), &host()),
        "eth0 (MTU 1500), 172.31.0.1, fd31::1"
    );
    let v6 = Selector {
        ipv6: true,
        ..Selector::default()
    };
    assert_eq!(chosen(&v6, &host()), "eth0 (MTU 1500), fd31::1");
}

#[test]
fn missing_multipath_or_differing_default_routes_are_errors() {
    let mut none = host();
    none.routes.clear();
    assert!(
        chosen(&v4_only(), &none)
            .starts_with("Failed to find any valid interface to use: unable to find default route")
    );
    let mut multipath = host();
    multipath.routes[0].oif = None;
    assert!(
        chosen(&v4_only(), &multipath)
            .contains("found default route but could not determine interface")
    );
    let mut apart = host();
    apart.routes[1].oif = Some(3);
    assert!(chosen(&both(), &apart).contains(
        "v6 default route interface \"eth1\" must be the same with v4 default route interface \"eth0\""
    ));
}

#[test]
fn public_ip_selects_the_interface_that_has_it() {
    let selector = Selector {
        public_ip: Some("192.168.5.1".parse().unwrap()),
        ..v4_only()
    };
    assert_eq!(chosen(&selector, &host()), "eth1 (MTU 1500), 192.168.5.1");
    let not_on_host = Selector {
        public_ip: Some("203.0.113.9".parse().unwrap()),
        ..v4_only()
    };
    assert!(
        chosen(&not_on_host, &host())
            .starts_with("Failed to find any valid interface to use: error looking up interface")
    );
    let behind_nat = iface(not_on_host, &["eth1"]);
    assert_eq!(
        chosen(&behind_nat, &host()),
        "eth1 (MTU 1500), 192.168.5.1 known to peers as 203.0.113.9"
    );
}

#[test]
fn interface_options_are_tried_in_order() {
    assert_eq!(
        chosen(&iface(v4_only(), &["nope", "eth1", "eth0"]), &host()),
        "eth1 (MTU 1500), 192.168.5.1"
    );
    assert_eq!(
        chosen(&iface(v4_only(), &["172.31.0.101"]), &host()),
        "eth0 (MTU 1500), 172.31.0.101"
    );
    let text = chosen(&iface(v4_only(), &["nope", "10.9.9.9"]), &host());
    assert!(
        text.starts_with(
            "Failed to find interface to use that matches the interfaces and/or regexes provided"
        ),
        "{text}"
    );
    assert!(
        text.contains("-iface=nope") && text.contains("-iface=10.9.9.9"),
        "{text}"
    );
}

/// Go flannel crashes on the first and the last of these.
#[test]
fn one_address_selects_the_interface_for_both_families() {
    assert_eq!(
        chosen(&iface(both(), &["fd55::1"]), &host()),
        "eth1 (MTU 1500), 192.168.5.1, fd55::1"
    );
    assert_eq!(
        chosen(&iface(both(), &["192.168.5.1"]), &host()),
        "eth1 (MTU 1500), 192.168.5.1, fd55::1"
    );
    let public = Selector {
        public_ipv6: Some("fd31::abcd".parse().unwrap()),
        ..iface(both(), &["172.31.0.1"])
    };
    assert_eq!(
        chosen(&public, &host()),
        "eth0 (MTU 1500), 172.31.0.1, fd31::abcd"
    );
    let mut reached = host();
    reached.route_to_target = Some(Route {
        prefsrc: Some("fd55::1".parse().unwrap()),
        ..default_route(true, Some(3))
    });
    let selector = Selector {
        can_reach: Some("fd55::9".parse().unwrap()),
        ..both()
    };
    assert_eq!(
        chosen(&selector, &reached),
        "eth1 (MTU 1500), 192.168.5.1, fd55::1"
    );
}

#[test]
fn patterns_match_addresses_before_names() {
    let pattern = |text: &str| Selector {
        patterns: vec![Regex::new(text).unwrap()],
        ..v4_only()
    };
    assert_eq!(
        chosen(&pattern(r"^192\.168\."), &host()),
        "eth1 (MTU 1500), 192.168.5.1"
    );
    assert_eq!(
        chosen(&pattern(r"\.101$"), &host()),
        "eth0 (MTU 1500), 172.31.0.101"
    );
    assert_eq!(
        chosen(&pattern("h1$"), &host()),
        "eth1 (MTU 1500), 192.168.5.1"
    );
    assert!(chosen(&pattern("fd55"), &host()).contains(
        "could not match pattern fd55 to any of the available network interfaces (lo, eth0, eth1)"
    ), "an address of a family that the network has not");
    let then = Selector {
        interfaces: vec!["nope".to_owned()],
        ..pattern("eth1")
    };
    assert_eq!(
        chosen(&then, &host()),
        "eth1 (MTU 1500), 192.168.5.1",
        "after -iface"
    );
}

#[test]
fn can_reach_needs_a_route() {
    let mut host = host();
    let selector = Selector {
        can_reach: Some("192.168.5.9".parse().unwrap()),
        ..v4_only()
    };
    assert!(
        chosen(&selector, &host).contains("-iface-can-reach=192.168.5.9: there is no route to it")
    );
    host.route_to_target = Some(Route {
        prefsrc: Some("192.168.5.1".parse().unwrap()),
        ..default_route(false, Some(3))
    });
    assert_eq!(chosen(&selector, &host), "eth1 (MTU 1500), 192.168.5.1");
}

#[test]
fn best_address_is_global_then_permanent_then_stable() {
    let first = |flags: &[(&str, AddressFlags)]| {
        let mut host = host();
        host.addresses = flags
            .iter()
            .map(|(net, flags)| address(3, net, *flags))
            .collect();
        let family = flags[0].0.contains(':');
        let selector = Selector {
            ipv4: !family,
            ipv6: family,
            ..Selector::default()
        };
        chosen(&iface(selector, &["eth1"]), &host).replace("eth1 (MTU 1500), ", "")
    };
    assert_eq!(
        first(&[("169.254.1.1/16", PERMANENT), ("10.0.0.1/8", DYNAMIC)]),
        "10.0.0.1",
        "global first"
    );
    assert_eq!(
        first(&[("10.0.0.1/8", DYNAMIC), ("10.0.0.2/8", PERMANENT)]),
        "10.0.0.2",
        "then permanent"
    );
    assert_eq!(
        first(&[
            ("fd00::1/64", PERMANENT | TEMPORARY),
            ("fd00::2/64", PERMANENT)
        ]),
        "fd00::2",
        "then lasting"
    );
    assert_eq!(
        first(&[("10.0.0.1/8", PERMANENT), ("10.0.0.2/8", PERMANENT)]),
        "10.0.0.1",
        "then the kernel's order"
    );
    assert_eq!(
        first(&[
            ("10.0.0.1/8", PERMANENT | DEPRECATED),
            ("169.254.0.1/16", PERMANENT)
        ]),
        "169.254.0.1",
        "deprecated is out"
    );
    assert!(
        first(&[("10.0.0.1/8", PERMANENT | DEPRECATED)])
            .contains("failed to find IPv4 address for interface eth1")
    );
}

#[test]
fn zero_mtu_is_an_error() {
    let mut host = host();
    host.links[1].mtu = 0;
    assert!(chosen(&v4_only(), &host).contains("failed to determine MTU for interface eth0"));
}
