//! The lease API over HTTP.
use std::{net::SocketAddr, sync::Arc};

use super::{Store, TlsFiles};
use crate::subnet::Error;

/// How to serve.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// `--listen`: HOST:PORT, `:PORT` is every address.
    pub listen: String,
    /// Mutual TLS.
    pub tls: Option<TlsFiles>,
    /// `--remote-insecure`: serve without TLS off loopback.
    pub insecure: bool,
}

/// A running server; it stops when dropped.
pub struct Server {}

impl Server {
    /// Binds and serves in the background, and lets leases expire. Call inside a tokio runtime.
    pub async fn start(_options: ServerOptions, _store: Arc<Store>) -> Result<Server, Error> {
        todo!()
    }
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        todo!()
    }
}
