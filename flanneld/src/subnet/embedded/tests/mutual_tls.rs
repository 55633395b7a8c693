//! Mutual TLS.

use super::*;
use crate::subnet::fixtures::Authority;
use std::fs;

async fn server(
    site: &TestServer,
    tls: Option<TlsFiles>,
    listen: &str,
) -> Result<Server, ServerError> {
    let options = ServerOptions {
        listen: listen.into(),
        tls,
        insecure: false,
    };
    Server::start(options, site.store.clone().unwrap()).await
}

fn client(remote: String, tls: Option<TlsFiles>) -> Arc<Client> {
    let options = ClientOptions {
        remote,
        tls,
        insecure: false,
        renew_margin: MARGIN,
    };
    Arc::new(Client::new(options).unwrap())
}

#[tokio::test]
async fn both_sides_need_a_certificate_of_the_authority() {
    let site = TestServer::new().await;
    let folder = site.folder.path();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = server(
        &site,
        Some(ours.files(folder, "server", &ours)),
        "0.0.0.0:0",
    )
    .await
    .unwrap();
    let remote = format!("127.0.0.1:{}", server.address.port());
    let good = client(
        format!("https://{remote}"),
        Some(ours.files(folder, "good", &ours)),
    );
    let node1 = Node::join(good, node(1)).await;
    node1.will_see(&[1]).await;
    for (name, tls) in [
        (
            "another authority's certificate",
            Some(theirs.files(folder, "other", &ours)),
        ),
        (
            "a client that trusts others",
            Some(ours.files(folder, "trusts", &theirs)),
        ),
        ("no TLS", None),
    ] {
        let client = client(remote.clone(), tls);
        let attrs = node(2);
        let acquired = timeout(
            Duration::from_millis(700),
            client.acquire(&attrs, Subnets::default()),
        )
        .await;
        assert!(acquired.is_err(), "{name}: {acquired:?}");
    }
    assert_eq!(site.store().leases().len(), 1);
    // a client without a certificate gets nothing either: the files come as three or not at all
    assert!(TlsFiles::from_options("", "", "ca.pem").is_err());
    assert_eq!(TlsFiles::from_options("", "", "").unwrap(), None);
}

#[tokio::test]
async fn rotated_certificates_need_no_restart() {
    let site = TestServer::new().await;
    let folder = site.folder.path();
    let (old, new) = (Authority::new(), Authority::new());
    let server = server(
        &site,
        Some(old.files(folder, "server", &old)),
        "127.0.0.1:0",
    )
    .await
    .unwrap();
    let remote = server.address.to_string();
    let files = old.files(folder, "client", &old);
    let client = client(remote, Some(files.clone()));
    client.acquire(&node(1), Subnets::default()).await.unwrap();
    // half a rotation breaks nothing
    let before = fs::read(folder.join("server.crt")).unwrap();
    fs::write(folder.join("server.crt"), "half a cert").unwrap();
    client.acquire(&node(1), Subnets::default()).await.unwrap();
    fs::write(folder.join("server.crt"), before).unwrap();
    client.acquire(&node(1), Subnets::default()).await.unwrap();
    new.files(folder, "server", &new);
    new.files(folder, "client", &new);
    client.acquire(&node(1), Subnets::default()).await.unwrap();
    assert_eq!(fs::read(&files.ca).unwrap(), new.0.pem().into_bytes());
}

#[tokio::test]
async fn plain_http_off_loopback_needs_insecure() {
    let site = TestServer::new().await;
    for listen in ["0.0.0.0:0", ":0"] {
        let error = server(&site, None, listen).await.err().unwrap().to_string();
        assert!(error.contains("-insecure"), "{error}");
        let options = ServerOptions {
            listen: listen.into(),
            tls: None,
            insecure: true,
        };
        let server = Server::start(options, site.store.clone().unwrap())
            .await
            .unwrap();
        let address = ([127, 0, 0, 1], server.address.port()).into();
        assert_eq!(request(address, "GET", "/v1/", "").await.0, 200);
    }
}

#[tokio::test]
async fn unusable_options_are_named() {
    let site = TestServer::new().await;
    for listen in ["", "8888", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999"] {
        let error = server(&site, None, listen).await.err().unwrap().to_string();
        assert!(
            error.contains("-listen") && error.contains("HOST:PORT"),
            "{error}"
        );
    }
    let error = server(&site, None, &site.address.to_string())
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("in use"), "{error}");
    let ours = Authority::new();
    let files = ours.files(site.folder.path(), "server", &ours);
    for (file, content) in [
        (&files.key, "x"),
        (&files.cert, ""),
        (&files.ca, "x"),
        (&files.ca, ""),
    ] {
        let before = fs::read(file).unwrap();
        fs::write(file, content).unwrap();
        let error = server(&site, Some(files.clone()), "127.0.0.1:0")
            .await
            .err()
            .unwrap();
        assert!(
            error.to_string().contains(file.to_str().unwrap()),
            "{error}"
        );
        fs::write(file, before).unwrap();
    }
    fs::remove_file(&files.key).unwrap();
    let error = server(&site, Some(files.clone()), "127.0.0.1:0")
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("server.key"), "{error}");
}
