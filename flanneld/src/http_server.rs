//! HTTP/1.1 servers of the daemon, with axum for the requests. Everything that a client can use up
//! has a bound: connections, time and memory.
//!
//! Where all connections are in use, a new one takes the place of the oldest that has not made a
//! request: connections without a request or without a certificate keep no other client out.

use crate::{failure_log::FailureLog, pki, retry::ExponentialBackoff};
use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use nix::sys::socket::{setsockopt, sockopt};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::{TlsAcceptor, rustls::pki_types::CertificateDer};
use tracing::debug;

/// Largest head of a request, bytes.
const HEAD_LIMIT: usize = 16 << 10;
/// After an accept that failed. Most often no file descriptor is free: connections that end free
/// some.
const ACCEPT_BACKOFF: ExponentialBackoff = ExponentialBackoff {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(1),
};

/// Connections that have ended and are still in the list of those that wait.
const MAX_ENDED: usize = 32;

/// The bounds of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections at the same time.
    pub(crate) connections: usize,
    /// For the TLS handshake, and for the head of a request.
    pub(crate) head_timeout: Duration,
    /// A client that takes or acknowledges nothing for this long is gone.
    pub(crate) stall_timeout: Duration,
}

/// The TLS side of the next connection: certificates may change while a server runs.
pub(crate) type Acceptors = Arc<dyn Fn() -> TlsAcceptor + Send + Sync>;

/// An extension of each request over TLS: the certificate of the client, which the handshake has
/// verified.
#[derive(Debug, Clone)]
pub(crate) struct PeerCertificate(pub(crate) Arc<CertificateDer<'static>>);

/// Serves until it is dropped, and with it every connection. One request a connection.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Acceptors>,
    limits: Limits,
    router: Router,
) {
    let log = Arc::new(FailureLog::new());
    let mut connections = Connections::new(limits.connections);
    let mut failures = 0u32;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    failures = 0;
                    if !connections.make_room().await {
                        log.failed(format_args!(
                            "{peer} refused: {} connections are open", limits.connections
                        ));
                        continue;
                    }
                    let requested = Arc::new(AtomicBool::new(false));
                    let connection = Connection {
                        peer,
                        limits,
                        router: router.clone(),
                        requested: requested.clone(),
                        log: log.clone(),
                    };
                    let acceptor = tls.as_ref().map(|acceptor| acceptor());
                    connections.spawn(connection.run(stream, acceptor), requested);
                }
                Err(error) => {
                    log.failed(format_args!("cannot accept a connection: {error}"));
                    failures = failures.saturating_add(1);
                    sleep(ACCEPT_BACKOFF.delay(failures)).await;
                }
            },
            Some(_) = connections.tasks.join_next() => {}
            () = log.report() => {}
        }
    }
}

/// The open connections. Those without a request are known by age.
struct Connections {
    tasks: JoinSet<()>,
    limit: usize,
    /// The oldest first; with whether the client has made its request.
    waiting: VecDeque<(AbortHandle, Arc<AtomicBool>)>,
}

impl Connections {
    fn new(limit: usize) -> Connections {
        Connections {
            tasks: JoinSet::new(),
            limit,
            waiting: VecDeque::new(),
        }
    }

    /// True if there is room for a connection, if need be since the oldest one that waits for its
    /// client was closed.
    async fn make_room(&mut self) -> bool {
        while self.tasks.try_join_next().is_some() {}
        if self.tasks.len() < self.limit {
            return true;
        }
        while let Some((task, requested)) = self.waiting.pop_front() {
            if !task.is_finished() && !requested.load(Ordering::Relaxed) {
                task.abort();
                self.tasks.join_next().await;
                return true;
            }
        }
        false
    }

    fn spawn(
        &mut self,
        connection: impl Future<Output = ()> + Send + 'static,
        requested: Arc<AtomicBool>,
    ) {
        let task = self.tasks.spawn(connection);
        self.waiting.push_back((task, requested));
        // a handle keeps the memory of its task, which is many KiB, after the task has ended
        if self.waiting.len() > 2 * self.tasks.len() + MAX_ENDED {
            self.waiting.retain(|(task, requested)| {
                !task.is_finished() && !requested.load(Ordering::Relaxed)
            });
        }
    }
}

/// One connection.
struct Connection {
    peer: SocketAddr,
    limits: Limits,
    router: Router,
    /// Set when the client has made its request.
    requested: Arc<AtomicBool>,
    log: Arc<FailureLog>,
}

impl Connection {
    async fn run(self, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
        let (peer, limits) = (self.peer, self.limits);
        let stall = u32::try_from(limits.stall_timeout.as_millis()).unwrap_or(u32::MAX);
        if let Err(error) = setsockopt(&stream, sockopt::TcpUserTimeout, &stall) {
            debug!("{peer}: TCP_USER_TIMEOUT: {error}");
        }
        // TCP_USER_TIMEOUT ends what is not acknowledged, this one what is acknowledged and not
        // taken
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(limits.stall_timeout));
        let stream = Box::pin(stream);
        let Some(acceptor) = acceptor else {
            return self.requests(stream, None).await;
        };
        match timeout(limits.head_timeout, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let shown = stream.get_ref().1.peer_certificates();
                let certificate = shown
                    .and_then(<[_]>::first)
                    .map(|first| PeerCertificate(Arc::new(first.clone().into_owned())));
                self.requests(stream, certificate).await;
            }
            Ok(Err(error)) => self.log.failed(format_args!(
                "{peer} refused: {}",
                pki::client_refused(&error)
            )),
            Err(_) => debug!("{peer}: no TLS handshake within {:?}", limits.head_timeout),
        }
    }

    async fn requests<S>(self, stream: S, certificate: Option<PeerCertificate>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let requested = self.requested;
        let router = TowerToHyperService::new(self.router);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_timeout)
            .max_buf_size(HEAD_LIMIT)
            .keep_alive(false)
            .serve_connection(
                TokioIo::new(stream),
                service_fn(move |mut request: Request<Incoming>| {
                    requested.store(true, Ordering::Relaxed);
                    if let Some(certificate) = &certificate {
                        request.extensions_mut().insert(certificate.clone());
                    }
                    router.call(request)
                }),
            );
        if let Err(error) = connection.await {
            debug!("{}: {error}", self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::future::pending;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        task::JoinHandle,
        time::Instant,
    };

    const LIMITS: Limits = Limits {
        connections: 4,
        head_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(5),
    };

    /// A server whose /held is never answered.
    async fn start() -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/", get(|| async { "answer" }))
            .route("/held", get(pending::<()>));
        (address, tokio::spawn(serve(listener, None, LIMITS, router)))
    }

    async fn request(address: SocketAddr, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// What the server sends until it closes the connection; nothing if it refused it.
    async fn answer(mut stream: TcpStream) -> String {
        let mut bytes = Vec::new();
        let read = timeout(LIMITS.head_timeout, stream.read_to_end(&mut bytes)).await;
        drop(read.expect("the connection stays open"));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[tokio::test]
    async fn connections_that_ended_leave_nothing() {
        let mut connections = Connections::new(1000);
        for _ in 0..5000 {
            connections.spawn(async {}, Arc::default());
            connections.tasks.join_next().await;
        }
        let kept = connections.waiting.len();
        assert!(kept <= MAX_ENDED + 2, "{kept}");
        // those that wait are not forgotten
        for _ in 0..100 {
            connections.spawn(pending(), Arc::default());
        }
        let waits = |(task, _): &&(AbortHandle, _)| !task.is_finished();
        assert_eq!(connections.waiting.iter().filter(waits).count(), 100);
    }

    #[tokio::test]
    async fn oldest_idle_connection_gives_way() {
        let (address, _server) = start().await;
        let held = request(address, "/held").await;
        let mut idle = Vec::new();
        for _ in 0..10 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let start = Instant::now();
        let served = answer(request(address, "/").await).await;
        assert!(served.ends_with("answer"), "{served}");
        // the oldest were closed long before their time
        assert_eq!(answer(idle.remove(0)).await, "");
        assert!(start.elapsed() < LIMITS.head_timeout / 2);
        // a request keeps its connection
        let mut byte = [0];
        assert!(held.try_read(&mut byte).is_err(), "held is closed");
    }

    #[tokio::test]
    async fn requests_are_not_interrupted_for_new_ones() {
        let (address, _server) = start().await;
        let mut held = Vec::new();
        for _ in 0..LIMITS.connections {
            held.push(request(address, "/held").await);
        }
        // each has been read when the next one is refused
        while !answer(request(address, "/").await).await.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
        let mut byte = [0];
        assert!(held.iter().all(|held| held.try_read(&mut byte).is_err()));
        held.pop();
        while answer(request(address, "/").await).await.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    }
}
