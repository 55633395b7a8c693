use super::*;
use proptest::prelude::*;
use serde_json::json;

fn dual_stack() -> AddResult {
    let net = |text| go_compat::cidr::parse(text).unwrap();
    let ip = |text| Some(go_compat::cidr::parse_ip(text).unwrap());
    AddResult {
        interfaces: vec![
            Interface {
                name: "cni0".into(),
                mac: "aa:bb:cc:dd:ee:ff".into(),
                ..Interface::default()
            },
            Interface {
                name: "eth0".into(),
                mtu: Some(1450),
                sandbox: "/run/netns/a&b".into(),
                pci_id: "0".into(),
                ..Interface::default()
            },
        ],
        ips: vec![
            IpConfig {
                interface: Some(0),
                address: net("10.244.1.2/24"),
                gateway: ip("10.244.1.1"),
            },
            IpConfig {
                interface: None,
                address: net("fc00::2/64"),
                gateway: None,
            },
        ],
        routes: vec![
            Route::new(net("10.244.0.0/16"), None),
            Route {
                priority: 5,
                table: Some(0),
                ..Route::new(net("::/0"), ip("fc00::1"))
            },
        ],
        dns: Dns::default(),
    }
}

#[test]
fn bytes_of_0_2_0() {
    let expected = r#"{
    "cniVersion": "0.2.0",
    "ip4": {
        "ip": "10.244.1.2/24",
        "gateway": "10.244.1.1",
        "routes": [
            {
                "dst": "10.244.0.0/16"
            }
        ]
    },
    "ip6": {
        "ip": "fc00::2/64",
        "routes": [
            {
                "dst": "::/0",
                "gw": "fc00::1"
            }
        ]
    },
    "dns": {}
}"#;
    assert_eq!(dual_stack().to_json(Version::V0_2_0).unwrap(), expected);
}

#[test]
fn bytes_of_0_3_1() {
    let expected = r#"{
    "cniVersion": "0.3.1",
    "interfaces": [
        {
            "name": "cni0",
            "mac": "aa:bb:cc:dd:ee:ff"
        },
        {
            "name": "eth0",
            "sandbox": "/run/netns/a\u0026b"
        }
    ],
    "ips": [
        {
            "version": "4",
            "interface": 0,
            "address": "10.244.1.2/24",
            "gateway": "10.244.1.1"
        },
        {
            "version": "6",
            "address": "fc00::2/64"
        }
    ],
    "routes": [
        {
            "dst": "10.244.0.0/16"
        },
        {
            "dst": "::/0",
            "gw": "fc00::1",
            "priority": 5,
            "table": 0
        }
    ],
    "dns": {}
}"#;
    assert_eq!(dual_stack().to_json(Version::V0_3_1).unwrap(), expected);
}

#[test]
fn bytes_of_1_1_0() {
    let mut result = dual_stack();
    result.routes.clear();
    result.dns.search = vec!["a.example".into()];
    let expected = r#"{
    "cniVersion": "1.1.0",
    "dns": {
        "search": [
            "a.example"
        ]
    },
    "interfaces": [
        {
            "mac": "aa:bb:cc:dd:ee:ff",
            "name": "cni0"
        },
        {
            "mtu": 1450,
            "name": "eth0",
            "pciID": "0",
            "sandbox": "/run/netns/a\u0026b"
        }
    ],
    "ips": [
        {
            "address": "10.244.1.2/24",
            "gateway": "10.244.1.1",
            "interface": 0
        },
        {
            "address": "fc00::2/64"
        }
    ]
}"#;
    assert_eq!(result.to_json(Version::V1_1_0).unwrap(), expected);
    let older = result.to_json(Version::V1_0_0).unwrap();
    assert_eq!(older, expected.replace("1.1.0", "1.0.0"));
}

#[test]
fn empty_result_has_only_a_version() {
    let empty = AddResult::default();
    let error = empty.to_json(Version::V0_2_0).unwrap_err();
    assert_eq!(
        (error.code, error.msg.as_str()),
        (999, "cannot convert: no valid IP addresses")
    );
    let text = |version| empty.to_json(version).unwrap();
    assert_eq!(
        text(Version::V0_4_0),
        "{\n    \"cniVersion\": \"0.4.0\",\n    \"dns\": {}\n}"
    );
    assert_eq!(text(Version::V1_0_0), "{\n    \"cniVersion\": \"1.0.0\"\n}");
    assert_eq!(AddResult::parse(b"null", Version::CURRENT), Ok(empty));
}

#[test]
fn before_0_3_0_only_the_first_address_of_a_family_is_written() {
    let mut result = dual_stack();
    result.ips.insert(
        1,
        IpConfig {
            gateway: None,
            ..result.ips[0].clone()
        },
    );
    assert_eq!(
        result.to_json(Version::V0_1_0).unwrap(),
        dual_stack().to_json(Version::V0_1_0).unwrap()
    );
}

#[test]
fn version_inside_wins() {
    let old = br#"{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.2/8"}}"#;
    assert_eq!(
        AddResult::parse(old, Version::CURRENT).unwrap().ips.len(),
        1
    );
    let without = br#"{"ip4":{"ip":"10.0.0.2/8"}}"#;
    assert_eq!(
        AddResult::parse(without, Version::V0_1_0)
            .unwrap()
            .ips
            .len(),
        1
    );
    assert_eq!(
        AddResult::parse(without, Version::CURRENT),
        Ok(AddResult::default())
    );
}

#[test]
fn errors_name_the_key() {
    for (json, message) in [
        (
            json!({"ips": [{"address": "10.0.0.1"}]}),
            "ips.address: invalid CIDR address: 10.0.0.1",
        ),
        (json!({"ips": [{}]}), "ips.address: invalid CIDR address: "),
        (
            json!({"ips": [{"address": "10.0.0.1/8", "gateway": "x"}]}),
            "ips.gateway: invalid IP address: x",
        ),
        (
            json!({"routes": [{"gw": "10.0.0.1"}]}),
            "routes: dst: invalid CIDR address: ",
        ),
        (
            json!({"ips": [{"address": 5}]}),
            "json: cannot unmarshal number 5 into field ips.address of type string",
        ),
    ] {
        let error = AddResult::from_value(&json, Version::CURRENT).unwrap_err();
        assert_eq!(
            (error.code, error.msg),
            (6, format!("error unmarshalling result: {message}"))
        );
    }
    let error =
        AddResult::from_value(&json!({"cniVersion": "9.9.9"}), Version::CURRENT).unwrap_err();
    assert_eq!(error.msg, r#"unsupported CNI result version "9.9.9""#);
}

fn network(v4: bool) -> impl Strategy<Value = IpNetwork> {
    (any::<u64>(), 0u8..=32).prop_map(move |(bits, length)| match v4 {
        true => IpNetwork::new(IpAddr::V4((bits as u32).into()), length).unwrap(),
        false => IpNetwork::new(
            IpAddr::V6((0xfd00_u128 << 112 | u128::from(bits)).into()),
            length * 4,
        )
        .unwrap(),
    })
}

fn any_network() -> impl Strategy<Value = IpNetwork> {
    any::<bool>().prop_flat_map(network)
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(".{0,6}", 0..3)
}

fn gateway() -> impl Strategy<Value = Option<IpAddr>> {
    prop::option::of(any_network().prop_map(|net| net.ip()))
}

prop_compose! {
    fn interface()(name in ".{0,6}", mac in "[0-9a-f:]{0,17}", mtu in prop::option::of(1u32..), sandbox in ".{0,6}",
        socket_path in ".{0,3}", pci_id in ".{0,3}") -> Interface {
        Interface { name, mac, mtu, sandbox, socket_path, pci_id }
    }
}

prop_compose! {
    fn ip_config()(interface in prop::option::of(0usize..9), address in any_network(), gateway in gateway()) -> IpConfig {
        IpConfig { interface, address, gateway }
    }
}

prop_compose! {
    fn route()(dst in any_network(), gw in gateway(), mtu: u32, advmss: u32, priority: u32,
        table: Option<u32>, scope: Option<u8>) -> Route {
        Route { dst, gw, mtu, advmss, priority, table, scope }
    }
}

prop_compose! {
    fn dns()(nameservers in texts(), domain in ".{0,6}", search in texts(), options in texts()) -> Dns {
        Dns { nameservers, domain, search, options }
    }
}

prop_compose! {
    fn result()(interfaces in prop::collection::vec(interface(), 0..3), ips in prop::collection::vec(ip_config(), 0..4),
        routes in prop::collection::vec(route(), 0..4), dns in dns()) -> AddResult {
        AddResult { interfaces, ips, routes, dns }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_is_lost_from_1_0_0_on(result in result()) {
        for version in Version::V1_1_0.family() {
            let text = result.to_json(*version).unwrap();
            prop_assert_eq!(AddResult::parse(text.as_bytes(), Version::V0_1_0), Ok(result.clone()));
            let value = result.to_value(*version).unwrap();
            prop_assert_eq!(AddResult::from_value(&value, Version::V0_1_0), Ok(result.clone()));
        }
    }

    /// After that one loss, each conversion to a version and back gives the same.
    #[test]
    fn conversions_lose_only_what_the_version_cannot_hold(result in result()) {
        for target in Version::ALL {
            let Ok(text) = result.to_json(*target) else {
                prop_assert!(*target < Version::V0_3_0 && result.ips.is_empty());
                continue;
            };
            let known = AddResult::parse(text.as_bytes(), Version::CURRENT).unwrap();
            prop_assert_eq!(known.ips.is_empty(), result.ips.is_empty());
            prop_assert_eq!(&known.dns, &result.dns);
            for way in Version::ALL.iter().filter(|way| *way >= target) {
                let there = known.to_json(*way).unwrap();
                let back = AddResult::parse(there.as_bytes(), Version::CURRENT).unwrap();
                prop_assert_eq!(back.to_json(*target).unwrap(), &*text);
            }
        }
    }

    #[test]
    fn no_text_panics(text in any::<String>(), address in "[0-9a-f./:]{0,12}") {
        AddResult::parse(text.as_bytes(), Version::CURRENT).ok();
        AddResult::from_value(&json!({"ips": [{"address": address}]}), Version::CURRENT).ok();
        AddResult::from_value(&json!({"ip4": {"ip": address}}), Version::V0_1_0).ok();
    }
}
