//! Malformed requests: the answer names what is wrong, and the server keeps serving.

use super::*;

/// Method, path, body, expected status, expected part of the error.
type Malformed<'a> = (&'a str, &'a str, &'a str, u16, &'a str);

/// Asserts that a server refuses each request, stores nothing, and keeps serving.
async fn assert_refused(requests: &[Malformed<'_>]) {
    let site = TestServer::new().await;
    for (method, path, body, status, expected) in requests {
        let (got, text) = request(site.address, method, path, body).await;
        let case = format!("{method} {path} {body:.60}: {got} {text:.300}");
        assert_eq!(got, *status, "{case}");
        let json: serde_json::Value = serde_json::from_str(&text).expect(&case);
        assert!(
            json["error"].as_str().expect(&case).contains(expected),
            "{case}"
        );
    }
    assert_eq!(site.store().leases(), []);
    assert!(
        site.client()
            .acquire(&node(1), Subnets::default())
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused() {
    assert_refused(&[
        ("GET", "/v2/_/config", "", 404, "unknown path"),
        ("GET", "/v1/_/config/x", "", 404, "unknown path"),
        ("POST", "/v1/", "", 405, "use GET"),
        ("POST", "/v1/_/config", "{}", 405, "use GET"),
        ("PATCH", "/v1/_/leases", "{}", 405, "use GET or POST"),
        ("GET", "/v1/blue/config", "", 404, "no network blue"),
        ("GET", "/v1//config", "", 400, "1 to 63"),
        ("GET", "/v1/..%2f..%2fetc/config", "", 400, "network"),
    ])
    .await;
}

#[tokio::test]
async fn malformed_lease_requests_are_refused() {
    let large = format!(
        r#"{{"PublicIP":"192.0.2.1","x":"{}"}}"#,
        "y".repeat(wire::BODY_LIMIT)
    );
    let deep = format!(
        r#"{{"PublicIP":"192.0.2.1","BackendData":{}}}"#,
        "[".repeat(8000)
    );
    assert_refused(&[
        ("GET", "/", "", 404, "/v1/_/leases"),
        ("POST", "/v1/_/leases", "", 400, "JSON"),
        ("POST", "/v1/_/leases", "{", 400, "JSON"),
        ("POST", "/v1/_/leases", "[]", 400, "JSON"),
        ("POST", "/v1/_/leases", "{}", 400, "PublicIP is missing"),
        ("POST", "/v1/_/leases", r#"{"PublicIP":7}"#, 400, "PublicIP"),
        (
            "POST",
            "/v1/_/leases",
            r#"{"PublicIP":"256.0.0.1"}"#,
            400,
            "PublicIP",
        ),
        (
            "POST",
            "/v1/_/leases",
            r#"{"PublicIP":"239.1.1.1"}"#,
            400,
            "239.1.1.1",
        ),
        (
            "POST",
            "/v1/_/leases",
            r#"{"PublicIP":"192.0.2.1","PublicIPv6":"1.2.3.4"}"#,
            400,
            "PublicIPv6",
        ),
        (
            "POST",
            "/v1/_/leases",
            r#"{"PublicIP":"192.0.2.1","Previous":"../x"}"#,
            400,
            "Previous",
        ),
        (
            "POST",
            "/v1/_/leases",
            r#"{"PublicIP":"192.0.2.1","Formerly":7}"#,
            400,
            "Formerly",
        ),
        ("POST", "/v1/_/leases", &large, 413, "larger"),
        ("POST", "/v1/_/leases", &deep, 400, "JSON"),
        ("GET", "/v1/_/leases?next=x", "", 400, "next"),
        ("GET", "/v1/_/leases?watch=true&next=-1", "", 400, "next"),
    ])
    .await;
}

#[tokio::test]
async fn malformed_renewals_and_deletions_are_refused() {
    assert_refused(&[
        ("GET", "/v1/_/leases/10.3.1.0", "", 400, "10.12.13.0-24"),
        ("GET", "/v1/_/leases/10.3.1.0-24", "", 404, "10.3.1.0-24"),
        ("PUT", "/v1/_/leases/10.3.1.0-24", "", 404, "10.3.1.0-24"),
        ("PUT", "/v1/_/leases/10.3.1.0-24", "x", 400, "JSON"),
        (
            "PUT",
            "/v1/_/leases/10.3.1.0-24",
            r#"{"Subnet":"10.3.2.0/24"}"#,
            400,
            "10.3.2.0-24",
        ),
        (
            "PUT",
            "/v1/_/leases/10.3.1.0-24",
            r#"{"Subnet":"10.3.1.7/24"}"#,
            400,
            "host bits",
        ),
        ("DELETE", "/v1/_/leases/%00", "", 400, "subnet"),
        ("DELETE", "/v1/_/leases/10.3.1.0-24", "", 404, "10.3.1.0-24"),
    ])
    .await;
}

#[tokio::test]
async fn malformed_reservations_are_refused() {
    assert_refused(&[
        ("POST", "/v1/_/reservations", "{}", 400, "Subnet"),
        (
            "POST",
            "/v1/_/reservations",
            r#"{"Subnet":"10.3.1.0/24"}"#,
            400,
            "PublicIP",
        ),
        (
            "POST",
            "/v1/_/reservations",
            r#"{"Subnet":"10.3.1.0/25","PublicIP":"192.0.2.1"}"#,
            400,
            "not a subnet of this network",
        ),
        (
            "POST",
            "/v1/_/reservations",
            r#"{"Subnet":"10.3.1.0","PublicIP":"192.0.2.1"}"#,
            400,
            "Subnet",
        ),
        ("DELETE", "/v1/_/reservations/x", "", 400, "subnet"),
        (
            "DELETE",
            "/v1/_/reservations/10.3.1.0-24",
            "",
            404,
            "10.3.1.0-24",
        ),
    ])
    .await;
}

#[tokio::test]
async fn malformed_http_is_closed() {
    let site = TestServer::new().await;
    let long_head = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(5_000));
    let chunks = "POST /v1/_/leases HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_owned();
    let bomb = format!(
        "POST /v1/_/leases HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{}",
        format!("400\r\n{}\r\n", "x".repeat(1024)).repeat(64)
    );
    for bytes in [
        "\0\0\0\0\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "GET http:// HTTP/1.1\r\n\r\n".to_owned(),
        "POST /v1/_/leases HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n".to_owned(),
        "POST /v1/_/leases HTTP/1.1\r\nhost: x\r\ncontent-length: 999999999999\r\n\r\n{".to_owned(),
        long_head,
        many,
        chunks,
        bomb,
    ] {
        let answer = send(site.address, bytes.as_bytes()).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{bytes:.40}: {answer}");
    }
    assert_eq!(site.store().leases(), []);
    assert!(
        site.client()
            .acquire(&node(1), Subnets::default())
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn slow_requests_are_closed() {
    let site = TestServer::new().await;
    for bytes in [
        "",
        "GET /v1/_/lea",
        "POST /v1/_/leases HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{",
    ] {
        let start = Instant::now();
        send(site.address, bytes.as_bytes()).await;
        assert!(start.elapsed() < Duration::from_secs(4), "{bytes}");
    }
}
