//! The API as curl, or a flannel of long ago, uses it.

use super::*;
use serde_json::{Value, json};

async fn ok(site: &TestServer, method: &str, path: &str, body: Value) -> Value {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let (status, text) = request(site.address, method, path, &body).await;
    assert_eq!(status, 200, "{method} {path}: {text}");
    if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&text).unwrap()
    }
}

#[tokio::test]
async fn lease_is_granted_renewed_and_revoked() {
    let site = TestServer::with(
        r#"{"Network":"10.3.0.0/16","Backend":{"Type":"vxlan"}}"#,
        TTL,
    )
    .await;
    assert_eq!(
        ok(&site, "GET", "/v1/", Value::Null).await["snapshot"],
        json!(["_"])
    );
    let config = ok(&site, "GET", "/v1/_/config", Value::Null).await;
    assert_eq!(config["Network"], "10.3.0.0/16");
    let attrs = json!({"PublicIP": "192.0.2.1", "BackendType": "vxlan", "BackendData": {"VNI": 7}});
    let lease = ok(&site, "POST", "/v1/_/leases", attrs.clone()).await;
    assert_eq!(lease["Attrs"]["BackendData"]["VNI"], 7);
    assert_eq!(lease["Attrs"]["PublicIPv6"], Value::Null);
    assert!(lease["Expiration"].as_str().unwrap().ends_with('Z'));
    let subnet = lease["Subnet"].as_str().unwrap().to_owned();
    let path = format!("/v1/_/leases/{}", subnet.replace('/', "-"));
    // the same again
    assert_eq!(
        ok(&site, "POST", "/v1/_/leases", attrs).await["Subnet"],
        lease["Subnet"]
    );
    let all = ok(&site, "GET", "/v1/_/leases", Value::Null).await;
    assert_eq!(all["snapshot"].as_array().unwrap().len(), 1);
    assert!(all["cursor"].as_str().unwrap().parse::<u64>().is_ok());
    let one = ok(&site, "GET", &path, Value::Null).await;
    assert_eq!(one["snapshot"][0]["Subnet"], lease["Subnet"]);
    // renewed with a body, as the old client does, and without
    assert_eq!(
        ok(&site, "PUT", &path, lease.clone()).await["Subnet"],
        lease["Subnet"]
    );
    assert_eq!(
        ok(&site, "PUT", &path, Value::Null).await["Attrs"],
        lease["Attrs"]
    );
    ok(&site, "DELETE", &path, Value::Null).await;
    assert_eq!(request(site.address, "GET", &path, "").await.0, 404);
    assert_eq!(request(site.address, "PUT", &path, "").await.0, 410);
    assert_eq!(request(site.address, "DELETE", &path, "").await.0, 404);
}

#[tokio::test]
async fn reservations_are_made_listed_and_ended() {
    let site = TestServer::new().await;
    let wanted = json!({"Subnet": "10.3.77.0/24", "PublicIP": "192.0.2.7"});
    ok(&site, "POST", "/v1/_/reservations", wanted.clone()).await;
    assert_eq!(
        ok(&site, "GET", "/v1/_/reservations", Value::Null).await,
        json!([wanted])
    );
    let lease = ok(
        &site,
        "POST",
        "/v1/_/leases",
        json!({"PublicIP": "192.0.2.7"}),
    )
    .await;
    assert_eq!(lease["Subnet"], "10.3.77.0/24");
    assert_eq!(lease["Expiration"], "0001-01-01T00:00:00Z");
    let other = json!({"Subnet": "10.3.77.0/24", "PublicIP": "192.0.2.8"});
    let (status, text) = request(
        site.address,
        "POST",
        "/v1/_/reservations",
        &other.to_string(),
    )
    .await;
    assert!(
        status == 409 && text.contains("192.0.2.7"),
        "{status} {text}"
    );
    ok(
        &site,
        "DELETE",
        "/v1/_/reservations/10.3.77.0-24",
        Value::Null,
    )
    .await;
    assert_eq!(
        request(
            site.address,
            "DELETE",
            "/v1/_/reservations/10.3.77.0-24",
            ""
        )
        .await
        .0,
        404
    );
    assert_eq!(
        ok(&site, "GET", "/v1/_/reservations", Value::Null).await,
        json!([])
    );
}

#[tokio::test]
async fn lease_has_both_families() {
    let site = TestServer::with(
        r#"{"Network":"10.3.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/48"}"#,
        TTL,
    )
    .await;
    let attrs = json!({"PublicIP": "192.0.2.1", "PublicIPv6": "2001:db8::1", "Previous": "10.3.5.0-24&fd00:0:0:5::-64"});
    let lease = ok(&site, "POST", "/v1/_/leases", attrs).await;
    assert_eq!(
        (&lease["Subnet"], &lease["IPv6Subnet"]),
        (&json!("10.3.5.0/24"), &json!("fd00:0:0:5::/64"))
    );
    for path in [
        "10.3.5.0-24&fd00:0:0:5::-64",
        "10.3.5.0-24%26fd00%3A0%3a0:5::-64",
    ] {
        ok(&site, "GET", &format!("/v1/_/leases/{path}"), Value::Null).await;
    }
}

#[tokio::test]
async fn out_of_subnets_names_the_range() {
    let site = TestServer::with(r#"{"Network":"10.3.0.0/26"}"#, TTL).await;
    for n in 1..=3 {
        ok(
            &site,
            "POST",
            "/v1/_/leases",
            json!({"PublicIP": format!("192.0.2.{n}")}),
        )
        .await;
    }
    let (status, text) = request(
        site.address,
        "POST",
        "/v1/_/leases",
        r#"{"PublicIP":"192.0.2.9"}"#,
    )
    .await;
    assert!(
        status == 409 && text.contains("out of subnets") && text.contains("10.3.0.16"),
        "{text}"
    );
    let error = site
        .client()
        .acquire(&node(9), Subnets::default())
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Alloc(alloc::Error::OutOfSubnets { min, max }) if min == "10.3.0.16" && max == "10.3.0.48")
    );
}

#[tokio::test]
async fn long_poll_returns_at_a_change() {
    let site = TestServer::new().await;
    let all = ok(&site, "GET", "/v1/_/leases", Value::Null).await;
    let path = format!("/v1/_/leases?next={}", all["cursor"].as_str().unwrap());
    let waiting = request(site.address, "GET", &path, "");
    let joining = async {
        sleep(Duration::from_millis(100)).await;
        site.store()
            .acquire(node(1), Subnets::default(), None)
            .unwrap();
    };
    let ((status, text), ()) = tokio::join!(waiting, joining);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status, answer["snapshot"].as_array().unwrap().len()),
        (200, 1)
    );
    assert_ne!(answer["cursor"], all["cursor"]);
}

#[tokio::test]
async fn large_snapshot_is_one_json_text() {
    let site = TestServer::with(r#"{"Network":"10.0.0.0/8"}"#, TTL).await;
    for n in 0..700u16 {
        let attrs = LeaseAttrs {
            public_ip: Some([198, 18, n.to_be_bytes()[0], n.to_be_bytes()[1]].into()),
            backend_data: Some(json!({"text": "x".repeat(300)})),
            ..node(0)
        };
        site.store()
            .acquire(attrs, Subnets::default(), None)
            .unwrap();
    }
    let all = ok(&site, "GET", "/v1/_/leases", Value::Null).await;
    assert_eq!(all["snapshot"].as_array().unwrap().len(), 700);
    // and a watch sends it in pieces that make the same
    let node = Node::join(site.client(), node(1)).await;
    eventually("701 leases", || node.sees().len() == 701).await;
}

#[tokio::test]
async fn dual_stack_lease_is_found_by_either_family() {
    let json = r#"{"Network":"10.3.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:3::/48"}"#;
    let site = TestServer::with(json, TTL).await;
    let attrs = LeaseAttrs {
        public_ipv6: Some("fd00::1".parse().unwrap()),
        ..node(1)
    };
    let lease = site.store().acquire(attrs, Subnets::default(), None);
    let lease = lease.unwrap();
    let whole = lease.subnets.to_string();
    let (v4, v6) = whole.split_once('&').unwrap();
    let v6_only = format!("0.0.0.0-0&{v6}");
    for key in [&whole, v4, v6, &v6_only] {
        let path = format!("/v1/_/leases/{key}");
        let (status, body) = request(site.address, "GET", &path, "").await;
        assert!(
            status == 200 && body.contains(&lease.subnets.v4.unwrap().to_string()),
            "{key}: {body}"
        );
        let body = serde_json::to_string(&lease).unwrap();
        let (status, answer) = request(site.address, "PUT", &path, &body).await;
        assert_eq!(status, 200, "{key}: {answer}");
    }
    let (status, _) = request(site.address, "GET", "/v1/_/leases/10.3.250.0-25", "").await;
    assert_eq!(status, 404);
    let (status, answer) = request(site.address, "DELETE", &format!("/v1/_/leases/{v6}"), "").await;
    assert_eq!(status, 200, "{answer}");
    assert!(site.store().leases().is_empty());
}
