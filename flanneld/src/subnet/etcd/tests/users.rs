//! Users and passwords.

use super::*;
use etcd_client::{ConnectOptions, Permission};

const PASSWORD: &str = "hunter2";

/// Turns on authentication with the user flannel, who may use the keys of the prefix alone.
async fn with_user(etcd: &TestEtcd) -> Client {
    let mut client = etcd.client().await;
    client.user_add("root", "root", None).await.unwrap();
    client.role_add("root").await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.role_add("flannel").await.unwrap();
    let keys = Permission::read_write(format!("{PREFIX}/")).with_prefix();
    client.role_grant_permission("flannel", keys).await.unwrap();
    client.user_add("flannel", PASSWORD, None).await.unwrap();
    client.user_grant_role("flannel", "flannel").await.unwrap();
    client.auth_enable().await.unwrap();
    let root = ConnectOptions::new()
        .with_user("root", "root")
        .with_auto_token_refresh(true);
    Client::connect([etcd.url()], Some(root)).await.unwrap()
}

fn manager(endpoints: String, user: &str, password: &str) -> Arc<Etcd> {
    let options = ConnectionOptions {
        endpoints,
        user: user.to_owned(),
        password: password.to_owned(),
        ..ConnectionOptions::default()
    };
    Arc::new(Etcd::new(options, PREFIX, MARGIN, Waiting::default()).unwrap())
}

#[tokio::test]
async fn tokens_that_end_are_replaced() {
    let etcd = TestEtcd::new().await;
    let mut root = with_user(&etcd).await;
    let mut tunnel = Tunnel::new(&etcd).await;
    let node = Node::join(manager(tunnel.url(), "flannel", PASSWORD), attrs(1)).await;
    node.will_see(&[1]).await;
    for n in [7, 8] {
        // tokens live for a second
        sleep(Duration::from_secs(2)).await;
        tunnel.cut().await;
        tunnel.open().await;
        let key = format!("{PREFIX}/subnets/10.3.20{n}.0-24");
        root.put(key, format!(r#"{{"PublicIP":"192.0.2.{n}"}}"#), None)
            .await
            .unwrap();
        node.will_see(&(1..=1).chain(7..=n).collect::<Vec<u8>>())
            .await;
    }
    // a request on the connection that the watch uses
    sleep(Duration::from_secs(2)).await;
    root.put(format!("{PREFIX}/{}", node.key()), "[]", None)
        .await
        .unwrap();
    eventually("the lease is written again", async || {
        let key = format!("{PREFIX}/{}", node.key());
        let kvs = root.get(key, None).await.ok()?.take_kvs();
        (kvs.first()?.value() != b"[]").then_some(())
    })
    .await;
    assert!(!node.task.is_finished());
}

#[tokio::test]
async fn refusals_are_waited_out_and_never_show_the_password() {
    let etcd = TestEtcd::new().await;
    let mut root = with_user(&etcd).await;
    for (user, password, text) in [
        ("", "", "user name is empty"),
        ("flannel", "wrong-secret", "authentication failed"),
        ("nobody", "wrong-secret", "authentication failed"),
    ] {
        let error = manager(etcd.url(), user, password)
            .read_config()
            .await
            .unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(text), "{shown}");
        assert!(!shown.contains("wrong-secret"), "{shown}");
    }
    root.role_revoke_permission(
        "flannel",
        format!("{PREFIX}/"),
        Some(etcd_client::RoleRevokePermissionOptions::new().with_prefix()),
    )
    .await
    .unwrap();
    let refused = manager(etcd.url(), "flannel", PASSWORD);
    let error = refused.read_config().await.unwrap_err().to_string();
    assert!(
        error.contains("permission denied") && error.contains("role grant-permission"),
        "{error}"
    );
    let waiting = tokio::spawn(async move { refused.network_config().await });
    let keys = Permission::read_write(format!("{PREFIX}/")).with_prefix();
    root.role_grant_permission("flannel", keys).await.unwrap();
    timeout(TIMEOUT, waiting).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn user_of_an_etcd_without_authentication_is_not_needed() {
    let etcd = TestEtcd::new().await;
    Node::join(manager(etcd.url(), "flannel", PASSWORD), attrs(1)).await;
}
