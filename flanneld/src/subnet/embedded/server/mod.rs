//! The lease API over HTTP/1.1. Everything a client can do is bounded: connections, times, sizes, memory.
mod api;
mod body;
mod watch;

use super::{Store, TlsFiles, tls};
use crate::subnet::Error;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

/// Connections at once; each node holds one, and opens a second for moments.
const CONNECTIONS: usize = 4096;
/// For the TLS handshake, for the head of a request, for its body.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// A peer that acknowledges nothing, or takes nothing, for that long is gone.
const STALL: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });
/// What the kernel keeps for a slow client, bytes.
const SEND_BUFFER: usize = 256 << 10;
/// The largest head of a request, bytes.
const HEAD_LIMIT: usize = 16 << 10;

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// `--listen`: HOST:PORT, `:PORT` is every address.
    pub listen: String,
    /// Mutual TLS.
    pub tls: Option<TlsFiles>,
    /// `--insecure`: serve without TLS off loopback.
    pub insecure: bool,
}

/// A running server; it stops when dropped.
pub struct Server {
    address: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl Server {
    /// Binds and serves in the background, and lets leases expire. Call inside a tokio runtime.
    pub async fn start(options: ServerOptions, store: Arc<Store>) -> Result<Server, Error> {
        let fail = |reason: String| Error::Other(format!("-listen {}: {reason}", options.listen));
        let acceptor = match &options.tls {
            Some(files) => Some(Arc::new(tls::Acceptors::new(files).map_err(&fail)?)),
            None => None,
        };
        let listener = bind(&options, acceptor.is_some()).await.map_err(&fail)?;
        let address = listener
            .local_addr()
            .map_err(|error| fail(error.to_string()))?;
        tracing::info!(
            "serving leases of {} at {address}{}",
            store.path().display(),
            if acceptor.is_some() {
                " with mutual TLS"
            } else {
                ""
            }
        );
        let tasks = [
            tokio::spawn(accept(listener, acceptor, store.clone())),
            tokio::spawn(expire(store)),
        ];
        Ok(Server { address, tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn bind(options: &ServerOptions, tls: bool) -> Result<TcpListener, String> {
    let every = ["[::]", "0.0.0.0"].map(|any| format!("{any}{}", options.listen));
    let names: &[String] = if options.listen.starts_with(':') {
        &every
    } else {
        std::slice::from_ref(&options.listen)
    };
    let mut last = "it must be HOST:PORT".to_owned();
    for name in names {
        let addresses = match tokio::net::lookup_host(name.as_str()).await {
            Ok(addresses) => addresses,
            Err(error) => {
                last = format!("it must be HOST:PORT: {error}");
                continue;
            }
        };
        for address in addresses {
            let loopback = address.ip().is_loopback();
            tls::permitted(&address.to_string(), loopback, tls, options.insecure)?;
            match listen(address) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error.to_string(),
            }
        }
    }
    Err(last)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        tokio::net::TcpSocket::new_v4()?
    } else {
        tokio::net::TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER as u32)?;
    socket.bind(address)?;
    socket.listen(1024)
}

async fn accept(listener: TcpListener, acceptors: Option<Arc<tls::Acceptors>>, store: Arc<Store>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) if connections.len() < CONNECTIONS => {
                    let acceptor = acceptors.as_ref().map(|acceptors| acceptors.get());
                    connections.spawn(connection(stream, peer, acceptor, store.clone()));
                }
                Ok((_, peer)) => {
                    tracing::warn!("{peer} refused: {CONNECTIONS} connections are open");
                }
                Err(error) => {
                    // out of file descriptors, most likely: they come back as connections end
                    tracing::warn!("accepting a connection: {error}");
                    sleep(Duration::from_millis(100)).await;
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
    store: Arc<Store>,
) {
    let stall = u32::try_from(STALL.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = setsockopt(&stream, sockopt::TcpUserTimeout, &stall) {
        tracing::debug!("{peer}: TCP_USER_TIMEOUT: {error}");
    }
    let Some(acceptor) = acceptor else {
        return serve(stream, peer, store).await;
    };
    match timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => serve(stream, peer, store).await,
        Ok(Err(error)) => tracing::warn!("{peer} refused: TLS: {error}"),
        Err(_) => tracing::debug!("{peer}: no TLS handshake within {PATIENCE:?}"),
    }
}

async fn serve<S>(stream: S, peer: SocketAddr, store: Arc<Store>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stalled = Arc::new(Notify::new());
    let service = service_fn(|request| api::answer(request, store.clone(), stalled.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEAD_LIMIT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        result = connection => if let Err(error) = result {
            tracing::debug!("{peer}: {error}");
        },
        () = stalled.notified() => {
            tracing::info!("{peer} dropped: it took nothing for {STALL:?}");
        }
    }
}

/// Takes away leases as they end.
async fn expire(store: Arc<Store>) {
    let mut changes = store.changes();
    loop {
        changes.borrow_and_update();
        let pass = store.clone();
        let now = std::time::Instant::now();
        let next = tokio::task::spawn_blocking(move || pass.expire(now)).await;
        let wait = match next {
            Ok(Ok(Some(end))) => end.saturating_duration_since(std::time::Instant::now()),
            Ok(Ok(None)) => super::wire::TTL,
            Ok(Err(error)) => {
                tracing::error!("leases that have ended cannot be taken away: {error}");
                Duration::from_secs(60)
            }
            Err(_) => return,
        };
        tokio::select! {
            () = sleep(wait) => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
        // many changes at once are one pass
        sleep(Duration::from_millis(100)).await;
    }
}
