//! Leases: what is written, who gets what, renewal, revocation, reservations.

use super::*;
use std::collections::BTreeSet;

#[tokio::test]
async fn lease_has_upstreams_bytes_and_ttl() {
    let etcd = TestEtcd::new().await;
    let first = Node::join(etcd.manager(), attrs(1)).await;
    let second = Node::join(etcd.manager(), attrs(2)).await;
    first.will_see(&[1, 2]).await;
    second.will_see(&[1, 2]).await;
    let kvs = etcd.get(&first.key()).await;
    assert_eq!(
        kvs[0].value_str().unwrap(),
        r#"{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}}"#
    );
    let ttl = etcd.ttl(kvs[0].lease()).await;
    assert!((86_380..=86_400).contains(&ttl), "{ttl}");
    assert!(first.own.expiration.is_some());
    second.stop().await;
    etcd.delete(&format!("subnets/{}", etcd_name(&etcd, 2).await))
        .await;
    first.will_see(&[1]).await;
}

/// The key of a node's lease.
async fn etcd_name(etcd: &TestEtcd, node: u8) -> String {
    let kvs = etcd.get("subnets/").await;
    let ip = format!("192.0.2.{node}");
    let kv = kvs
        .iter()
        .find(|kv| kv.value_str().unwrap().contains(&ip))
        .unwrap();
    kv.key_str().unwrap().rsplit_once('/').unwrap().1.to_owned()
}

#[tokio::test]
async fn nodes_that_race_get_a_subnet_each() {
    let etcd = TestEtcd::empty().await;
    // 30 subnets for 24 nodes: most first choices collide
    etcd.put(
        "config",
        r#"{"Network":"10.3.0.0/16","SubnetMin":"10.3.1.0","SubnetMax":"10.3.30.0"}"#,
    )
    .await;
    let mut joins = JoinSet::new();
    for n in 1..=24 {
        let manager = etcd.manager();
        joins.spawn(async move { Node::join(manager, attrs(n)).await });
    }
    let nodes = timeout(TIMEOUT, joins.join_all()).await.expect("all join");
    let subnets: BTreeSet<Subnets> = nodes.iter().map(|node| node.own.subnets).collect();
    assert_eq!(subnets.len(), 24);
    let all: Vec<u8> = (1..=24).collect();
    for node in &nodes {
        node.will_see(&all).await;
    }
    // the etcd leases of lost races are revoked
    let leases = etcd.client().await.lease_client().leases().await.unwrap();
    assert_eq!(leases.leases().len(), 24);
}

#[tokio::test]
async fn node_that_returns_gets_its_subnet_back() {
    let etcd = TestEtcd::new().await;
    let node = Node::join(etcd.manager(), attrs(1)).await;
    let subnets = node.own.subnets;
    node.stop().await;
    let before = etcd.get("subnets/").await;
    let node = Node::join(etcd.manager(), attrs(1)).await;
    assert_eq!(node.own.subnets, subnets);
    let after = etcd.get("subnets/").await;
    assert_ne!(before[0].lease(), after[0].lease());
    assert_eq!(
        etcd.ttl(before[0].lease()).await,
        -1,
        "the former etcd lease is revoked"
    );
    // its key is gone, and subnet.env names the subnet
    node.stop().await;
    etcd.delete(&format!("subnets/{subnets}")).await;
    let node = Node::join_again(etcd.manager(), attrs(1), subnets).await;
    assert_eq!(node.own.subnets, subnets);
}

#[tokio::test]
async fn lease_is_renewed_by_a_new_etcd_lease_and_kept_alive_in_between() {
    let etcd = TestEtcd::new().await;
    let ttl = Duration::from_secs(8);
    let node = Node::join(etcd.manager_with(etcd.url(), ttl), attrs(1)).await;
    let first = etcd.get(&node.key()).await.remove(0);
    // renewed after ttl/2, at which time 4 s would be left if nothing kept it alive
    let mut lowest = i64::MAX;
    let second = eventually("the lease is renewed", async || {
        let kv = etcd.get(&node.key()).await.remove(0);
        if kv.lease() == first.lease() {
            // -1: renewed and revoked since
            let left = etcd.ttl(kv.lease()).await;
            lowest = if left > 0 { lowest.min(left) } else { lowest };
        }
        (kv.lease() != first.lease()).then_some(kv)
    })
    .await;
    assert!(lowest >= 6, "{lowest}");
    assert_eq!(second.value(), first.value());
    assert_eq!(second.create_revision(), first.create_revision());
    eventually("the former etcd lease is revoked", async || {
        (etcd.ttl(first.lease()).await == -1).then_some(())
    })
    .await;
    node.will_see(&[1]).await;
}

#[tokio::test]
async fn deleted_key_is_a_revocation() {
    let etcd = TestEtcd::new().await;
    let node = Node::join(etcd.manager(), attrs(1)).await;
    node.will_see(&[1]).await;
    etcd.delete(&node.key()).await;
    let subnets = node.own.subnets;
    let ended = node.end().await;
    assert!(
        matches!(ended, Error::Revoked(revoked) if revoked == subnets),
        "{ended}"
    );
}

#[tokio::test]
async fn key_that_another_node_takes_ends_the_lease() {
    let etcd = TestEtcd::new().await;
    let node = Node::join(etcd.manager(), attrs(1)).await;
    node.will_see(&[1]).await;
    etcd.put(&node.key(), value_of(9)).await;
    let ended = node.end().await;
    assert!(
        matches!(&ended, Error::Taken { by, .. } if by == "192.0.2.9"),
        "{ended}"
    );
}

fn value_of(node: u8) -> String {
    registry::value(&attrs(node)).unwrap()
}

#[tokio::test]
async fn reservation_survives_restarts() {
    let etcd = TestEtcd::new().await;
    etcd.put("subnets/10.3.207.0-24", r#"{"PublicIP":"192.0.2.1"}"#)
        .await;
    etcd.put("subnets/10.3.208.0-24", r#"{"PublicIP":"192.0.2.2"}"#)
        .await;
    for _ in 0..3 {
        let node = Node::join(etcd.manager(), attrs(1)).await;
        assert_eq!(node.own.subnets.to_string(), "10.3.207.0-24");
        assert_eq!(node.own.expiration, None);
        node.will_see(&[1, 2]).await;
        let kv = etcd.get(&node.key()).await.remove(0);
        assert_eq!(
            (kv.lease(), kv.value_str().unwrap()),
            (0, value_of(1).as_str())
        );
        node.stop().await;
    }
    let leases = etcd.client().await.lease_client().leases().await.unwrap();
    assert_eq!(leases.leases().len(), 0, "nothing granted");
}

#[tokio::test]
async fn lease_that_an_operator_makes_a_reservation_stays_one() {
    let etcd = TestEtcd::new().await;
    let ttl = Duration::from_secs(2);
    let node = Node::join(etcd.manager_with(etcd.url(), ttl), attrs(1)).await;
    node.will_see(&[1]).await;
    etcd.put(&node.key(), value_of(1)).await;
    sleep(ttl * 2).await;
    let kv = etcd.get(&node.key()).await.remove(0);
    assert_eq!(kv.lease(), 0);
    assert!(!node.task.is_finished());
}

#[tokio::test]
async fn node_that_changes_its_address_keeps_its_subnet() {
    let etcd = TestEtcd::new().await;
    let manager = etcd.manager();
    let node = Node::join(manager.clone(), attrs(1)).await;
    let subnets = node.own.subnets;
    node.stop().await;
    let node = Node::join_again(manager, attrs(2), subnets).await;
    assert_eq!(node.own.subnets, subnets);
    node.will_see(&[2]).await;
    assert_eq!(etcd.get("subnets/").await.len(), 1);
}

#[tokio::test]
async fn lease_that_no_longer_fits_goes_together_with_the_new_one() {
    let etcd = TestEtcd::new().await;
    let node = Node::join(etcd.manager(), attrs(1)).await;
    node.stop().await;
    let dual = r#"{"Network":"10.3.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:3::/48"}"#;
    etcd.put("config", dual).await;
    let mut both = attrs(1);
    both.public_ipv6 = Some("2001:db8::1".parse().unwrap());
    let node = Node::join(etcd.manager(), both).await;
    assert!(node.own.subnets.v4.is_some() && node.own.subnets.v6.is_some());
    let kvs = etcd.get("subnets/").await;
    assert_eq!(kvs.len(), 1);
    assert!(
        kvs[0].key_str().unwrap().contains("-24&fd00:3:"),
        "{:?}",
        kvs[0]
    );
    assert_eq!(
        kvs[0].value_str().unwrap(),
        r#"{"PublicIP":"192.0.2.1","PublicIPv6":"2001:db8::1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}}"#
    );
}

#[tokio::test]
async fn nodes_without_ipv4_have_a_subnet_each() {
    let etcd = TestEtcd::empty().await;
    etcd.put(
        "config",
        r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00:3::/48"}"#,
    )
    .await;
    let v6 = |n: u16| LeaseAttrs {
        public_ipv6: Some([0x2001, 0xdb8, 0, 0, 0, 0, 0, n].into()),
        ..LeaseAttrs::default()
    };
    let first = Node::join(etcd.manager(), v6(1)).await;
    let second = Node::join(etcd.manager(), v6(2)).await;
    assert_ne!(first.own.subnets, second.own.subnets);
    assert!(
        first
            .own
            .subnets
            .to_string()
            .starts_with("0.0.0.0-0&fd00:3:")
    );
    second.stop().await;
    let again = Node::join(etcd.manager(), v6(2)).await;
    assert_eq!(etcd.get("subnets/").await.len(), 2);
    assert_ne!(first.own.subnets, again.own.subnets);
}

#[tokio::test]
async fn every_page_of_a_long_list_is_read() {
    let etcd = TestEtcd::empty().await;
    etcd.put("config", r#"{"Network":"10.0.0.0/8"}"#).await;
    let mut client = etcd.client().await;
    for high in 100..125u8 {
        let puts: Vec<_> = (0..100u8)
            .map(|low| {
                let key = format!("{PREFIX}/subnets/10.{high}.{low}.0-24");
                let value = format!(r#"{{"PublicIP":"198.18.{high}.{low}"}}"#);
                etcd_client::TxnOp::put(key, value, None)
            })
            .collect();
        client
            .txn(etcd_client::Txn::new().and_then(puts))
            .await
            .unwrap();
    }
    let node = Node::join(etcd.manager(), attrs(1)).await;
    eventually("all are seen", async || {
        (node.sees().len() == 2501).then_some(())
    })
    .await;
}

#[tokio::test]
async fn export_of_one_etcd_fills_another() {
    use crate::subnet::transfer::{Export, LeaseArchive, Outcome};
    let etcd = TestEtcd::new().await;
    let node = Node::join(etcd.manager(), attrs(1)).await;
    etcd.put("subnets/10.3.207.0-24", value_of(7)).await;
    etcd.put("subnets/broken", "x").await;
    let text = etcd.manager().export().await.unwrap().to_text().unwrap();
    let export = Export::parse(text.as_bytes()).unwrap();
    let empty = TestEtcd::empty().await;
    for outcome in [Outcome::Added, Outcome::Present] {
        let outcomes = empty.manager().import(&export).await.unwrap();
        assert_eq!(outcomes, [outcome.clone(), outcome]);
    }
    for key in [node.key(), "subnets/10.3.207.0-24".to_owned()] {
        let (old, new) = (
            etcd.get(&key).await.remove(0),
            empty.get(&key).await.remove(0),
        );
        assert_eq!(old.value(), new.value());
        assert_eq!(old.lease() == 0, new.lease() == 0);
    }
    let moved = Node::join(empty.manager(), attrs(1)).await;
    assert_eq!(moved.own.subnets, node.own.subnets);
}
