//! Outages of etcd: nobody is withdrawn, and the watch goes on.

use super::*;

#[tokio::test]
async fn etcd_that_is_killed_and_restarted_withdraws_nobody() {
    let mut etcd = TestEtcd::new().await;
    let first = Node::join(etcd.manager(), attrs(1)).await;
    let second = Node::join(etcd.manager(), attrs(2)).await;
    first.will_see(&[1, 2]).await;
    second.will_see(&[1, 2]).await;
    etcd.kill();
    sleep(Duration::from_millis(300)).await;
    assert_eq!((first.sees(), second.sees()), (vec![1, 2], vec![1, 2]));
    etcd.start().await;
    let third = Node::join(etcd.manager(), attrs(3)).await;
    for node in [&first, &second, &third] {
        node.will_see(&[1, 2, 3]).await;
    }
}

#[tokio::test]
async fn next_endpoint_is_used_if_one_does_not_answer() {
    let etcd = TestEtcd::new().await;
    // nothing listens on the first, the second accepts and never answers
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("http://{}:1", etcd.ip);
    let endpoints = format!(
        "{closed},http://{},{}",
        silent.local_addr().unwrap(),
        etcd.url()
    );
    let manager = etcd.manager_with(endpoints, TTL);
    let joined = timeout(TIMEOUT, Node::join(manager, attrs(1))).await;
    joined.expect("the node joins").will_see(&[1]).await;
}

#[tokio::test]
async fn compaction_during_an_outage_leads_to_a_new_list() {
    let etcd = TestEtcd::new().await;
    let mut tunnel = Tunnel::new(&etcd).await;
    let node = Node::join(etcd.manager_with(tunnel.url(), TTL), attrs(1)).await;
    etcd.put("subnets/10.3.208.0-24", r#"{"PublicIP":"192.0.2.8"}"#)
        .await;
    etcd.put("subnets/10.3.209.0-24", r#"{"PublicIP":"192.0.2.9"}"#)
        .await;
    node.will_see(&[1, 8, 9]).await;
    let mut leases = node.leases.clone();
    tunnel.cut().await;
    etcd.delete("subnets/10.3.209.0-24").await;
    etcd.put("subnets/10.3.207.0-24", r#"{"PublicIP":"192.0.2.7"}"#)
        .await;
    let mut client = etcd.client().await;
    let revision = client
        .get("x", None)
        .await
        .unwrap()
        .header()
        .unwrap()
        .revision();
    client.compact(revision, None).await.unwrap();
    leases.mark_unchanged();
    tunnel.open().await;
    timeout(TIMEOUT, leases.changed()).await.unwrap().unwrap();
    assert_eq!(
        node.sees(),
        [1, 7, 8],
        "one snapshot, nothing withdrawn in between"
    );
}

#[tokio::test]
async fn outage_that_outlives_the_lease_is_no_revocation() {
    let etcd = TestEtcd::new().await;
    let ttl = Duration::from_secs(2);
    let mut tunnel = Tunnel::new(&etcd).await;
    let node = Node::join(etcd.manager_with(tunnel.url(), ttl), attrs(1)).await;
    node.will_see(&[1]).await;
    tunnel.cut().await;
    eventually("the lease ends", async || {
        etcd.get("subnets/").await.is_empty().then_some(())
    })
    .await;
    assert_eq!(node.sees(), [1]);
    tunnel.open().await;
    eventually("the same subnet is leased again", async || {
        let kvs = etcd.get("subnets/").await;
        let key = kvs.first()?.key_str().ok()?.ends_with(&node.key());
        key.then_some(())
    })
    .await;
    assert!(!node.task.is_finished());
}

#[tokio::test]
async fn subnet_that_went_to_another_node_during_an_outage_is_lost() {
    let etcd = TestEtcd::new().await;
    let ttl = Duration::from_secs(2);
    let mut tunnel = Tunnel::new(&etcd).await;
    let node = Node::join(etcd.manager_with(tunnel.url(), ttl), attrs(1)).await;
    node.will_see(&[1]).await;
    tunnel.cut().await;
    eventually("the lease ends", async || {
        etcd.get("subnets/").await.is_empty().then_some(())
    })
    .await;
    etcd.put(&node.key(), r#"{"PublicIP":"192.0.2.9"}"#).await;
    tunnel.open().await;
    let ended = node.end().await;
    assert!(
        matches!(&ended, Error::Taken { by, .. } if by == "192.0.2.9"),
        "{ended}"
    );
}

#[tokio::test]
async fn store_that_was_lost_is_filled_again() {
    let mut etcd = TestEtcd::new().await;
    let first = Node::join(etcd.manager(), attrs(1)).await;
    let second = Node::join(etcd.manager(), attrs(2)).await;
    first.will_see(&[1, 2]).await;
    second.will_see(&[1, 2]).await;
    etcd.start_empty().await;
    etcd.put("config", V4).await;
    eventually("both nodes are registered again", async || {
        (etcd.get("subnets/").await.len() == 2).then_some(())
    })
    .await;
    first.will_see(&[1, 2]).await;
    second.will_see(&[1, 2]).await;
    let third = Node::join(etcd.manager(), attrs(3)).await;
    for node in [&first, &second, &third] {
        node.will_see(&[1, 2, 3]).await;
    }
}
