//! A store that is opened again: after a restart, from a backup, with another clock.

use super::*;

/// Restored from a backup, and with more changes since than the client has seen of its successor.
#[tokio::test]
async fn client_ahead_of_a_restored_store_gets_the_whole_snapshot() {
    let mut site = TestServer::new().await;
    let watcher = Node::join(site.client(), node(1)).await;
    site.stop().await;
    std::fs::copy(site.path(), site.folder.path().join("backup")).unwrap();
    site.start().await;
    let store = site.store();
    // none of the first free subnets: no later node gets it at random
    let apart = "10.3.200.0-24".parse().unwrap();
    store.acquire(node(2), apart, None).unwrap();
    watcher.will_see(&[1, 2]).await;
    let seen = store.revisions();
    let (id, seen) = (store.id.clone(), *seen.borrow());
    site.stop().await;
    std::fs::copy(site.folder.path().join("backup"), site.path()).unwrap();
    let restored = site.open(TTL, TTL);
    for n in 3..6 {
        restored.acquire(node(n), Subnets::default(), None).unwrap();
    }
    assert!(*restored.revisions().borrow() > seen, "the cursor is known");
    site.serve(restored).await;
    // node 2 stays until it would have ended, or registers again
    watcher.will_see(&[1, 2, 3, 4, 5]).await;
    // a client of an earlier version names no epoch
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    let path = format!("/v1/_/leases?watch=true&store={id}&next={seen}");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 8192]);
    while !text.contains("cursor") {
        let read = timeout(TIMEOUT, stream.read(&mut buffer)).await.unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..read.unwrap()]));
    }
    assert!(
        text.contains("snapshot") && text.contains("192.0.2.3"),
        "{text}"
    );
}

#[tokio::test]
async fn restart_without_a_loss_is_resumed_without_a_snapshot() {
    let mut site = TestServer::new().await;
    let attrs = node(1);
    let lease = site
        .store()
        .acquire(attrs.clone(), Subnets::default(), None);
    let key = lease.unwrap().subnets;
    // a renewal is no change that others see
    site.store().renew(key, Some(attrs)).unwrap();
    let (epoch, seen) = (
        site.store().epoch().to_owned(),
        *site.store().revisions().borrow(),
    );
    site.stop().await;
    site.start().await;
    let store = site.store();
    assert_ne!(store.epoch(), epoch);
    assert!(store.continues(&epoch, seen));
    assert!(!store.continues(&epoch, seen + 1) && !store.continues("other", 0));
    let (update, revision) = store.since(Some(seen));
    assert!(matches!(update, store::Update::Events(events) if events.is_empty()));
    assert_eq!(revision, seen);
}

/// Every lease has ended by the new time of day, and lives for the grace only.
#[tokio::test]
async fn connected_node_renews_within_the_grace_of_a_store_whose_clock_is_ahead() {
    let mut site = TestServer::new().await;
    let node = Node::join(site.client(), node(1)).await;
    let key = node.own.subnets;
    site.stop().await;
    site.open(Duration::from_millis(1), TTL)
        .renew(key, None)
        .unwrap();
    sleep(Duration::from_millis(20)).await;
    let store = site.open(TTL, Duration::from_secs(6));
    let before = *store.revisions().borrow();
    site.serve(store).await;
    eventually("the lease is renewed", || {
        let lease = site.store().lease(&key).0;
        let end = lease.and_then(|lease| lease.expiration).unwrap();
        end > std::time::SystemTime::now() + MARGIN
    })
    .await;
    let after = *site.store().revisions().borrow();
    assert_eq!(before, after, "the lease ended before");
}

#[tokio::test]
async fn overwritten_lease_is_told_again() {
    let site = TestServer::new().await;
    let running = Node::join(site.client(), node(1)).await;
    running.will_see(&[1]).await;
    let key = running.own.subnets;
    let changed = LeaseAttrs {
        backend_data: node(9).backend_data,
        ..node(1)
    };
    for _ in 0..2 {
        site.store().renew(key, Some(changed.clone())).unwrap();
        eventually("the lease is as its node told it", || {
            site.store().lease(&key).0.unwrap().attrs == node(1)
        })
        .await;
    }
}
