//! Requests to the API server without kubectl, over HTTP/1.1 with keep-alive.

use super::{PORT, User};
use crate::{Host, fault_proxy::tls};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};
use tokio::{net::TcpStream, runtime::Runtime};
use tokio_rustls::TlsConnector;

/// Connections that make many objects.
const CONNECTIONS: usize = 4;
const JSON: &str = "application/json";
/// Without spec and status: the answer to a change that nobody reads.
pub(super) const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How a patch is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch {
    /// application/merge-patch+json
    Merge,
    /// application/strategic-merge-patch+json
    Strategic,
}

/// Why a request has no answer, or not the wanted one.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The connection could not be made.
    #[error("connect to the API server: {0}")]
    Connect(#[from] std::io::Error),
    /// The connection ended, or the answer is no HTTP.
    #[error("request to the API server: {0}")]
    Http(#[from] hyper::Error),
    /// The answer did not come in time.
    #[error("no answer from the API server in time")]
    TimedOut(#[from] tokio::time::error::Elapsed),
    /// The answer is an error.
    #[error("status {0}: {1}")]
    Status(u16, String),
}

/// Makes requests in the namespace of the API server.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    user: User,
}

struct Shared {
    host: Host,
    tls: TlsConnector,
}

/// One keep-alive connection.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    user: User,
}

impl Client {
    pub(super) fn new(host: &Host, ca: &Path) -> Client {
        let (host, tls) = (host.handle(), tls::connector(ca));
        Client {
            shared: Arc::new(Shared { host, tls }),
            user: User::Admin,
        }
    }

    /// The same as another user.
    #[must_use]
    pub fn as_user(&self, user: User) -> Client {
        Client {
            shared: self.shared.clone(),
            user,
        }
    }

    /// One request on a connection of its own; status and body.
    pub fn try_request(
        &self,
        method: &str,
        path: &str,
        patch: Option<Patch>,
        body: Option<&Value>,
    ) -> Result<(u16, Value), RequestError> {
        self.run(async || {
            self.connect()
                .await?
                .request(method, path, patch, body)
                .await
        })
    }

    /// The same for a request that must succeed.
    #[track_caller]
    pub fn ok(
        &self,
        method: &str,
        path: &str,
        patch: Option<Patch>,
        body: Option<&Value>,
    ) -> Value {
        match self.try_request(method, path, patch, body) {
            Ok((200..=299, answer)) => answer,
            Ok((status, answer)) => panic!("{method} {path}: {status}: {answer}"),
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    /// One request that changes something and must succeed.
    pub(super) fn succeed(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(), RequestError> {
        match self.try_request(method, path, None, body)? {
            (200..=299, _) => Ok(()),
            (status, answer) => Err(RequestError::Status(status, answer.to_string())),
        }
    }

    /// POSTs each object (JSON), over a few connections at once.
    #[track_caller]
    pub(super) fn create_all(&self, path: &str, objects: impl Iterator<Item = String> + Send) {
        let objects = Mutex::new(objects);
        let next = || objects.lock().expect("objects").next();
        let create = || {
            self.run(async || {
                let mut connection = self.connect().await?;
                while let Some(object) = next() {
                    let answer = connection
                        .send("POST", path, None, METADATA, object)
                        .await?;
                    if answer.0 != 201 {
                        return Err(RequestError::Status(answer.0, text(&answer.1)));
                    }
                }
                Ok(())
            })
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(create)).collect();
            for thread in threads {
                let created = thread.join().expect("no panic");
                created.unwrap_or_else(|error| panic!("POST {path}: {error}"));
            }
        });
    }

    /// Runs a future in the server's namespace.
    pub(super) fn run<T: Send>(&self, future: impl AsyncFnOnce() -> T + Send) -> T {
        self.shared.host.run(|| runtime().block_on(future()))
    }

    /// A new connection; only within [`Client::run`].
    pub(super) async fn connect(&self) -> Result<Connection, RequestError> {
        let stream = TcpStream::connect(("127.0.0.1", PORT)).await?;
        stream.set_nodelay(true)?;
        let name = "localhost".try_into().expect("a name");
        let stream = self.shared.tls.connect(name, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // its errors reach the requests
        tokio::spawn(async move { connection.await.ok() });
        Ok(Connection {
            sender,
            user: self.user,
        })
    }
}

impl Connection {
    /// Status and body, JSON if it is.
    pub(super) async fn request(
        &mut self,
        method: &str,
        path: &str,
        patch: Option<Patch>,
        body: Option<&Value>,
    ) -> Result<(u16, Value), RequestError> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let answer = self.send(method, path, patch, JSON, body).await?;
        let value = serde_json::from_slice(&answer.1);
        Ok((answer.0, value.unwrap_or_else(|_| text(&answer.1).into())))
    }

    /// Status and body.
    pub(super) async fn send(
        &mut self,
        method: &str,
        path: &str,
        patch: Option<Patch>,
        accept: &str,
        body: String,
    ) -> Result<(u16, Bytes), RequestError> {
        let content_type = match patch {
            None => JSON,
            Some(Patch::Merge) => "application/merge-patch+json",
            Some(Patch::Strategic) => "application/strategic-merge-patch+json",
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("accept", accept)
            .header("content-type", content_type)
            .header("authorization", format!("Bearer {}", self.user.token()))
            .body(Full::from(body))
            .expect("a request");
        let exchange = async {
            let answer = self.sender.send_request(request).await?;
            let status = answer.status().as_u16();
            Ok((status, answer.into_body().collect().await?.to_bytes()))
        };
        tokio::time::timeout(REQUEST_TIMEOUT, exchange).await?
    }
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("runtime")
}
