//! The node that uses another machine's lease store.
//!
//! It keeps one streaming watch open and its lease renewed. Whatever happens to the server, the last picture stays, and
//! with it the data path; when the server is back, the watch resumes where it broke or starts from a whole picture.
mod http;
mod lines;
mod picture;

use super::{
    TlsFiles,
    keep::{Memory, NotKept, Refused, Source, keep},
    renew_after,
    wire::HEARTBEAT,
};
use crate::{
    model::Subnets,
    model::lease::{Lease, LeaseAttrs, Leases},
    model::network_config::NetworkConfig,
    subnet::{
        BoxFuture, Error, Session, SubnetManager,
        retry::{ExponentialBackoff, Retry},
    },
};
use http::Http;
use hyper::Method;
use lines::Lines;
use picture::{Picture, normalise};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

/// Three heartbeats missed: the server, or the way there, is gone.
const SILENCE: Duration = HEARTBEAT.saturating_mul(3);

/// How to reach the server.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// `--remote`: HOST:PORT, or http:// or https:// before it.
    pub remote: String,
    /// Mutual TLS.
    pub tls: Option<TlsFiles>,
    /// `--insecure`: no TLS off loopback.
    pub insecure: bool,
    /// `--subnet-lease-renew-margin`: how long before its end a lease is renewed.
    pub renew_margin: Duration,
}

/// A lease server, used over HTTP.
pub struct Client {
    http: Http,
    renew_margin: Duration,
    memory: Memory,
    skipped: AtomicU64,
}

/// Why a session with the server ended.
enum End {
    /// For a reason that time may mend.
    Broken(String),
    /// We have to stop.
    Lost(Error),
}

impl Client {
    /// Checks the options; connects later.
    pub fn new(options: ClientOptions) -> Result<Client, Error> {
        let http = Http::new(&options)
            .map_err(|reason| Error::Other(format!("-remote {}: {reason}", options.remote)))?;
        Ok(Client {
            http,
            renew_margin: options.renew_margin,
            memory: Memory::default(),
            skipped: AtomicU64::new(0),
        })
    }

    /// Leases skipped because a field of theirs was not understood, since the start.
    pub fn skipped_leases(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    async fn fetch_config(&self) -> Result<NetworkConfig, Error> {
        let mut retry = Retry::new(
            format!("network configuration of {}", self.http.url()),
            ExponentialBackoff::NETWORK,
        );
        loop {
            let reason = match self
                .http
                .call(Method::GET, "/v1/_/config", String::new())
                .await
            {
                Ok(body) => match read_config(&body) {
                    Ok(config) => return Ok(config),
                    Err(reason) => reason,
                },
                Err(refused) => explain(refused),
            };
            retry.failed(&reason).await;
        }
    }

    async fn acquire_with_retries(
        &self,
        attrs: &LeaseAttrs,
        previous: Subnets,
    ) -> Result<Lease, Error> {
        let mut retry = Retry::new(
            format!("a lease from {}", self.http.url()),
            ExponentialBackoff::NETWORK,
        );
        loop {
            match Source::acquire(self, attrs, previous).await {
                Ok(lease) => return Ok(lease),
                Err(Refused::Never(error)) => return Err(error),
                Err(refused) => retry.failed(&explain(refused)).await,
            }
        }
    }

    async fn follow(&self, session: Session) -> Result<(), Error> {
        let mut own = session.own.borrow().clone();
        normalise(&mut own.attrs);
        let mut picture = Picture::default();
        let mut retry = Retry::new(
            format!("{} (peers stay as they are meanwhile)", self.http.url()),
            ExponentialBackoff::NETWORK,
        );
        loop {
            let end = self
                .session(&mut own, &mut picture, &session.leases, &mut retry)
                .await;
            match end {
                End::Lost(error) => return Err(error),
                End::Broken(reason) => retry.failed(&reason).await,
            }
        }
    }

    /// One watch, until it breaks.
    async fn session(
        &self,
        own: &mut Lease,
        picture: &mut Picture,
        leases: &watch::Sender<Option<Leases>>,
        retry: &mut Retry,
    ) -> End {
        let path = match picture.resume() {
            Some((store, cursor)) => {
                format!("/v1/_/leases?watch=true&store={store}&next={cursor}")
            }
            None => "/v1/_/leases?watch=true".to_owned(),
        };
        let stream = match self.http.stream(&path).await {
            Ok(stream) => stream,
            Err(refused) => return End::Broken(explain(refused)),
        };
        let mut lines = Lines::new(stream);
        loop {
            let renew_at = self.renew_at(own, picture.ttl());
            tokio::select! {
                line = timeout(SILENCE, lines.next()) => {
                    let line = match line {
                        Ok(Ok(line)) => line,
                        Ok(Err(reason)) => return End::Broken(format!("{}: {reason}", self.http.url())),
                        Err(_) => return End::Broken(format!("{}: silent for {SILENCE:?}", self.http.url())),
                    };
                    let effect = match picture.apply(line, std::time::Instant::now()) {
                        Ok(effect) => effect,
                        Err(reason) => return End::Broken(format!("{}: {reason}", self.http.url())),
                    };
                    self.skipped.store(picture.skipped(), Ordering::Relaxed);
                    retry.succeeded();
                    if effect.changed {
                        leases.send_replace(Some(picture.leases()));
                    }
                    if effect.revoked.contains(&own.subnets) {
                        return End::Lost(Error::Revoked(own.subnets.to_string()));
                    }
                    if !self.is_ours(own, picture, effect.whole)
                        && let Err(end) = self.keep_own(own).await
                    {
                        return end;
                    }
                }
                () = sleep_until(renew_at), if own.expiration.is_some() => {
                    if let Err(end) = self.keep_own(own).await {
                        return end;
                    }
                }
            }
        }
    }

    /// True if there is nothing to do for our lease; in a whole picture its attributes must be the ones we gave.
    fn is_ours(&self, own: &Lease, picture: &Picture, whole: bool) -> bool {
        match picture.get(&own.subnets) {
            Some(lease) => {
                lease.attrs.same_node(&own.attrs) && (!whole || lease.attrs == own.attrs)
            }
            // no picture of this store yet
            None => !picture.is_known(),
        }
    }

    async fn keep_own(&self, own: &mut Lease) -> Result<(), End> {
        match keep(self, own).await {
            Ok(lease) => {
                own.expiration = lease.expiration;
                Ok(())
            }
            Err(NotKept::Lost(error)) => Err(End::Lost(error)),
            Err(NotKept::NotNow(reason)) => Err(End::Broken(reason)),
        }
    }

    fn renew_at(&self, own: &Lease, ttl: Duration) -> Instant {
        match self.memory.renewed(&own.subnets) {
            Some(at) => at + renew_after(ttl, self.renew_margin),
            None => Instant::now(),
        }
    }

    fn read_lease(&self, body: &[u8], attrs: &LeaseAttrs) -> Result<Lease, Refused> {
        let not_now = |reason: String| Refused::NotNow(format!("{}: {reason}", self.http.url()));
        let lease: Lease = go_compat::json::from_slice(body)
            .map_err(|error| not_now(format!("not a lease: {error}")))?;
        if !lease.attrs.same_node(attrs) {
            return Err(not_now(format!(
                "asked for a lease for {}, got one for {}",
                attrs.node(),
                lease.attrs.node()
            )));
        }
        self.memory.note(&lease);
        Ok(lease)
    }
}

fn read_config(body: &[u8]) -> Result<NetworkConfig, String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    let mut config = NetworkConfig::parse(text).map_err(|error| error.to_string())?;
    config.check_subnets().map_err(|error| error.to_string())?;
    Ok(config)
}

fn explain(refused: Refused) -> String {
    match refused {
        Refused::NotNow(reason) => reason,
        Refused::Never(error) => error.to_string(),
        Refused::HeldBy(reason) => reason,
        Refused::Revoked => "revoked".to_owned(),
        Refused::Unknown => "not found there".to_owned(),
    }
}

impl Source for Client {
    async fn renew(&self, lease: &Lease) -> Result<Lease, Refused> {
        let path = format!("/v1/_/leases/{}", lease.subnets);
        let body = super::wire::json(lease);
        let body = self.http.call(Method::PUT, &path, body).await?;
        self.read_lease(&body, &lease.attrs)
    }

    async fn acquire(&self, attrs: &LeaseAttrs, previous: Subnets) -> Result<Lease, Refused> {
        let body =
            super::wire::acquire_body(attrs, &previous, self.memory.formerly(attrs).as_ref());
        let body = self.http.call(Method::POST, "/v1/_/leases", body).await?;
        self.read_lease(&body, attrs)
    }
}

impl SubnetManager for Client {
    fn describe(&self) -> String {
        format!("lease server {}", self.http.url())
    }

    fn network_config(&self) -> BoxFuture<'_, Result<NetworkConfig, Error>> {
        Box::pin(self.fetch_config())
    }

    fn acquire<'a>(
        &'a self,
        attrs: &'a LeaseAttrs,
        previous: Subnets,
    ) -> BoxFuture<'a, Result<Lease, Error>> {
        Box::pin(self.acquire_with_retries(attrs, previous))
    }

    fn run(&self, session: Session) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.follow(session))
    }
}
