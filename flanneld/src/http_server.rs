//! HTTP/1.1 servers of the daemon, with axum for the requests. Everything that a client can use up
//! has a bound: connections, time and memory.

use crate::retry::ExponentialBackoff;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use nix::sys::socket::{setsockopt, sockopt};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

/// Largest head of a request, bytes.
const HEAD_LIMIT: usize = 16 << 10;
/// After an accept that failed. Most often no file descriptor is free: connections that end free
/// some.
const ACCEPT_BACKOFF: ExponentialBackoff = ExponentialBackoff {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(1),
};

/// The bounds of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections at the same time; further ones are closed at once.
    pub(crate) connections: usize,
    /// For the TLS handshake, and for the head of a request.
    pub(crate) head_timeout: Duration,
    /// A client that takes or acknowledges nothing for this long is gone.
    pub(crate) stall_timeout: Duration,
}

/// The TLS side of the next connection: certificates may change while a server runs.
pub(crate) type Acceptors = Arc<dyn Fn() -> TlsAcceptor + Send + Sync>;

/// Serves until it is dropped, and with it every connection. One request a connection.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Acceptors>,
    limits: Limits,
    router: Router,
) {
    let mut connections = JoinSet::new();
    let mut failures = 0;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) if connections.len() < limits.connections => {
                    failures = 0;
                    let acceptor = tls.as_ref().map(|acceptor| acceptor());
                    connections.spawn(connection(stream, peer, acceptor, limits, router.clone()));
                }
                Ok((_, peer)) => {
                    warn!("{peer} refused: {} connections are open", limits.connections);
                }
                Err(error) => {
                    warn!("cannot accept a connection: {error}");
                    failures += 1;
                    sleep(ACCEPT_BACKOFF.delay(failures)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    limits: Limits,
    router: Router,
) {
    let stall = u32::try_from(limits.stall_timeout.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = setsockopt(&stream, sockopt::TcpUserTimeout, &stall) {
        debug!("{peer}: TCP_USER_TIMEOUT: {error}");
    }
    // TCP_USER_TIMEOUT ends what is not acknowledged, this one what is acknowledged and not taken
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.stall_timeout));
    let stream = Box::pin(stream);
    let Some(acceptor) = acceptor else {
        return requests(stream, peer, limits, router).await;
    };
    match timeout(limits.head_timeout, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => requests(stream, peer, limits, router).await,
        Ok(Err(error)) => warn!("{peer} refused: TLS: {error}"),
        Err(_) => debug!("{peer}: no TLS handshake within {:?}", limits.head_timeout),
    }
}

async fn requests<S>(stream: S, peer: SocketAddr, limits: Limits, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(HEAD_LIMIT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        debug!("{peer}: {error}");
    }
}
