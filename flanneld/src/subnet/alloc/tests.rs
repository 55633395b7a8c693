use super::*;
use crate::model::lease::Lease;
use proptest::prelude::*;
use std::collections::HashSet;

fn config(text: &str) -> NetworkConfig {
    let mut config = NetworkConfig::parse(text).unwrap();
    config.check_subnets().unwrap();
    config
}

fn small() -> NetworkConfig {
    config(r#"{"Network":"10.3.0.0/22","SubnetLen":24}"#)
}

fn dual() -> NetworkConfig {
    config(r#"{"Network":"10.3.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/16"}"#)
}

fn node(v4: u8) -> LeaseAttrs {
    LeaseAttrs {
        public_ip: Some([192, 0, 2, v4].into()),
        ..LeaseAttrs::default()
    }
}

fn node6(v6: &str) -> LeaseAttrs {
    LeaseAttrs {
        public_ipv6: Some(v6.parse().unwrap()),
        ..LeaseAttrs::default()
    }
}

fn key(text: &str) -> Subnets {
    text.parse().unwrap()
}

fn lease(text: &str, attrs: LeaseAttrs) -> Lease {
    let key = key(text);
    Lease {
        subnets: key,
        attrs,
        expiration: None,
    }
}

fn reservation(text: &str, attrs: LeaseAttrs) -> Reservation {
    Reservation {
        subnets: key(text),
        attrs,
    }
}

fn owned(leases: &[Lease]) -> Vec<Owned<'_>> {
    let leases = leases.iter();
    leases.map(|lease| (lease.subnets, &lease.attrs)).collect()
}

fn ask(
    config: &NetworkConfig,
    attrs: &LeaseAttrs,
    previous: &str,
    leases: &[Lease],
    reservations: &[Reservation],
) -> Result<Subnets, Error> {
    let previous = previous.parse().unwrap_or_default();
    let node = Node {
        attrs,
        former: None,
    };
    let leases = owned(leases);
    let reservations: Vec<Owned<'_>> = reservations
        .iter()
        .map(|reservation| (reservation.subnets, &reservation.attrs))
        .collect();
    choose(config, node, previous, &leases, &reservations, 0)
}

#[test]
fn new_node_gets_the_first_free_subnet() {
    let choice = ask(&small(), &node(1), "", &[], &[]).unwrap();
    assert_eq!(choice, key("10.3.1.0-24"));
}

#[test]
fn same_public_ip_gets_the_same_subnet_again() {
    let leases = [lease("10.3.1.0-24", node(2)), lease("10.3.3.0-24", node(1))];
    let choice = ask(&small(), &node(1), "10.3.2.0-24", &leases, &[]).unwrap();
    assert_eq!(choice, key("10.3.3.0-24"));
}

#[test]
fn node_that_takes_over_a_dead_nodes_address_keeps_its_subnets() {
    let (dead, former) = (node(2), node(1));
    let taking_over = Node {
        attrs: &dead,
        former: Some(&former),
    };
    let mut leases = [
        lease("10.3.1.0-24", dead.clone()),
        lease("10.3.2.0-24", former.clone()),
    ];
    for _ in 0..2 {
        let choice = choose(
            &small(),
            taking_over,
            Subnets::default(),
            &owned(&leases),
            &[],
            0,
        );
        assert_eq!(choice.unwrap(), key("10.3.2.0-24"));
        leases.reverse();
    }
}

#[test]
fn lease_that_no_longer_fits_is_replaced() {
    for old in ["10.4.1.0-24", "10.3.2.0-25", "10.3.0.0-24"] {
        let choice = ask(&small(), &node(1), "", &[lease(old, node(1))], &[]).unwrap();
        assert_eq!(choice, key("10.3.1.0-24"));
    }
}

#[test]
fn previous_subnet_is_granted_if_free_and_fitting() {
    let taken = [lease("10.3.2.0-24", node(2))];
    for (previous, got) in [
        ("10.3.3.0-24", "10.3.3.0-24"),
        ("10.3.2.0-24", "10.3.1.0-24"),
        ("10.3.2.0-25", "10.3.1.0-24"),
        ("10.9.9.0-24", "10.3.1.0-24"),
    ] {
        let choice = ask(&small(), &node(1), previous, &taken, &[]).unwrap();
        assert_eq!(choice, key(got), "{previous}");
    }
}

#[test]
fn reserved_subnet_goes_to_its_node_only() {
    let reserved = [
        reservation("10.3.1.0-24", node(7)),
        reservation("10.3.2.0-24", node(8)),
    ];
    let small = small();
    let got = |id, previous| ask(&small, &node(id), previous, &[], &reserved);
    assert_eq!(got(7, "10.3.3.0-24").unwrap(), key("10.3.1.0-24"));
    assert_eq!(got(8, "").unwrap(), key("10.3.2.0-24"));
    assert_eq!(got(1, "10.3.1.0-24").unwrap(), key("10.3.3.0-24"));
    // a node keeps the lease it has: its pods live there
    let has = [lease("10.3.3.0-24", node(7))];
    let choice = ask(&small, &node(7), "", &has, &reserved).unwrap();
    assert_eq!(choice, key("10.3.3.0-24"));
}

#[test]
fn out_of_subnets_names_the_range() {
    let all: Vec<Lease> = (1..4)
        .map(|n| lease(&format!("10.3.{n}.0-24"), node(n)))
        .collect();
    let error = ask(&small(), &node(9), "", &all, &[]).unwrap_err();
    assert!(
        matches!(&error, Error::OutOfSubnets { min, max } if min == "10.3.1.0" && max == "10.3.3.0"),
        "{error}"
    );
    assert_eq!(
        ask(&small(), &node(2), "", &all, &[]).unwrap(),
        key("10.3.2.0-24")
    );
}

#[test]
fn families_are_chosen_independently() {
    let taken = [lease("10.3.1.0-24&fd00:0:0:1::-64", node(2))];
    let choice = ask(
        &dual(),
        &node(1),
        "10.3.1.0-24&fd00:0:0:9::-64",
        &taken,
        &[],
    )
    .unwrap();
    assert_eq!(choice, key("10.3.2.0-24&fd00:0:0:9::-64"));
    // a lease from before IPv6 was enabled keeps its IPv4 half
    let old = [lease("10.3.77.0-24", node(1))];
    let choice = ask(&dual(), &node(1), "", &old, &[]).unwrap();
    assert_eq!(choice, key("10.3.77.0-24&fd00:0:0:1::-64"));
}

#[test]
fn node_without_ipv4_is_identified_by_its_ipv6_address() {
    let config = config(r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/16"}"#);
    let first = ask(&config, &node6("2001:db8::1"), "", &[], &[]).unwrap();
    assert_eq!(first, key("0.0.0.0-0&fd00:0:0:1::-64"));
    let leases = [lease("0.0.0.0-0&fd00:0:0:1::-64", node6("2001:db8::1"))];
    let again = ask(&config, &node6("2001:db8::1"), "", &leases, &[]).unwrap();
    assert_eq!(again, first);
    let other = ask(&config, &node6("2001:db8::2"), "", &leases, &[]).unwrap();
    assert_eq!(other, key("0.0.0.0-0&fd00:0:0:2::-64"));
}

#[test]
fn huge_range_costs_no_more_than_what_is_taken() {
    // 2^112 subnets, the first 10,000 of them taken
    let config = config(
        r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/8","IPv6SubnetLen":120}"#,
    );
    let taken: Vec<Lease> = (1..=10_000u128)
        .map(|n| {
            let ip = Ipv6Addr::from((0xfd << 120) + n * 256);
            lease(
                &format!("0.0.0.0-0&{ip}-120"),
                node6(&format!("2001:db8::{n:x}")),
            )
        })
        .collect();
    let choice = ask(&config, &node6("2001:db9::1"), "", &taken, &[]).unwrap();
    assert_eq!(choice, key("0.0.0.0-0&fd00::27:1100-120"));
}

#[test]
fn last_subnets_of_the_network_can_be_chosen() {
    let config = config(
        r#"{"Network":"255.255.255.0/24","SubnetLen":26,"EnableIPv6":true,
            "IPv6Network":"fdff:ffff:ffff:ffff:ffff:ffff:ffff:fff0/124"}"#,
    );
    let mut leases = Vec::new();
    for n in 1..=3 {
        let choice = ask(&config, &node(n), "", &leases, &[]).unwrap();
        leases.push(lease(&choice.to_string(), node(n)));
    }
    assert!(matches!(
        ask(&config, &node(4), "", &leases, &[]),
        Err(Error::OutOfSubnets { .. })
    ));
}

#[test]
fn only_subnets_of_the_range_can_be_reserved() {
    let small = small();
    assert_eq!(check_reservable(&small, &key("10.3.1.0-24")), Ok(()));
    for bad in [
        "10.3.0.0-24",
        "10.3.1.0-25",
        "10.4.1.0-24",
        "10.3.1.0-24&fd00::-64",
    ] {
        let error = check_reservable(&small, &key(bad)).unwrap_err().to_string();
        assert!(error.contains(bad), "{error}");
    }
}

proptest! {
    /// Nodes come, return and leave in any order: no two ever share an address, and all are inside
    /// the range.
    #[test]
    fn no_address_is_leased_twice(steps in proptest::collection::vec((0u8..20, any::<bool>(), any::<u64>()), 1..80), len in 24u8..28) {
        let config = config(&format!(
            r#"{{"Network":"10.3.0.0/20","SubnetLen":{len},"EnableIPv6":true,"IPv6Network":"fd00::/60"}}"#
        ));
        let mut leases: Vec<Lease> = vec![lease("10.3.4.0-22", node(100)), lease("10.3.9.64-26", node(101))];
        for (id, leave, random) in steps {
            if leave {
                leases.retain(|lease| !lease.attrs.same_node(&node(id)));
                continue;
            }
            let before = leases.iter().find(|lease| lease.attrs.same_node(&node(id))).map(|lease| lease.subnets);
            let choice = match choose(&config, Node { attrs: &node(id), former: None }, Subnets::default(), &owned(&leases), &[], random) {
                Ok(choice) => choice,
                Err(Error::OutOfSubnets { .. }) => continue,
                Err(error) => panic!("{error}"),
            };
            if let Some(before) = before {
                prop_assert_eq!(choice, before);
            }
            prop_assert!(check_reservable(&config, &choice).is_ok());
            leases.retain(|lease| !lease.attrs.same_node(&node(id)));
            leases.push(lease(&choice.to_string(), node(id)));
        }
        for (i, a) in leases.iter().enumerate() {
            for b in &leases[i + 1..] {
                prop_assert!(!a.subnets.overlaps(&b.subnets), "{} {}", a.subnets, b.subnets);
            }
        }
        let nodes: HashSet<_> = leases.iter().map(|lease| lease.attrs.public_ip).collect();
        prop_assert_eq!(nodes.len(), leases.len());
    }
}
