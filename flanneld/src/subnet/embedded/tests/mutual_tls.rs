//! Mutual TLS.

use super::*;
use crate::subnet::{
    fixtures::{Authority, VERSION_1},
    renewal::LeaseStore,
};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, SanType, date_time_ymd};
use std::{fs, path::Path};

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

/// Files whose certificate names this node or, with an organization, has this role.
fn named(ours: &Authority, folder: &Path, name: &str, role: &str, uri: bool) -> TlsFiles {
    ours.files_with(folder, name, ours, |params| {
        params.distinguished_name.push(DnType::CommonName, name);
        if !role.is_empty() {
            params
                .distinguished_name
                .push(DnType::OrganizationName, role);
        }
        if uri {
            let uri = format!("urn:flannel:node:{name}");
            let uri = SanType::URI(uri.as_str().try_into().unwrap());
            params.subject_alt_names.push(uri);
        }
    })
}

async fn grant(client: &Client, attrs: &LeaseAttrs) -> Result<Lease, String> {
    let granted = client.grant(attrs, Subnets::default()).await;
    granted.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_certificate_changes_the_lease_of_its_node_only() {
    let site = TestServer::new().await;
    let folder = site.folder.path();
    let ours = Authority::new();
    let server = server(
        &site,
        Some(ours.files(folder, "server", &ours)),
        "127.0.0.1:0",
    )
    .await
    .unwrap();
    let remote = server.address.to_string();
    let with = |name: &str, role: &str, uri| {
        client(remote.clone(), Some(named(&ours, folder, name, role, uri)))
    };
    let (a, b) = (with("node-a", "", false), with("node-b", "", true));
    let operator = with("admin", "flannel:operators", false);
    let lease_a = grant(&a, &node(1)).await.unwrap();
    let lease_b = grant(&b, &node(2)).await.unwrap();

    // b tries to take, to change and to rename itself into the lease of a
    let mut stolen = lease_a.clone();
    stolen.attrs.backend_data = node(9).backend_data;
    for refused in [
        grant(&b, &node(1)).await,
        b.renew(&lease_a).await.map_err(|error| error.to_string()),
        b.renew(&stolen).await.map_err(|error| error.to_string()),
    ] {
        let error = refused.unwrap_err();
        assert!(
            error.contains("403") && error.contains("belongs to node-a"),
            "{error}"
        );
    }
    let reservation = alloc::Reservation {
        subnets: "10.3.200.0-24".parse().unwrap(),
        attrs: node(7),
    };
    let error = b.reserve(&reservation).await.unwrap_err().to_string();
    assert!(error.contains("only an operator"), "{error}");
    assert_eq!(
        site.store().lease(&lease_a.subnets).0.unwrap().attrs,
        node(1)
    );

    // each renews its own, and the operator changes what it likes
    a.renew(&lease_a).await.unwrap();
    b.renew(&lease_b).await.unwrap();
    operator.reserve(&reservation).await.unwrap();
    operator.renew(&stolen).await.unwrap();
    a.renew(&lease_a).await.unwrap();
    // a node that comes back with another address has its lease by its name
    assert_eq!(grant(&b, &node(3)).await.unwrap().subnets, lease_b.subnets);
    // a name that another program chose may be that of many nodes: it gets no second lease
    let second = with("node-a", "", false);
    let error = grant(&second, &node(4)).await.unwrap_err();
    assert!(error.contains("node-a already holds lease"), "{error}");
}

#[tokio::test]
async fn owners_outlive_a_restart_and_insecure_ignores_them() {
    let mut site = TestServer::new().await;
    let folder = site.folder.path().to_owned();
    let ours = Authority::new();
    let files = ours.files(&folder, "server", &ours);
    let first = server(&site, Some(files.clone()), "127.0.0.1:0")
        .await
        .unwrap();
    let b = named(&ours, &folder, "node-b", "", true);
    let a = client(
        first.address.to_string(),
        Some(named(&ours, &folder, "node-a", "", true)),
    );
    let lease = grant(&a, &node(1)).await.unwrap();
    drop(first);
    site.stop().await;
    site.start().await;
    let second = server(&site, Some(files.clone()), "127.0.0.1:0")
        .await
        .unwrap();
    let thief = client(second.address.to_string(), Some(b.clone()));
    assert!(grant(&thief, &node(1)).await.is_err());
    let options = ServerOptions {
        listen: "127.0.0.1:0".into(),
        tls: Some(files),
        insecure: true,
    };
    let third = Server::start(options, site.store.clone().unwrap())
        .await
        .unwrap();
    let anybody = client(third.address.to_string(), Some(b));
    assert_eq!(
        grant(&anybody, &node(1)).await.unwrap().subnets,
        lease.subnets
    );
}

#[tokio::test]
async fn a_certificate_that_the_other_side_would_refuse_is_refused_at_the_start() {
    let site = TestServer::new().await;
    let folder = site.folder.path();
    let ours = Authority::new();
    type Alter = fn(&mut CertificateParams);
    let expired: Alter = |params| params.not_after = date_time_ymd(2001, 2, 3);
    let future: Alter = |params| params.not_before = date_time_ymd(2090, 2, 3);
    let no_client: Alter = |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    let no_server: Alter = |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    let elsewhere: Alter = |params| {
        params.subject_alt_names = vec![SanType::IpAddress([10, 0, 0, 1].into())];
    };
    let nowhere: Alter = |params| params.subject_alt_names.clear();
    for (name, alter, as_client, as_server) in [
        (
            "expired",
            expired,
            Some("expired on 2001-02-03"),
            Some("expired on 2001-02-03"),
        ),
        (
            "future",
            future,
            Some("not valid before 2090"),
            Some("not valid before 2090"),
        ),
        ("no-client", no_client, Some("no clientAuth"), None),
        ("no-server", no_server, None, Some("no serverAuth")),
        (
            "elsewhere",
            elsewhere,
            None,
            Some("is for 10.0.0.1, and not for 127.0.0.1"),
        ),
        ("nowhere", nowhere, None, Some("names no address")),
    ] {
        let files = ours.files_with(folder, name, &ours, alter);
        let options = ClientOptions {
            remote: "127.0.0.1:1".into(),
            tls: Some(files.clone()),
            insecure: false,
            renew_margin: MARGIN,
        };
        let started = Client::new(options).err().map(|error| error.to_string());
        let served = server(&site, Some(files), "127.0.0.1:0").await.err();
        let served = served.map(|error| error.to_string());
        for (refused, expected) in [(started, as_client), (served, as_server)] {
            let text = refused.clone().unwrap_or_default();
            assert_eq!(refused.is_some(), expected.is_some(), "{name}: {text}");
            assert!(
                text.contains(expected.unwrap_or_default()),
                "{name}: {text}"
            );
            let complete = text.contains(".crt: ") && text.contains("flanneld pki issue NAME");
            assert!(refused.is_none() || complete, "{name}: {text}");
        }
    }
}

#[tokio::test]
async fn a_key_of_another_certificate_and_version_1_are_named() {
    let site = TestServer::new().await;
    let folder = site.folder.path();
    let ours = Authority::new();
    let files = ours.files(folder, "one", &ours);
    let other = ours.files(folder, "two", &ours);
    let mixed = TlsFiles {
        key: other.key,
        ..files.clone()
    };
    let error = server(&site, Some(mixed), "127.0.0.1:0")
        .await
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .contains("two.key is not that of certificate"),
        "{error}"
    );
    fs::write(&files.cert, VERSION_1).unwrap();
    let error = server(&site, Some(files), "127.0.0.1:0")
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("X.509 version 1"), "{error}");
}

#[tokio::test]
async fn a_failed_handshake_says_whose_certificate_is_wrong() {
    let site = TestServer::new().await;
    let folder = site.folder.path();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let files = ours.files(folder, "server", &ours);
    let server = server(&site, Some(files), "127.0.0.1:0").await.unwrap();
    let remote = server.address.to_string();
    let by_other_name = remote.replace("127.0.0.1", "127.0.0.2");
    let port = server.address.port();
    let everywhere = Server::start(
        ServerOptions {
            listen: "0.0.0.0:0".into(),
            tls: Some(ours.files(folder, "everywhere", &ours)),
            insecure: false,
        },
        site.store.clone().unwrap(),
    );
    let everywhere = everywhere.await.unwrap();
    let by_other_name =
        by_other_name.replace(&port.to_string(), &everywhere.address.port().to_string());
    for (remote, files, expected) in [
        (
            &remote,
            theirs.files(folder, "theirs", &ours),
            "refuses this node's certificate",
        ),
        (
            &remote,
            ours.files(folder, "trusts", &theirs),
            "is not from the authority in",
        ),
        (
            &by_other_name,
            ours.files(folder, "name", &ours),
            "not for 127.0.0.2",
        ),
        (
            &site.address.to_string(),
            ours.files(folder, "plain", &ours),
            "does not speak TLS",
        ),
    ] {
        let client = client(format!("https://{remote}"), Some(files));
        let error = grant(&client, &node(1)).await.unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert!(
            !error.contains("docs.rs") && !error.contains("Error("),
            "{error}"
        );
    }
}
