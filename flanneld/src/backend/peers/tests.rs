use super::*;
use crate::backend::fixtures;
use crate::model::{Family, Subnets, lease::LeaseAttrs};
use std::time::Duration;

fn own() -> OwnFamily {
    OwnFamily {
        family: Family {
            network: "10.244.0.0/16".parse().unwrap(),
            subnet: "10.244.1.0/24".parse().unwrap(),
        },
        public_ip: "172.31.0.1".parse().unwrap(),
        selected_public_ip: "172.31.0.1".parse().unwrap(),
        local: "172.31.0.1".parse().unwrap(),
    }
}

fn lease(subnet: &str, public_ip: &str, age: u64) -> Lease {
    Lease {
        subnets: Subnets {
            v4: Some(subnet.parse().unwrap()),
            v6: None,
        },
        attrs: LeaseAttrs {
            public_ip: Some(public_ip.parse().unwrap()),
            backend_type: "vxlan".to_owned(),
            ..LeaseAttrs::default()
        },
        expiration: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age)),
    }
}

fn usable(leases: &[Lease]) -> (Vec<String>, Vec<String>) {
    let mut skipped = Vec::new();
    let leases = fixtures::decoded(&*fixtures::vxlan(), leases);
    let peers = super::usable(&own(), "vxlan", &leases, &mut skipped);
    (
        peers
            .iter()
            .map(|(peer, _)| format!("{} {}", peer.subnet, peer.public_ip))
            .collect(),
        skipped.iter().map(SkippedLease::to_string).collect(),
    )
}

#[test]
fn own_lease_and_reservations_are_not_peers() {
    let mut reservation = lease("10.244.9.0/24", "172.31.0.9", 0);
    reservation.attrs = LeaseAttrs::default();
    reservation.expiration = None;
    let leases = [lease("10.244.1.0/24", "172.31.0.1", 0), reservation];
    assert_eq!(usable(&leases), (vec![], vec![]));
}

#[test]
fn lease_with_an_invalid_field_is_skipped_alone() {
    let good = lease("10.244.2.0/24", "172.31.0.2", 0);
    let mut other_backend = lease("10.244.3.0/24", "172.31.0.3", 0);
    other_backend.attrs.backend_type = "host-gw".to_owned();
    let mut nowhere = lease("10.244.3.0/24", "172.31.0.3", 0);
    nowhere.attrs.public_ip = None;
    for (bad, reason) in [
        (
            lease("10.9.3.0/24", "172.31.0.3", 0),
            "not a part of the network",
        ),
        (
            lease("10.244.0.0/16", "172.31.0.3", 0),
            "not a part of the network",
        ),
        (
            lease("10.0.0.0/8", "172.31.0.3", 0),
            "not a part of the network",
        ),
        (lease("10.244.3.9/24", "172.31.0.3", 0), "host bits"),
        (lease("10.244.1.0/24", "172.31.0.3", 0), "own subnet"),
        (lease("10.244.1.128/25", "172.31.0.3", 0), "own subnet"),
        (lease("10.244.0.0/23", "172.31.0.3", 0), "own subnet"),
        (lease("10.244.3.0/24", "172.31.0.1", 0), "this node's own"),
        (lease("10.244.3.0/24", "0.0.0.0", 0), "cannot be a node's"),
        (lease("10.244.3.0/24", "127.0.0.1", 0), "cannot be a node's"),
        (lease("10.244.3.0/24", "224.0.0.1", 0), "cannot be a node's"),
        (
            lease("10.244.3.0/24", "255.255.255.255", 0),
            "cannot be a node's",
        ),
        (
            lease("10.244.3.0/24", "10.244.7.7", 0),
            "inside the pod network",
        ),
        (other_backend, "its backend is \"host-gw\""),
        (nowhere, "no public IP"),
    ] {
        let (peers, skipped) = usable(&[bad, good.clone()]);
        assert_eq!(
            peers,
            ["10.244.2.0/24 172.31.0.2"],
            "{reason}: the other lease is used"
        );
        assert_eq!(skipped.len(), 1, "{reason}");
        assert!(skipped[0].contains(reason), "{skipped:?} has {reason}");
    }
}

#[test]
fn newer_of_two_overlapping_leases_is_used() {
    let older = lease("10.244.3.0/24", "172.31.0.2", 100);
    let newer = lease("10.244.3.0/24", "172.31.0.3", 0);
    for leases in [[older.clone(), newer.clone()], [newer, older]] {
        let (peers, skipped) = usable(&leases);
        assert_eq!(peers, ["10.244.3.0/24 172.31.0.3"]);
        assert!(
            skipped[0].contains("a newer lease holds 10.244.3.0/24"),
            "{skipped:?}"
        );
    }
}

/// Also the newest one, and one without an end.
#[test]
fn lease_of_an_odd_length_loses_against_those_that_it_overlaps() {
    let mut absurd = lease("10.244.128.0/17", "172.31.1.1", 0);
    absurd.expiration = None;
    let smaller = lease("10.244.200.0/22", "172.31.1.2", 0);
    let mut leases = vec![absurd, smaller];
    leases.extend((0..72).map(|n| {
        let ip = format!("172.31.0.{}", n + 2);
        lease(&format!("10.244.{}.0/24", 128 + n), &ip, 100 + n)
    }));
    let (peers, skipped) = usable(&leases);
    assert_eq!(peers.len(), 73);
    assert!(peers.contains(&"10.244.200.0/22 172.31.1.2".to_owned()));
    assert_eq!(skipped.len(), 1);
    assert!(
        skipped[0].starts_with("10.244.128.0/17: it has another length than"),
        "{skipped:?}"
    );
    let (peers, _) = usable(&leases[..1]);
    assert_eq!(peers.len(), 1, "it is used where it takes nothing");
}

#[test]
fn lease_without_this_family_is_not_reported() {
    let mut v6_only = lease("10.244.3.0/24", "172.31.0.3", 0);
    v6_only.subnets.v4 = None;
    v6_only.subnets.v6 = Some("fd00::/64".parse().unwrap());
    assert_eq!(usable(&[v6_only]), (vec![], vec![]));
}

#[test]
fn own_lease_is_recognised_by_the_public_ip_that_a_manager_overwrites() {
    let mut behind_nat = own();
    behind_nat.public_ip = "203.0.113.9".parse().unwrap();
    let backend = fixtures::vxlan();
    let leases = [
        lease("10.244.1.0/24", "203.0.113.9", 0),
        lease("10.244.2.0/24", "172.31.0.1", 0),
    ];
    let leases = fixtures::decoded(&*backend, &leases);
    let mut skipped = Vec::new();
    assert!(super::usable(&behind_nat, "vxlan", &leases, &mut skipped).is_empty());
    let reasons: Vec<_> = skipped.iter().map(|skipped| &skipped.reason).collect();
    assert_eq!(
        reasons,
        [&PeerError::OwnPublicIp("172.31.0.1".parse().unwrap())],
        "no peer has the address of this node's interface either"
    );
}
