use super::*;
use proptest::prelude::*;

fn checked(text: &str) -> Result<NetworkConfig, Error> {
    let mut config = NetworkConfig::parse(text)?;
    config.check_subnets()?;
    Ok(config)
}

#[test]
fn absent_keys_have_upstreams_defaults() {
    let config = checked(r#"{"Network":"10.3.0.0/16","EnableIPv4":null}"#).unwrap();
    assert!(config.enable_ipv4, "null is the default");
    let config = checked(r#"{"Network":"10.3.0.0/16"}"#).unwrap();
    assert!(config.enable_ipv4 && !config.enable_ipv6 && !config.enable_nftables);
    assert_eq!(config.backend_type, "udp");
    assert_eq!(config.subnet_len, 24);
    assert_eq!(config.subnet_min, Some([10, 3, 1, 0].into()));
    assert_eq!(config.subnet_max, Some([10, 3, 255, 0].into()));
}

#[test]
fn keys_match_in_any_case_and_for_both_families() {
    let config = checked(
        r#"{"network":"10.3.7.9/16","enableIPv6":true,"ipv6Network":"fc00::/48","ENABLENFTABLES":true,
            "subnetlen":28,"SubnetMin":"10.3.5.0","SubnetMax":"10.3.8.0","backend":{"type":"VXLAN","VNI":7},"x":[]}"#,
    )
    .unwrap();
    assert_eq!(config.network, Some("10.3.0.0/16".parse().unwrap()));
    assert_eq!(config.ipv6_network, Some("fc00::/48".parse().unwrap()));
    assert!(config.enable_ipv6 && config.enable_nftables);
    assert_eq!((config.subnet_len, config.ipv6_subnet_len), (28, 64));
    assert_eq!(config.subnet_min, Some([10, 3, 5, 0].into()));
    assert_eq!(
        config.ipv6_subnet_min,
        Some("fc00:0:0:1::".parse().unwrap())
    );
    assert_eq!(
        config.ipv6_subnet_max,
        Some("fc00:0:0:ffff::".parse().unwrap())
    );
    assert_eq!(config.backend_type, "vxlan");
    assert_eq!(config.backend["VNI"], 7);
}

#[test]
fn backend_without_type_has_an_empty_type() {
    assert_eq!(
        NetworkConfig::parse(r#"{"Backend":{}}"#)
            .unwrap()
            .backend_type,
        ""
    );
}

#[test]
fn bad_values_are_refused_with_upstreams_messages() {
    for (text, message) in [
        (
            r#"{"Network":"10.3.0.0"}"#,
            "Network: invalid CIDR address: 10.3.0.0",
        ),
        (
            r#"{"Network":"fc00::/48"}"#,
            "Network: invalid IPv4 CIDR format",
        ),
        (
            r#"{"IPv6Network":"10.3.0.0/16"}"#,
            "IPv6Network: invalid IPv6 CIDR format",
        ),
        (
            r#"{"SubnetMin":"10.3.0"}"#,
            "SubnetMin: invalid IP address format: 10.3.0",
        ),
        (
            r#"{"SubnetMax":"fc00::"}"#,
            "SubnetMax: invalid IPv4 address format",
        ),
        (
            r#"{"IPv6SubnetMin":"10.3.0.0"}"#,
            "IPv6SubnetMin: invalid IPv6 address format",
        ),
    ] {
        let error = NetworkConfig::parse(text).unwrap_err();
        assert_eq!(error.to_string(), message, "{text}");
    }
    for text in [
        "",
        "{",
        "[]",
        r#"{"Network":7}"#,
        r#"{"EnableIPv4":"yes"}"#,
        r#"{"SubnetLen":-1}"#,
        r#"{"SubnetLen":"24"}"#,
        r#"{"Backend":"vxlan"}"#,
        r#"{"Backend":{"Type":7}}"#,
    ] {
        assert!(NetworkConfig::parse(text).is_err(), "{text}");
    }
}

#[test]
fn bad_subnets_are_refused_with_upstreams_messages() {
    let v4 = |rest: &str| format!(r#"{{"Network":"10.3.0.0/16"{rest}}}"#);
    let v6 = |rest: &str| {
        format!(r#"{{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/48"{rest}}}"#)
    };
    for (text, message) in [
        (
            "{}".into(),
            "please define a correct Network parameter in the flannel config",
        ),
        (
            r#"{"Network":"0.0.0.0/0"}"#.into(),
            "please define a correct Network parameter in the flannel config",
        ),
        (v4(r#","SubnetLen":31"#), "SubnetLen must be less than /31"),
        (v4(r#","SubnetLen":300"#), "SubnetLen must be less than /31"),
        (
            v4(r#","SubnetLen":17"#),
            "SubnetLen: network must be able to accommodate at least four subnets",
        ),
        (
            r#"{"Network":"10.3.0.0/29"}"#.into(),
            "Network is too small. Minimum useful network prefix is /28",
        ),
        (
            v4(r#","SubnetMin":"10.4.0.0""#),
            "SubnetMin is not in the range of the Network",
        ),
        (
            v4(r#","SubnetMax":"10.2.0.0""#),
            "SubnetMax is not in the range of the Network",
        ),
        (
            v4(r#","SubnetMin":"10.3.0.1""#),
            "SubnetMin is not on a SubnetLen boundary: 10.3.0.1",
        ),
        (
            v4(r#","SubnetMax":"10.3.9.1""#),
            "SubnetMax is not on a SubnetLen boundary: 10.3.9.1",
        ),
        (
            r#"{"EnableIPv4":false,"EnableIPv6":true}"#.into(),
            "please define a correct IPv6Network parameter in the flannel config",
        ),
        (
            v6(r#","IPv6SubnetLen":127"#),
            "IPv6SubnetLen must be less than /127",
        ),
        (
            v6(r#","IPv6SubnetLen":49"#),
            "IPv6SubnetLen: network must be able to accommodate at least four subnets",
        ),
        (
            v6(r#","IPv6Network":"fc00::/125""#),
            "IPv6Network is too small. Minimum useful network prefix is /124",
        ),
        (
            v6(r#","IPv6SubnetMin":"fd00::""#),
            "IPv6SubnetMin is not in the range of the IPv6Network",
        ),
        (
            v6(r#","IPv6SubnetMax":"fb00::""#),
            "IPv6SubnetMax is not in the range of the IPv6Network",
        ),
        (
            v6(r#","IPv6SubnetMin":"fc00::1""#),
            "IPv6SubnetMin is not on a SubnetLen boundary: fc00::1",
        ),
        (
            v6(r#","IPv6SubnetMax":"fc00::1""#),
            "IPv6SubnetMax is not on a SubnetLen boundary: fc00::1",
        ),
        (
            v4(r#","SubnetMin":"10.3.9.0","SubnetMax":"10.3.5.0""#),
            "SubnetMin 10.3.9.0 is above SubnetMax 10.3.5.0",
        ),
        (
            v6(r#","IPv6SubnetMin":"fc00:0:0:9::","IPv6SubnetMax":"fc00:0:0:5::""#),
            "IPv6SubnetMin fc00:0:0:9:: is above IPv6SubnetMax fc00:0:0:5::",
        ),
    ] {
        let error = checked(&text).unwrap_err();
        assert_eq!(error.to_string(), message, "{text}");
    }
}

#[test]
fn wrong_type_is_refused_by_the_name_of_its_key() {
    for (text, key) in [
        (r#"{"Network":7}"#, "field Network "),
        (
            r#"{"network":"10.3.0.0/16","subnetLen":"24"}"#,
            "field SubnetLen ",
        ),
        (
            r#"{"EnableIPv6":"yes","Network":"10.3.0.0/16"}"#,
            "field EnableIPv6 ",
        ),
        (r#"{"Backend":{"Type":7}}"#, "field Type "),
    ] {
        let error = NetworkConfig::parse(text).unwrap_err().to_string();
        assert!(error.contains(key), "{text}: {error}");
    }
}

#[test]
fn networks_that_no_pod_can_have_are_refused() {
    for (network, range) in [
        ("127.0.0.0/16", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("168.0.0.0/6", "link-local"),
        ("239.1.0.0/16", "multicast"),
        ("192.0.0.0/2", "multicast"),
        ("0.1.0.0/16", "this network"),
    ] {
        let text = format!(r#"{{"Network":"{network}"}}"#);
        let error = NetworkConfig::parse(&text).unwrap_err().to_string();
        assert!(
            error.starts_with("Network ") && error.contains(range),
            "{error}"
        );
    }
    for (network, range) in [
        ("::/120", "loopback"),
        ("fe80::/64", "link-local"),
        ("ff05::/64", "multicast"),
    ] {
        let text = format!(
            r#"{{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"{network}","Network":"127.0.0.0/8"}}"#
        );
        let error = NetworkConfig::parse(&text).unwrap_err().to_string();
        assert!(
            error.starts_with("IPv6Network ") && error.contains(range),
            "{error}"
        );
    }
    for network in [
        "10.244.0.0/16",
        "100.64.0.0/10",
        "172.16.0.0/12",
        "240.0.0.0/8",
    ] {
        NetworkConfig::parse(&format!(r#"{{"Network":"{network}"}}"#)).unwrap();
    }
}

#[test]
fn network_and_lease_fit_the_node() {
    let config =
        checked(r#"{"Network":"10.3.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48"}"#)
            .unwrap();
    let underlay = |address: &str| {
        let checked = config.check_underlay([address.parse().unwrap()]);
        checked.map_err(|error| error.to_string())
    };
    underlay("172.31.0.1").unwrap();
    underlay("fc00:0:1::1").unwrap();
    let error = underlay("10.3.7.1").unwrap_err();
    assert!(
        error.starts_with("Network 10.3.0.0/16 contains 10.3.7.1"),
        "{error}"
    );
    let error = underlay("fc00::7").unwrap_err();
    assert!(
        error.starts_with("IPv6Network fc00::/48 contains fc00::7"),
        "{error}"
    );
    let lease = |subnets: &str| {
        let checked = config.check_lease(&subnets.parse().unwrap());
        checked.map_err(|error| error.to_string())
    };
    lease("10.3.7.0-24&fc00:0:0:7::-64").unwrap();
    for (subnets, error) in [
        (
            "10.4.7.0-24&fc00:0:0:7::-64",
            "this node's lease 10.4.7.0/24 is outside of Network 10.3.0.0/16",
        ),
        (
            "10.2.0.0-15&fc00:0:0:7::-64",
            "this node's lease 10.2.0.0/15 is outside of Network 10.3.0.0/16",
        ),
        (
            "10.3.7.0-24",
            "this node's lease has no subnet of IPv6Network fc00::/48",
        ),
    ] {
        assert_eq!(lease(subnets).unwrap_err(), error);
    }
}

#[test]
fn small_network_has_four_subnets() {
    let config = checked(r#"{"Network":"10.3.0.0/23"}"#).unwrap();
    assert_eq!(config.subnet_len, 25);
    let config = checked(r#"{"Network":"255.255.255.240/28"}"#).unwrap();
    assert_eq!(
        (config.subnet_len, config.subnet_max),
        (30, Some([255, 255, 255, 252].into()))
    );
    let config = checked(
        r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fdff:ffff:ffff:ffff:ffff:ffff:ffff:fff0/124"}"#,
    )
    .unwrap();
    assert_eq!(config.ipv6_subnet_len, 126);
    assert_eq!(
        config.ipv6_subnet_max,
        Some("fdff:ffff:ffff:ffff:ffff:ffff:ffff:fffc".parse().unwrap())
    );
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,80}") {
        drop(checked(&text));
    }
    #[test]
    fn no_numbers_panic(ip: u32, len in 0u8..=32, subnet in 0u64..400, ip6: u128, len6 in 0u8..=128, subnet6 in 0u64..400) {
        let text = format!(
            r#"{{"EnableIPv6":true,"Network":"{}/{len}","SubnetLen":{subnet},"IPv6Network":"{}/{len6}","IPv6SubnetLen":{subnet6}}}"#,
            Ipv4Addr::from(ip), Ipv6Addr::from(ip6)
        );
        if let Ok(config) = checked(&text) {
            prop_assert!(config.subnet_min <= config.subnet_max && config.ipv6_subnet_min <= config.ipv6_subnet_max);
        }
    }
}
