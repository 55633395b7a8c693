//! Keys and values that are no leases.

use super::*;

#[tokio::test]
async fn bad_keys_and_values_withdraw_nobody() {
    let etcd = TestEtcd::new().await;
    let first = Node::join(etcd.manager(), attrs(1)).await;
    let second = Node::join(etcd.manager(), attrs(2)).await;
    second.will_see(&[1, 2]).await;
    etcd.put("subnets/not-a-subnet", "x").await;
    etcd.put("subnets/10.3.250.0-24", "[]").await;
    etcd.put("subnets/10.3.251.0-24", vec![0xff, 0xfe]).await;
    etcd.put("subnets/10.3.252.0-24", vec![b'x'; 10 << 20])
        .await;
    // a value of a running node becomes unreadable: its node mends it
    etcd.put(&first.key(), vec![b'['; 10 << 20]).await;
    let third = Node::join(etcd.manager(), attrs(3)).await;
    eventually("the value is written again", async || {
        let kv = etcd.get(&first.key()).await.remove(0);
        (kv.value().len() < 1000).then_some(())
    })
    .await;
    for node in [&first, &second, &third] {
        node.will_see(&[1, 2, 3]).await;
        assert!(!node.task.is_finished());
    }
    // nothing is lost by starting over, either
    let fourth = Node::join(etcd.manager(), attrs(4)).await;
    fourth.will_see(&[1, 2, 3, 4]).await;
    first.will_see(&[1, 2, 3, 4]).await;
}

/// A value that was too long when it was asked for, and is another one a moment later.
#[tokio::test]
async fn value_that_becomes_short_again_is_not_left_out() {
    let etcd = Arc::new(TestEtcd::new().await);
    let manager = etcd.manager();
    let keys = ["config", "subnets/10.3.250.0-24"];
    let writer = tokio::spawn({
        let etcd = etcd.clone();
        async move {
            loop {
                for key in keys {
                    etcd.put(key, vec![b' '; 5 << 20]).await;
                    etcd.put(key, "short").await;
                }
            }
        }
    });
    for _ in 0..60 {
        let listing = manager.registry.list().await.unwrap();
        let config = manager.registry.read(manager.registry.keys.config()).await;
        for record in listing.records.into_iter().chain(config.unwrap().0) {
            let long = etcd.length_at(&record.key, record.mod_revision).await > 1000;
            assert_eq!(
                record.value.is_none(),
                long,
                "revision {}",
                record.mod_revision
            );
        }
    }
    writer.abort();
}

#[tokio::test]
async fn last_good_value_stays_while_the_key_is_there() {
    let etcd = TestEtcd::new().await;
    let node = Node::join(etcd.manager(), attrs(1)).await;
    etcd.put("subnets/10.3.209.0-24", r#"{"PublicIP":"192.0.2.9"}"#)
        .await;
    node.will_see(&[1, 9]).await;
    etcd.put("subnets/10.3.209.0-24", r#"{"PublicIP":9}"#).await;
    etcd.put("subnets/10.3.208.0-24", r#"{"PublicIP":"192.0.2.8"}"#)
        .await;
    node.will_see(&[1, 8, 9]).await;
    etcd.delete("subnets/10.3.209.0-24").await;
    node.will_see(&[1, 8]).await;
}

#[tokio::test]
async fn configuration_is_waited_for_and_its_error_named() {
    let etcd = TestEtcd::empty().await;
    let manager = etcd.manager();
    for (value, text) in [
        (
            None,
            "flannel config not found in etcd store. Did you create your config using etcdv3 API?",
        ),
        (
            Some(b"{".to_vec()),
            "etcdctl put /coreos.com/network/config",
        ),
        (Some(b"\xff".to_vec()), "not UTF-8"),
        (Some(vec![b' '; 10 << 20]), "longer than"),
        (
            Some(br#"{"Network":"10.3.0.0/16","SubnetLen":31}"#.to_vec()),
            "SubnetLen must be less than /31",
        ),
    ] {
        if let Some(value) = value {
            etcd.put("config", value).await;
        }
        let error = manager.read_config().await.unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    let waiting = tokio::spawn(async move { manager.network_config().await });
    sleep(Duration::from_millis(50)).await;
    etcd.put("config", V4).await;
    let config = timeout(TIMEOUT, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(config.raw, V4);
}
