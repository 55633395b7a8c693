//! Nodes that come, go, and outlive their server.

use super::*;

#[tokio::test]
async fn nodes_see_each_other_join_and_leave() {
    let site = TestServer::new().await;
    let local = Arc::new(Local::new(site.store.clone().unwrap(), MARGIN));
    assert_eq!(site.client().network_config().await.unwrap(), site.config);
    let first = Node::join(local, node(1)).await;
    let second = Node::join(site.client(), node(2)).await;
    let third = Node::join(site.client(), node(3)).await;
    for node in [&first, &second, &third] {
        node.will_see(&[1, 2, 3]).await;
    }
    // a node that is revoked ends
    site.store().revoke(third.own.subnets).unwrap();
    let name = third.own.subnets;
    assert!(matches!(third.end().await, Error::Revoked(subnets) if subnets == name));
    first.will_see(&[1, 2]).await;
    second.will_see(&[1, 2]).await;
    // the others see a node that returns with another MAC
    drop(second);
    let changed = LeaseAttrs {
        backend_data: Some(serde_json::json!({"VNI": 1, "VtepMAC": "02:ff:ff:ff:ff:ff"})),
        ..node(2)
    };
    let second = Node::join(site.client(), changed.clone()).await;
    eventually("the new MAC", || {
        let leases = first.leases.borrow().clone().unwrap();
        leases.iter().any(|lease| lease.attrs == changed)
    })
    .await;
    // the node that keeps the store can be revoked too
    site.store().revoke(first.own.subnets).unwrap();
    assert!(matches!(first.end().await, Error::Revoked(_)));
    second.will_see(&[2]).await;
}

#[tokio::test]
async fn changed_address_keeps_the_subnet() {
    let site = TestServer::new().await;
    let client = site.client();
    let watcher = Node::join(site.client(), node(9)).await;
    let node1 = Node::join(client.clone(), node(1)).await;
    let own = node1.own.clone();
    drop(node1);
    let previous = own.subnets;
    let moved = Node::join_again(client, node(2), previous).await;
    assert_eq!(moved.own.subnets, own.subnets);
    watcher.will_see(&[2, 9]).await;
    let local = Arc::new(Local::new(site.store.clone().unwrap(), MARGIN));
    let before = local.acquire(&node(5), Subnets::default()).await.unwrap();
    let after = local.acquire(&node(6), Subnets::default()).await.unwrap();
    assert_eq!(before.subnets, after.subnets);
}

#[tokio::test]
async fn outage_keeps_leases_and_is_caught_up_with() {
    let mut site = TestServer::new().await;
    let (a, b) = (
        Node::join(site.client(), node(1)).await,
        Node::join(site.client(), node(2)).await,
    );
    a.will_see(&[1, 2]).await;
    site.stop().await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(a.sees(), [1, 2]);
    // changes during the outage are seen when the server is back
    let store = Store::open_with(&site.path(), site.config.clone(), site.ttl, site.ttl).unwrap();
    store.acquire(node(3), Subnets::default(), None).unwrap();
    store.revoke(b.own.subnets).unwrap();
    drop(store);
    site.start().await;
    a.will_see(&[1, 3]).await;
    assert!(matches!(b.end().await, Error::Revoked(_)));
    assert!(!a.task.is_finished());
}

#[tokio::test]
async fn lost_store_stops_no_node() {
    let mut site = TestServer::new().await;
    let nodes = [
        Node::join(site.client(), node(1)).await,
        Node::join(site.client(), node(2)).await,
    ];
    // a third one whose daemon is not running just now
    site.store()
        .acquire(node(3), Subnets::default(), None)
        .unwrap();
    for node in &nodes {
        node.will_see(&[1, 2, 3]).await;
    }
    site.stop().await;
    std::fs::remove_file(site.path()).unwrap();
    site.start().await;
    let store = site.store.clone().unwrap();
    eventually("both have registered again", || store.leases().len() == 2).await;
    for node in &nodes {
        assert_eq!(
            store.lease(&node.own.subnets).0.unwrap().attrs,
            node.own.attrs
        );
        node.will_see(&[1, 2, 3]).await;
        assert!(!node.task.is_finished());
    }
}

#[tokio::test]
async fn subnet_of_another_node_is_given_up() {
    let mut site = TestServer::new().await;
    let first = Node::join(site.client(), node(1)).await;
    first.will_see(&[1]).await;
    site.stop().await;
    std::fs::remove_file(site.path()).unwrap();
    let store = Store::open_with(&site.path(), site.config.clone(), site.ttl, site.ttl).unwrap();
    let previous = first.own.subnets;
    let other = store.acquire(node(9), previous, None).unwrap();
    assert_eq!(other.subnets, first.own.subnets);
    drop(store);
    site.start().await;
    let error = first.end().await;
    assert!(
        matches!(&error, Error::Taken { subnets, by } if *subnets == other.subnets && by.contains("192.0.2.9")),
        "{error}"
    );
}

#[tokio::test]
async fn leases_end_unless_renewed() {
    let site = TestServer::with(r#"{"Network":"10.3.0.0/16"}"#, Duration::from_secs(2)).await;
    let local = Arc::new(Local::new(
        site.store.clone().unwrap(),
        Duration::from_millis(1500),
    ));
    let here = Node::join(local, node(1)).await;
    let there = Node::join(site.client_with(Duration::from_millis(1500)), node(2)).await;
    let silent = site
        .store()
        .acquire(node(3), Subnets::default(), None)
        .unwrap();
    here.will_see(&[1, 2, 3]).await;
    here.will_see(&[1, 2]).await;
    there.will_see(&[1, 2]).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(here.sees(), [1, 2]);
    assert!(matches!(
        site.store().renew(silent.subnets, None),
        Err(StoreError::Unknown(_))
    ));
}

#[tokio::test]
async fn lease_that_ended_during_an_outage_is_acquired_again() {
    let ttl = Duration::from_secs(1);
    let mut site = TestServer::with(r#"{"Network":"10.3.0.0/16"}"#, ttl).await;
    let own = Node::join(site.client_with(Duration::from_millis(500)), node(1)).await;
    own.will_see(&[1]).await;
    site.stop().await;
    let store = Store::open_with(&site.path(), site.config.clone(), ttl, Duration::ZERO).unwrap();
    store.expire(Instant::now() + 3 * ttl).unwrap();
    assert!(store.leases().is_empty());
    drop(store);
    site.start().await;
    let store = site.store.clone().unwrap();
    let key = own.own.subnets;
    eventually("it has its lease again", || store.lease(&key).0.is_some()).await;
    assert!(!own.task.is_finished());
}

#[tokio::test]
async fn expired_lease_of_the_local_node_is_acquired_again() {
    let site = TestServer::new().await;
    let local = Arc::new(Local::new(site.store.clone().unwrap(), MARGIN));
    let own = Node::join(local, node(1)).await;
    own.will_see(&[1]).await;
    // the machine slept for two days
    site.store().expire(Instant::now() + 2 * TTL).unwrap();
    let (store, key) = (site.store.clone().unwrap(), own.own.subnets);
    eventually("it has its lease again", || store.lease(&key).0.is_some()).await;
    assert!(!own.task.is_finished());
}

#[tokio::test]
async fn concurrent_nodes_get_different_subnets() {
    let site = TestServer::with(r#"{"Network":"10.3.0.0/20","SubnetLen":26}"#, TTL).await;
    let mut joining = tokio::task::JoinSet::new();
    for n in 1..=60 {
        let client = site.client();
        joining.spawn(async move { client.acquire(&node(n), Subnets::default()).await.unwrap() });
    }
    let leases = joining.join_all().await;
    let keys: std::collections::HashSet<Subnets> =
        leases.iter().map(|lease| lease.subnets).collect();
    assert_eq!(keys.len(), 60);
}

/// A cloned configuration: to the store both are one node.
#[tokio::test]
async fn second_node_with_one_public_ip_is_refused_while_the_first_runs() {
    let mut site = TestServer::new().await;
    let first = Node::join(site.client(), node(1)).await;
    first.will_see(&[1]).await;
    let clone = site.client();
    let attrs = node(1);
    let second = clone.acquire(&attrs, Subnets::default());
    let waited = timeout(Duration::from_secs(1), second).await;
    assert!(waited.is_err(), "{waited:?}");
    let (status, text) = request(
        site.address,
        "POST",
        "/v1/_/leases",
        r#"{"PublicIP":"192.0.2.1"}"#,
    )
    .await;
    assert!(status == 409 && text.contains("-public-ip"), "{text}");
    // a restart of the server does not help it: the first node is back before
    site.stop().await;
    site.start().await;
    eventually("the first node is back", || {
        let leases = site.store().leases();
        let caller = store::Caller::Trusted(None);
        let access = site.store().access(&caller);
        let refused = access.acquire_as(None, node(1), Subnets::default(), None);
        leases.len() == 1 && refused.is_err()
    })
    .await;
    let subnets = first.own.subnets;
    drop(first);
    let granted = timeout(TIMEOUT, clone.acquire(&attrs, Subnets::default())).await;
    assert_eq!(granted.unwrap().unwrap().subnets, subnets);
}

/// A node goes on following the leases of the others while the store refuses what it has to tell.
#[tokio::test]
async fn refusal_is_an_answer_for_a_node_that_has_a_lease() {
    let site = TestServer::new().await;
    let first = Node::join(site.client(), node(1)).await;
    first.will_see(&[1]).await;
    let client = site.client();
    let second = Node::join(client.clone(), node(2)).await;
    second.will_see(&[1, 2]).await;
    let attrs = node(1);
    let refused = client.acquire_once(&attrs, second.own.subnets);
    let refused = timeout(TIMEOUT, refused).await.unwrap().unwrap_err();
    assert!(refused.is_transient(), "{refused}");
    assert!(refused.to_string().contains("-public-ip"), "{refused}");
}

/// An earlier process of the node had its lease by another address.
#[tokio::test]
async fn held_subnets_are_kept_unless_another_process_has_them() {
    let site = TestServer::new().await;
    let client = site.client();
    let lease = client.acquire(&node(1), Subnets::default()).await.unwrap();
    let watcher = Node::join(site.client(), node(9)).await;
    drop(client);
    let restarted = site.client();
    restarted.held(&lease);
    let moved = Node::join_again(restarted, node(2), lease.subnets).await;
    assert_eq!(moved.own.subnets, lease.subnets);
    watcher.will_see(&[2, 9]).await;
    moved.will_see(&[2, 9]).await;
    // a copy of the node's disk starts elsewhere
    let copy = site.client();
    copy.held(&moved.own);
    let copied = Node::join_again(copy, node(3), lease.subnets).await;
    assert_ne!(copied.own.subnets, lease.subnets);
    watcher.will_see(&[2, 3, 9]).await;
}
