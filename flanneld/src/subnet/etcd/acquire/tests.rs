use super::*;
use proptest::prelude::*;

fn config(json: &str) -> NetworkConfig {
    let mut config = NetworkConfig::parse(json).unwrap();
    config.check_subnets().unwrap();
    config
}

fn v4() -> NetworkConfig {
    config(r#"{"Network":"10.3.0.0/16"}"#)
}

fn attrs(ip: u8) -> LeaseAttrs {
    LeaseAttrs {
        public_ip: Some([192, 0, 2, ip].into()),
        ..LeaseAttrs::default()
    }
}

fn attrs_v6(ip: u16) -> LeaseAttrs {
    LeaseAttrs {
        public_ipv6: Some([0xfd00, 0, 0, 0, 0, 0, 0, ip].into()),
        ..LeaseAttrs::default()
    }
}

fn known(subnets: &str, attrs: LeaseAttrs, lease_id: i64) -> Known {
    Known {
        subnets: subnets.parse().unwrap(),
        attrs,
        mod_revision: 7,
        lease_id,
    }
}

fn node(attrs: &LeaseAttrs) -> Node<'_> {
    Node {
        attrs,
        former: None,
    }
}

/// The subnets, whether the key is there, and which keys go.
fn planned(
    config: &NetworkConfig,
    node: Node<'_>,
    previous: &str,
    known: &[Known],
) -> (String, bool, Vec<String>) {
    let previous = previous.parse().unwrap_or_default();
    let plan = plan(config, node, previous, known, 0).unwrap();
    let delete = plan.delete.iter().map(|known| known.subnets.to_string());
    (
        plan.subnets.to_string(),
        plan.existing.is_some(),
        delete.collect(),
    )
}

#[test]
fn own_lease_is_used_again() {
    let leases = [known("10.3.9.0-24", attrs(1), 5)];
    let got = planned(&v4(), node(&attrs(1)), "10.3.7.0-24", &leases);
    assert_eq!(got, ("10.3.9.0-24".into(), true, vec![]));
}

#[test]
fn incompatible_lease_is_deleted() {
    for old in [
        "10.3.9.0-25",
        "10.4.9.0-24",
        "10.3.9.0-24&fd00::-64",
        "0.0.0.0-0&fd00::-64",
    ] {
        for lease_id in [0, 5] {
            let leases = [known(old, attrs(1), lease_id)];
            let (subnets, existing, delete) = planned(&v4(), node(&attrs(1)), "", &leases);
            assert!(!existing && subnets.ends_with("-24"), "{subnets}");
            assert_eq!(delete, [old]);
        }
    }
}

#[test]
fn family_that_fits_is_kept() {
    let dual = config(r#"{"Network":"10.3.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48"}"#);
    let leases = [known("10.3.9.0-24", attrs(1), 5)];
    let (subnets, existing, delete) = planned(&dual, node(&attrs(1)), "", &leases);
    assert!(
        !existing && subnets.starts_with("10.3.9.0-24&fc00:"),
        "{subnets}"
    );
    assert_eq!(delete, ["10.3.9.0-24"]);
}

#[test]
fn previous_subnet_is_used_if_free() {
    let got = planned(&v4(), node(&attrs(1)), "10.3.7.0-24", &[]);
    assert_eq!(got, ("10.3.7.0-24".into(), false, vec![]));
    // a value that cannot be read takes its subnet all the same
    for other in [attrs(2), LeaseAttrs::default()] {
        let leases = [known("10.3.7.0-24", other, 5)];
        let (subnets, existing, _) = planned(&v4(), node(&attrs(1)), "10.3.7.0-24", &leases);
        assert!(subnets != "10.3.7.0-24" && !existing, "{subnets}");
    }
}

#[test]
fn reservation_is_used_and_stays() {
    let reserved = [
        known("10.3.7.0-24", attrs(2), 0),
        known("10.3.8.0-24", attrs(1), 0),
    ];
    let got = planned(&v4(), node(&attrs(1)), "10.3.9.0-24", &reserved);
    assert_eq!(got, ("10.3.8.0-24".into(), true, vec![]));
    // the node keeps the lease that its pods use; the reservation waits
    let leases = [known("10.3.5.0-24", attrs(1), 5), reserved[1].clone()];
    let got = planned(&v4(), node(&attrs(1)), "", &leases);
    assert_eq!(got, ("10.3.5.0-24".into(), true, vec![]));
}

#[test]
fn node_with_another_address_keeps_its_subnet() {
    for lease_id in [0, 5] {
        let leases = [known("10.3.9.0-24", attrs(1), lease_id)];
        let (former, current) = (attrs(1), attrs(2));
        let node = Node {
            attrs: &current,
            former: Some(&former),
        };
        let got = planned(&v4(), node, "10.3.9.0-24", &leases);
        assert_eq!(got, ("10.3.9.0-24".into(), true, vec![]));
    }
}

#[test]
fn nodes_without_ipv4_have_a_lease_each() {
    let v6 = config(r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/48"}"#);
    let leases = [known("0.0.0.0-0&fc00:0:0:1::-64", attrs_v6(1), 5)];
    let (subnets, existing, delete) = planned(&v6, node(&attrs_v6(2)), "", &leases);
    assert_eq!((existing, delete.len()), (false, 0));
    assert!(subnets.starts_with("0.0.0.0-0&fc00:") && !subnets.contains(":1::-64"));
    let got = planned(&v6, node(&attrs_v6(1)), "", &leases);
    assert_eq!(got, ("0.0.0.0-0&fc00:0:0:1::-64".into(), true, vec![]));
}

proptest! {
    /// Whatever is there: the result is compatible, no other node's, and only own keys go.
    #[test]
    fn no_lease_of_another_node_is_touched(
        there in proptest::collection::vec((0u8..6, 0u8..3, 0i64..2, 23u8..26), 0..12),
        own in 0u8..3, previous in 0u8..6, random: u64,
    ) {
        let config = v4();
        let known: Vec<Known> = there.iter().map(|&(third, ip, lease_id, len)| {
            let net = ipnetwork::Ipv4Network::new([10, 3, third, 0].into(), len).unwrap();
            known(&format!("{}-{len}", net.network()), attrs(ip), lease_id)
        }).collect();
        let attrs = attrs(own);
        let previous = format!("10.3.{previous}.0-24").parse().unwrap();
        let plan = plan(&config, node(&attrs), previous, &known, random).unwrap();
        prop_assert!(is_compatible(&config, &plan.subnets));
        for other in known.iter().filter(|known| !known.attrs.same_node(&attrs)) {
            prop_assert!(!other.subnets.overlaps(&plan.subnets));
            prop_assert!(!plan.delete.contains(&other));
        }
        prop_assert!(plan.delete.iter().all(|gone| gone.subnets != plan.subnets));
    }
}
