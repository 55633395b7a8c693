use super::*;
use crate::subnet::fixtures::{Authority, VERSION_1};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};
use std::{path::Path, sync::mpsc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer},
        server::WebPkiClientVerifier,
    },
};

/// A server that takes every token but "refused", and the tokens that it saw.
async fn server() -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, tokens) = mpsc::channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let token = request.lines().find_map(|line| {
                let (name, value) = line.split_once(": Bearer ")?;
                name.eq_ignore_ascii_case("authorization").then_some(value)
            });
            let token = token.unwrap_or_default().to_owned();
            let status = match token.as_str() {
                "refused" => "401 Unauthorized",
                _ => "200 OK",
            };
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}");
            stream.write_all(answer.as_bytes()).await.ok();
            sender.send(token).ok();
        }
    });
    (url, tokens)
}

const TOKEN: &str = "tokenFile: token";

fn kubeconfig(server: &str, more: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: c, cluster: {{server: '{server}'{more}}}}}]\n\
         users: [{{name: u, user: {{{user}}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
    )
}

/// Replaces a file as kubelet and careful programs do.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

async fn status(rotation: &mut Rotation) -> u16 {
    let request = Request::get("/version").body(Body::empty()).unwrap();
    rotation.call(request).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn credentials_are_those_of_the_files_at_each_request() {
    let (url, tokens) = server().await;
    let dir = tempfile::tempdir().unwrap();
    let (path, token) = (dir.path().join("config"), dir.path().join("token"));
    fs::write(&path, kubeconfig(&url, "", TOKEN)).unwrap();
    fs::write(&token, "first\n").unwrap();
    let mut rotation = Rotation::new(Source::Kubeconfig {
        path: path.clone(),
        server: None,
    })
    .unwrap();
    assert_eq!(rotation.server(), url);
    assert_eq!(status(&mut rotation).await, 200);
    assert_eq!(tokens.recv().unwrap(), "first");
    replace(&token, "second");
    assert_eq!(status(&mut rotation).await, 200);
    assert_eq!(tokens.recv().unwrap(), "second");
    // what cannot be read leaves what was read before
    replace(&path, "clusters: 7");
    assert_eq!(status(&mut rotation).await, 200);
    assert_eq!(tokens.recv().unwrap(), "second");
    replace(&path, &kubeconfig(&url, "", TOKEN));
    replace(&token, "refused");
    assert_eq!(status(&mut rotation).await, 401);
    assert_eq!(tokens.recv().unwrap(), "refused");
    replace(&token, "third");
    assert_eq!(status(&mut rotation).await, 200);
    assert_eq!(tokens.recv().unwrap(), "third");
}

#[tokio::test]
async fn refusal_reads_the_files_again_even_if_they_look_the_same() {
    let (url, tokens) = server().await;
    let dir = tempfile::tempdir().unwrap();
    let (path, token) = (dir.path().join("config"), dir.path().join("token"));
    fs::write(&path, kubeconfig(&url, "", TOKEN)).unwrap();
    fs::write(&token, "refused").unwrap();
    let mut rotation = Rotation::new(Source::Kubeconfig { path, server: None }).unwrap();
    assert_eq!(status(&mut rotation).await, 401);
    fs::write(&token, "renewed").unwrap();
    let files = rotation.0.lock().files.clone();
    rotation.0.lock().stamps = stamps(&files);
    rotation.0.lock().loaded -= RELOAD_INTERVAL;
    assert_eq!(status(&mut rotation).await, 200);
    assert_eq!(tokens.iter().take(2).last().unwrap(), "renewed");
}

#[tokio::test]
async fn proxy_of_the_kubeconfig_is_used() {
    let (url, tokens) = server().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    fs::write(dir.path().join("token"), "first").unwrap();
    // the proxy is asked for a tunnel and answers with no token seen
    let more = format!(", proxy-url: '{url}'");
    fs::write(&path, kubeconfig("http://api.invalid:6443", &more, TOKEN)).unwrap();
    let mut rotation = Rotation::new(Source::Kubeconfig { path, server: None }).unwrap();
    let request = Request::get("/version").body(Body::empty()).unwrap();
    drop(rotation.call(request).await);
    assert!(tokens.recv().is_ok());
}

/// A server that wants certificates of clients, and those that it saw, one per connection.
async fn tls_server(authority: &Authority) -> (String, mpsc::Receiver<CertificateDer<'static>>) {
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let (cert, key) = authority.issue();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let (sender, certificates) = mpsc::channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = acceptor.accept(stream).await.unwrap();
            let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
            sender.send(certificate).unwrap();
            // stays open: the next request may use it
            tokio::spawn(async move {
                while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (url, certificates)
}

#[tokio::test]
async fn renewed_client_certificate_is_shown_in_a_new_connection() {
    let authority = Authority::new();
    let (url, certificates) = tls_server(&authority).await;
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let issue = || {
        let (cert, key) = authority.issue();
        replace(&file("client.key"), &key.serialize_pem());
        replace(&file("client.crt"), &cert.pem());
        cert.der().clone()
    };
    let first = issue();
    fs::write(file("ca.crt"), authority.0.pem()).unwrap();
    let user = "client-certificate: client.crt, client-key: client.key";
    let config = kubeconfig(&url, ", certificate-authority: ca.crt", user);
    fs::write(file("config"), config).unwrap();
    let mut rotation = Rotation::new(Source::Kubeconfig {
        path: file("config"),
        server: None,
    })
    .unwrap();
    assert_eq!(status(&mut rotation).await, 200);
    assert_eq!(status(&mut rotation).await, 200);
    assert_eq!(certificates.recv().unwrap(), first);
    // one connection serves both requests
    assert!(certificates.try_recv().is_err());
    let renewed = issue();
    assert_eq!(status(&mut rotation).await, 200);
    assert_eq!(certificates.recv().unwrap(), renewed);
}

/// Another program may renew it, so that it is never a reason to end.
#[tokio::test]
async fn client_certificate_that_cannot_be_used_is_named_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    type Alter = fn(&mut CertificateParams);
    let expired: Alter = |params| params.not_after = date_time_ymd(2001, 2, 3);
    let future: Alter = |params| params.not_before = date_time_ymd(2090, 2, 3);
    let no_client: Alter =
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let good: Alter = |_| {};
    let path = dir.path().join("config");
    let load = |name: &str, alter: Alter| {
        let files = authority.files_with(dir.path(), name, &authority, alter);
        let user = format!(
            "client-certificate: {}, client-key: {}",
            files.cert.display(),
            files.key.display()
        );
        fs::write(&path, kubeconfig("https://127.0.0.1:1", "", &user)).unwrap();
        let source = Source::Kubeconfig {
            path: path.clone(),
            server: None,
        };
        (files, source)
    };
    for (name, alter, expected) in [
        ("expired", expired, "it has expired on 2001-02-03"),
        ("future", future, "it is not valid before 2090-02-03"),
        ("no-client", no_client, "has no clientAuth"),
        ("good", good, ""),
    ] {
        let (_, source) = load(name, alter);
        let current = Current::load(&source).unwrap();
        let text = warning(&current.certificate.unwrap(), &source.describe()).unwrap_or_default();
        assert_eq!(text.is_empty(), expected.is_empty(), "{name}: {text}");
        assert!(text.contains(expected), "{name}: {text}");
        let whose = format!(
            "the client certificate of the kubeconfig {}",
            path.display()
        );
        assert!(text.is_empty() || text.starts_with(&whose), "{text}");
    }
    // TLS cannot show it at all
    let (files, source) = load("old", good);
    fs::write(files.cert, VERSION_1).unwrap();
    let error = Current::load(&source).err().unwrap().to_string();
    assert!(
        error.contains("it is of X.509 version 1, and TLS needs version 3; replace it"),
        "{error}"
    );
}
