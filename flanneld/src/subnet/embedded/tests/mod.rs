//! Server and client over loopback.

mod api;
mod archive;
mod bad_requests;
mod epochs;
mod mutual_tls;
mod nodes;
mod watch;

use super::*;
use crate::{
    model::Subnets,
    model::lease::{Lease, LeaseAttrs, Leases},
    model::network_config::NetworkConfig,
    subnet::{Error, Session, SubnetManager, TTL, TlsFiles, alloc, fixtures},
};
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch as channel,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Longer than anything that must happen takes.
const TIMEOUT: Duration = Duration::from_secs(20);
const MARGIN: Duration = Duration::from_secs(3600);

fn config(json: &str) -> NetworkConfig {
    let mut config = NetworkConfig::parse(json).unwrap();
    config.check_subnets().unwrap();
    config
}

fn node(n: u8) -> LeaseAttrs {
    LeaseAttrs {
        public_ip: Some([192, 0, 2, n].into()),
        backend_type: "vxlan".into(),
        backend_data: Some(
            serde_json::json!({"VNI": 1, "VtepMAC": format!("02:00:00:00:00:{n:02x}")}),
        ),
        ..LeaseAttrs::default()
    }
}

/// A machine with a store, which it serves.
struct TestServer {
    folder: tempfile::TempDir,
    config: NetworkConfig,
    ttl: Duration,
    address: SocketAddr,
    store: Option<Arc<Store>>,
    server: Option<Server>,
}

impl TestServer {
    async fn new() -> TestServer {
        TestServer::with(r#"{"Network":"10.3.0.0/16"}"#, TTL).await
    }

    async fn with(json: &str, ttl: Duration) -> TestServer {
        let mut site = TestServer {
            folder: tempfile::tempdir_in("/dev/shm")
                .or_else(|_| tempfile::tempdir())
                .unwrap(),
            config: config(json),
            ttl,
            address: (fixtures::own_loopback_address(), 0).into(),
            store: None,
            server: None,
        };
        site.start().await;
        site
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("leases.redb")
    }

    /// Starts it, on the port it had before.
    async fn start(&mut self) {
        self.serve(self.open(self.ttl, self.ttl)).await;
    }

    fn open(&self, ttl: Duration, grace: Duration) -> Arc<Store> {
        Store::open_with(&self.path(), self.config.clone(), ttl, grace).unwrap()
    }

    async fn serve(&mut self, store: Arc<Store>) {
        let options = ServerOptions {
            listen: self.address.to_string(),
            tls: None,
            insecure: false,
        };
        let server = Server::start(options, store.clone()).await.unwrap();
        self.address = server.address;
        self.store = Some(store);
        self.server = Some(server);
    }

    async fn stop(&mut self) {
        self.server = None;
        let store = Arc::downgrade(&self.store.take().unwrap());
        // connections end with the server's tasks, a moment later
        eventually("the store is closed", || store.upgrade().is_none()).await;
        fixtures::closed_everywhere();
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn client(&self) -> Arc<Client> {
        self.client_with(MARGIN)
    }

    fn client_with(&self, renew_margin: Duration) -> Arc<Client> {
        let options = ClientOptions {
            remote: self.address.to_string(),
            tls: None,
            insecure: false,
            renew_margin,
        };
        Arc::new(Client::new(options).unwrap())
    }
}

/// A node that runs: its manager and what it sees.
struct Node {
    own: Lease,
    leases: channel::Receiver<Option<Leases>>,
    task: JoinHandle<Error>,
}

impl Node {
    async fn join(manager: Arc<impl SubnetManager + 'static>, attrs: LeaseAttrs) -> Node {
        Node::join_again(manager, attrs, Subnets::default()).await
    }

    async fn join_again(
        manager: Arc<impl SubnetManager + 'static>,
        attrs: LeaseAttrs,
        previous: Subnets,
    ) -> Node {
        let own = manager.acquire(&attrs, previous).await.unwrap();
        let (sender, leases) = channel::channel(None);
        let lease = own.clone();
        let task = tokio::spawn(async move { manager.run(session(&lease, sender)).await });
        Node { own, leases, task }
    }

    /// The nodes that it sees, by the last byte of their address; empty before the first snapshot.
    fn sees(&self) -> Vec<u8> {
        let leases = self.leases.borrow().clone().unwrap_or_default();
        let mut nodes: Vec<u8> = leases
            .iter()
            .map(|lease| lease.attrs.public_ip.unwrap().octets()[3])
            .collect();
        nodes.sort();
        nodes
    }

    async fn will_see(&self, nodes: &[u8]) {
        let what = format!("{} sees {nodes:?}", self.own.attrs.node());
        eventually(&what, || self.sees() == nodes).await;
    }

    /// How it ended.
    async fn end(mut self) -> Error {
        timeout(TIMEOUT, &mut self.task)
            .await
            .expect("the manager still runs")
            .unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < end, "not within {TIMEOUT:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// What a server answers to bytes, until it closes the connection.
async fn send(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // a server may refuse before it has read everything
    drop(stream.write_all(bytes).await);
    let mut answer = Vec::new();
    let read = timeout(TIMEOUT, stream.read_to_end(&mut answer)).await;
    drop(read.expect("the server neither answers nor closes"));
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request; status and body.
async fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = send(address, request.as_bytes()).await;
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let body = if head.contains("transfer-encoding: chunked") {
        unchunk(body)
    } else {
        body.to_owned()
    };
    (status.unwrap_or(0), body)
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}

/// What a daemon gives a manager that holds `own`.
fn session(own: &Lease, leases: channel::Sender<Option<Leases>>) -> Session {
    Session {
        own: channel::Sender::new(own.clone()),
        leases,
        node_ready: channel::channel(false).1,
    }
}
