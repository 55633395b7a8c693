//! The server of the lease API.

mod api;
mod error;
mod extract;
mod fuzz;
mod watch;

pub(crate) use fuzz::request as fuzz_api;

use super::store::Store;
use crate::{
    http_server::{self, Acceptors, Limits, PeerCertificate},
    open_files,
    subnet::{
        TTL,
        tls::{self, ServerTls, TlsError, TlsFiles},
    },
};
use axum::{extract::Request, middleware::map_request};
use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpSocket, lookup_host},
    task::JoinHandle,
    time::sleep,
};
use tracing::{error, info};

/// Connections: each node holds one, and opens a second one for moments.
const CONNECTIONS: usize = 16 << 10;
const HEAD_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });
const STALL_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });
/// What the kernel buffers for a slow client, bytes.
const SEND_BUFFER: u32 = 256 << 10;
const BACKLOG: u32 = 1024;
/// Delay after leases that have ended could not be removed.
const EXPIRE_RETRY_DELAY: Duration = Duration::from_secs(60);
/// Changes that follow each other within this time lead to one pass.
const EXPIRE_DEBOUNCE_DELAY: Duration = Duration::from_millis(100);

/// The options of the server.
#[derive(Debug, Clone)]
pub(crate) struct ServerOptions {
    /// `-listen`: HOST:PORT; `:PORT` is every address.
    pub(crate) listen: String,
    /// Mutual TLS.
    pub(crate) tls: Option<TlsFiles>,
    /// `-insecure`: serve without TLS off loopback, and let everybody change every lease.
    pub(crate) insecure: bool,
}

/// The server cannot start.
#[derive(Debug, thiserror::Error)]
#[error("-listen {listen}: {source}")]
pub(crate) struct ServerError {
    listen: String,
    source: ListenError,
}

impl ServerError {
    /// True if options are the reason. A name that is not resolved may be resolved later.
    pub(crate) fn is_usage(&self) -> bool {
        match &self.source {
            ListenError::Tls(error) => error.is_usage(),
            ListenError::Address(error) => error.kind() == io::ErrorKind::InvalidInput,
            ListenError::NoAddress | ListenError::Bind(_) => false,
        }
    }
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// The certificates cannot be used, or are missing.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address cannot be understood or resolved.
    #[error("it must be HOST:PORT: {0}")]
    Address(#[source] io::Error),
    /// The name of the host has no address.
    #[error("it must be HOST:PORT: the host has no address")]
    NoAddress,
    /// The address cannot be bound.
    #[error(transparent)]
    Bind(io::Error),
}

/// A running server; it stops when dropped.
pub(crate) struct Server {
    #[cfg(test)]
    pub(super) address: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl Server {
    /// Binds and serves in the background, and removes leases when they end. Call inside of a tokio
    /// runtime.
    pub(crate) async fn start(
        options: ServerOptions,
        store: Arc<Store>,
    ) -> Result<Server, ServerError> {
        let failed = |source| ServerError {
            listen: options.listen.clone(),
            source,
        };
        let (listener, tls) = open(&options).await.map_err(failed)?;
        let address = listener
            .local_addr()
            .map_err(|error| failed(ListenError::Bind(error)))?;
        let with_tls = tls.as_ref().map_or("", |_| " with mutual TLS");
        info!(
            "serving leases of {} at {address}{with_tls}",
            store.path.display()
        );
        let limits = Limits {
            connections: open_files::connections(CONNECTIONS),
            head_timeout: HEAD_TIMEOUT,
            stall_timeout: STALL_TIMEOUT,
        };
        let router = match options.insecure {
            true => api::router(store.clone()).layer(map_request(without_certificate)),
            false => api::router(store.clone()),
        };
        Ok(Server {
            #[cfg(test)]
            address,
            tasks: [
                tokio::spawn(http_server::serve(listener, tls, limits, router)),
                tokio::spawn(expire(store)),
            ],
        })
    }
}

/// With -insecure no certificate counts.
async fn without_certificate(mut request: Request) -> Request {
    request.extensions_mut().remove::<PeerCertificate>();
    request
}

impl Drop for Server {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn open(options: &ServerOptions) -> Result<(TcpListener, Option<Acceptors>), ListenError> {
    let host = options.listen.rsplit_once(':').map_or("", |(host, _)| host);
    let tls = options.tls.clone().map(|files| ServerTls::new(files, host));
    let tls = tls.transpose()?;
    let listener = bind(options).await?;
    let acceptors = tls.map(|tls| Arc::new(move || tls.acceptor()) as Acceptors);
    Ok((listener, acceptors))
}

/// Binds the first address that can be bound.
async fn bind(options: &ServerOptions) -> Result<TcpListener, ListenError> {
    let names = match options.listen.starts_with(':') {
        true => vec![
            format!("[::]{}", options.listen),
            format!("0.0.0.0{}", options.listen),
        ],
        false => vec![options.listen.clone()],
    };
    let mut last = ListenError::NoAddress;
    for name in names {
        let addresses = match lookup_host(name).await {
            Ok(addresses) => addresses,
            Err(error) => {
                last = ListenError::Address(error);
                continue;
            }
        };
        for address in addresses {
            let loopback = address.ip().is_loopback();
            tls::require(address, loopback, options.tls.is_some(), options.insecure)?;
            match listen(address) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = ListenError::Bind(error),
            }
        }
    }
    Err(last)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Removes leases when they end.
async fn expire(store: Arc<Store>) {
    let mut revisions = store.revisions();
    loop {
        revisions.borrow_and_update();
        let next = store.on_thread(|store| store.expire(Instant::now())).await;
        let delay = match next {
            Ok(Ok(Some(end))) => end.saturating_duration_since(Instant::now()),
            Ok(Ok(None)) => TTL,
            Ok(Err(error)) => {
                error!("leases that have ended cannot be removed: {error}");
                EXPIRE_RETRY_DELAY
            }
            // the runtime shuts down
            Err(_) => return,
        };
        tokio::select! {
            () = sleep(delay) => {}
            changed = revisions.changed() => if changed.is_err() { return },
        }
        sleep(EXPIRE_DEBOUNCE_DELAY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_allows_a_connection_of_each_node() {
        let unit = include_str!("../../../../../deploy/flanneld.service");
        let mut lines = unit.lines();
        let limit = lines.find_map(|line| line.strip_prefix("LimitNOFILE="));
        let limit = limit.unwrap().parse().unwrap();
        assert_eq!(open_files::for_clients(limit, CONNECTIONS), CONNECTIONS);
        assert!(open_files::for_clients(CONNECTIONS as u64, CONNECTIONS) < CONNECTIONS);
    }
}
