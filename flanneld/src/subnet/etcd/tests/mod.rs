//! Nodes against a real etcd, over loopback.

mod bad_values;
mod leases;
mod outages;
mod users;

use super::*;
use crate::{model::lease::Leases, subnet::fixtures};
use etcd_client::{Client, GetOptions, KeyValue};
use std::{
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Instant,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch as channel,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

/// Longer than anything that must happen takes.
const TIMEOUT: Duration = Duration::from_secs(30);
const MARGIN: Duration = Duration::from_secs(3600);
const V4: &str = r#"{"Network":"10.3.0.0/16","Backend":{"Type":"vxlan"}}"#;
const PREFIX: &str = "/coreos.com/network";

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// An etcd process with one member.
struct TestEtcd {
    folder: tempfile::TempDir,
    ip: Ipv4Addr,
    process: Option<Child>,
}

impl TestEtcd {
    /// With a network configuration.
    async fn new() -> TestEtcd {
        let etcd = TestEtcd::empty().await;
        etcd.put("config", V4).await;
        etcd
    }

    async fn empty() -> TestEtcd {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let mut etcd = TestEtcd {
            folder: folder.unwrap(),
            ip: fixtures::own_loopback_address(),
            process: None,
        };
        etcd.start().await;
        etcd
    }

    fn url(&self) -> String {
        format!("http://{}:{CLIENT_PORT}", self.ip)
    }

    fn address(&self) -> SocketAddr {
        (self.ip, CLIENT_PORT).into()
    }

    /// Starts it on the data that it had, and waits until it answers.
    async fn start(&mut self) {
        let peer = format!("http://{}:{PEER_PORT}", self.ip);
        let mut command = Command::new("etcd");
        command
            .arg(format!(
                "--data-dir={}",
                self.folder.path().join("data").display()
            ))
            .arg(format!("--listen-client-urls={}", self.url()))
            .arg(format!("--advertise-client-urls={}", self.url()))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=default={peer}"))
            .args(["--heartbeat-interval=10", "--election-timeout=100"])
            .args(["--max-request-bytes=16000000", "--auth-token-ttl=1"])
            .args(["--logger=zap", "--unsafe-no-fsync"])
            .stderr(Stdio::null());
        let process = fixtures::spawn(&mut command);
        let process = process.expect("etcd cannot be started: apt-get install etcd-server");
        self.process = Some(process);
        let end = Instant::now() + TIMEOUT;
        while self.try_get("").await.is_none() {
            assert!(Instant::now() < end, "etcd does not answer");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// SIGKILL.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts it without the data that it had.
    async fn start_empty(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.folder.path().join("data")).unwrap();
        self.start().await;
    }

    async fn client(&self) -> Client {
        Client::connect([self.url()], None).await.unwrap()
    }

    async fn try_get(&self, key: &str) -> Option<Vec<KeyValue>> {
        let options = GetOptions::new().with_prefix();
        let key = format!("{PREFIX}/{key}");
        let client = Client::connect([self.url()], None).await.ok()?;
        let mut client = client.kv_client().max_decoding_message_size(32 << 20);
        let mut response = client.get(key, Some(options)).await.ok()?;
        Some(response.take_kvs())
    }

    /// Keys below the prefix.
    async fn get(&self, key: &str) -> Vec<KeyValue> {
        self.try_get(key).await.expect("etcd does not answer")
    }

    /// The length of a value at that revision.
    async fn length_at(&self, key: &[u8], revision: i64) -> usize {
        let client = self.client().await.kv_client();
        let options = GetOptions::new().with_revision(revision);
        let answer = client
            .max_decoding_message_size(32 << 20)
            .get(key, Some(options))
            .await;
        answer.unwrap().kvs()[0].value().len()
    }

    async fn put(&self, key: &str, value: impl Into<Vec<u8>>) {
        let key = format!("{PREFIX}/{key}");
        self.client().await.put(key, value, None).await.unwrap();
    }

    async fn delete(&self, key: &str) {
        let key = format!("{PREFIX}/{key}");
        self.client().await.delete(key, None).await.unwrap();
    }

    async fn ttl(&self, lease: i64) -> i64 {
        let status = self
            .client()
            .await
            .lease_client()
            .time_to_live(lease, None)
            .await;
        status.unwrap().ttl()
    }

    fn manager(&self) -> Arc<Etcd> {
        self.manager_with(self.url(), TTL)
    }

    fn manager_with(&self, endpoints: String, ttl: Duration) -> Arc<Etcd> {
        let options = ConnectionOptions {
            endpoints,
            ..ConnectionOptions::default()
        };
        let mut manager = Etcd::new(options, PREFIX, MARGIN, Waiting::default()).unwrap();
        manager.ttl = ttl;
        Arc::new(manager)
    }
}

impl Drop for TestEtcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A way to etcd that can be cut.
struct Tunnel {
    address: SocketAddr,
    to: SocketAddr,
    task: Option<JoinHandle<()>>,
}

impl Tunnel {
    async fn new(etcd: &TestEtcd) -> Tunnel {
        let mut tunnel = Tunnel {
            address: (fixtures::own_loopback_address(), 0).into(),
            to: etcd.address(),
            task: None,
        };
        tunnel.open().await;
        tunnel
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let to = self.to;
        self.task = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let mut server = TcpStream::connect(to).await?;
                    tokio::io::copy_bidirectional(&mut stream, &mut server).await
                });
            }
        }));
    }

    async fn cut(&mut self) {
        let task = self.task.take().unwrap();
        task.abort();
        drop(task.await);
        fixtures::closed_everywhere();
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn attrs(n: u8) -> LeaseAttrs {
    LeaseAttrs {
        public_ip: Some([192, 0, 2, n].into()),
        backend_type: "vxlan".into(),
        backend_data: Some(
            serde_json::json!({"VNI": 1, "VtepMAC": format!("02:00:00:00:00:{n:02x}")}),
        ),
        ..LeaseAttrs::default()
    }
}

/// A node that runs: its manager and what it sees.
struct Node {
    own: Lease,
    leases: channel::Receiver<Option<Leases>>,
    task: JoinHandle<Error>,
}

impl Node {
    async fn join(manager: Arc<Etcd>, attrs: LeaseAttrs) -> Node {
        Node::join_again(manager, attrs, Subnets::default()).await
    }

    async fn join_again(manager: Arc<Etcd>, attrs: LeaseAttrs, previous: Subnets) -> Node {
        manager.network_config().await.unwrap();
        let own = manager.acquire(&attrs, previous).await.unwrap();
        let session = Session {
            own: channel::Sender::new(own.clone()),
            leases: channel::Sender::new(None),
            node_ready: channel::channel(true).1,
        };
        let leases = session.leases.subscribe();
        let task = tokio::spawn(async move { manager.run(session).await });
        Node { own, leases, task }
    }

    fn key(&self) -> String {
        format!("subnets/{}", self.own.subnets)
    }

    /// The nodes that it sees, by the last byte of their address; empty before the first snapshot.
    fn sees(&self) -> Vec<u8> {
        let leases = self.leases.borrow().clone().unwrap_or_default();
        let ips = leases.iter().filter_map(|lease| lease.attrs.public_ip);
        let mut nodes: Vec<u8> = ips.map(|ip| ip.octets()[3]).collect();
        nodes.sort();
        nodes
    }

    async fn will_see(&self, nodes: &[u8]) {
        let end = Instant::now() + TIMEOUT;
        while self.sees() != nodes {
            assert!(
                Instant::now() < end,
                "sees {:?}, not {nodes:?}",
                self.sees()
            );
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// How it ended.
    async fn end(mut self) -> Error {
        let ended = timeout(TIMEOUT, &mut self.task).await;
        ended.expect("the manager still runs").unwrap()
    }

    async fn stop(self) {
        self.task.abort();
        sleep(Duration::ZERO).await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Polls until etcd has what is asked for.
async fn eventually<T>(what: &str, mut is_so: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + TIMEOUT;
    loop {
        if let Some(value) = is_so().await {
            return value;
        }
        assert!(Instant::now() < end, "not within {TIMEOUT:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
