//! The node that uses another machine's lease store.
use std::time::Duration;

use tokio::sync::watch;

use super::TlsFiles;
use crate::{
    lease::{Lease, LeaseAttrs, Leases},
    network_config::NetworkConfig,
    subnet::{BoxFuture, Error, Previous, SubnetManager},
};

/// How to reach the server.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// `--remote`: HOST:PORT, or http:// or https:// before it.
    pub remote: String,
    /// Mutual TLS.
    pub tls: Option<TlsFiles>,
    /// `--remote-insecure`: no TLS off loopback.
    pub insecure: bool,
    /// `--subnet-lease-renew-margin`: how long before its end a lease is renewed.
    pub renew_margin: Duration,
}

/// A lease server, used over HTTP.
pub struct Client {}

impl Client {
    /// Checks the options; connects later.
    pub fn new(_options: ClientOptions) -> Result<Client, Error> {
        todo!()
    }
    /// Leases skipped because a field of theirs was not understood, since the start.
    pub fn skipped_leases(&self) -> u64 {
        todo!()
    }
}

impl SubnetManager for Client {
    fn describe(&self) -> String {
        todo!()
    }
    fn network_config(&self) -> BoxFuture<'_, Result<NetworkConfig, Error>> {
        todo!()
    }
    fn acquire<'a>(
        &'a self,
        _attrs: &'a LeaseAttrs,
        _previous: Previous,
    ) -> BoxFuture<'a, Result<Lease, Error>> {
        todo!()
    }
    fn run<'a>(
        &'a self,
        _own: &'a Lease,
        _leases: watch::Sender<Option<Leases>>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        todo!()
    }
}
