//! The node that uses another machine's lease store.
//!
//! It keeps one streaming watch open and its lease renewed. Whatever happens to the server, the
//! last snapshot stays, and with it the data path. When the server is back, the watch resumes where
//! it broke or starts with a new snapshot.

mod cache;
mod error;
mod fuzz;
mod http;

pub(crate) use error::RemoteError;
pub(crate) use fuzz::{answer as fuzz_answer, watch as fuzz_watch};
pub(crate) use http::ClientOptions;

use super::{
    store::random_session,
    wire::{self, HEARTBEAT_INTERVAL, ReservationJson},
};
use crate::{
    model::Subnets,
    model::lease::{Lease, LeaseAttrs, Leases},
    model::network_config::{self, NetworkConfig},
    retry::{ExponentialBackoff, Retry, random_share},
    subnet::{
        BoxFuture, Error, Session, SubnetManager,
        alloc::Reservation,
        renewal::{self, LastRenewal, LeaseStore},
    },
};
use cache::LeaseCache;
use error::Failure;
use futures_util::StreamExt;
use http::Http;
use hyper::Method;
use std::{convert::Infallible, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tracing::warn;

/// Three heartbeats missed: the server, or the way there, is gone.
const SILENCE_TIMEOUT: Duration = HEARTBEAT_INTERVAL.saturating_mul(3);

/// Delay before a lease that another party changes again is told again.
const RETELL_DELAY: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

/// The share of each node of the time in which all renew after the store was opened.
const RENEWAL_SHARE: Duration = Duration::from_millis(10);

/// A lease server, used over HTTP.
pub(crate) struct Client {
    http: Http,
    renew_margin: Duration,
    renewed: LastRenewal,
    /// The server's network configuration, once it is known.
    config: watch::Sender<NetworkConfig>,
    /// Tells this process from another one with the same public IP.
    session: Option<String>,
}

impl Client {
    /// Checks the options; connects later.
    pub(crate) fn new(options: ClientOptions) -> Result<Client, RemoteError> {
        Ok(Client {
            http: Http::new(&options)?,
            renew_margin: options.renew_margin,
            renewed: LastRenewal::default(),
            config: watch::Sender::default(),
            session: random_session(),
        })
    }

    fn retry(&self, what: String) -> Retry {
        Retry::new(what, ExponentialBackoff::NETWORK)
    }

    /// The text of an error for a log line that names the server.
    fn reason(&self, error: &Error) -> String {
        let text = error.to_string();
        let after = text.strip_prefix(&self.http.url());
        let after = after.and_then(|rest| rest.strip_prefix(": "));
        after.map_or_else(|| text.clone(), str::to_owned)
    }

    pub(super) async fn config(&self) -> Result<NetworkConfig, Error> {
        let call = self.http.call(
            Method::GET,
            "/v1/_/config",
            String::new(),
            Subnets::default(),
        );
        let body = call.await?;
        let text = String::from_utf8_lossy(&body);
        parse_config(&text).map_err(|error| self.http.failed(error))
    }

    async fn watch_until_lost(&self, session: Session) -> Error {
        let mut own = session.own.borrow().clone();
        let mut cache = LeaseCache::default();
        let mut early = EarlyRenewal::default();
        let mut retry = self.retry(format!(
            "{} (the data path stays as it is)",
            self.http.url()
        ));
        loop {
            let watch = self.watch(
                &mut own,
                &mut cache,
                &mut early,
                &session.leases,
                &mut retry,
            );
            let Err(error) = watch.await;
            if !error.is_transient() {
                return error;
            }
            retry.failed(&self.reason(&error)).await;
        }
    }

    /// One watch, until it breaks or the lease is lost.
    async fn watch(
        &self,
        own: &mut Lease,
        cache: &mut LeaseCache,
        early: &mut EarlyRenewal,
        leases: &watch::Sender<Option<Leases>>,
        retry: &mut Retry,
    ) -> Result<Infallible, Error> {
        let mut path = "/v1/_/leases?watch=true".to_owned();
        if let Some(seen) = cache.resume() {
            path.push('&');
            path.push_str(&seen);
        }
        if let Some(session) = &self.session {
            path.push_str("&session=");
            path.push_str(session);
        }
        let failed = |failure| self.http.failed(failure);
        let mut lines = self.http.watch(&path).await?;
        loop {
            let regular = self
                .renewed
                .next(&own.subnets, cache.ttl(), self.renew_margin);
            let renew_at = early.due.map_or(regular, |early| early.min(regular));
            tokio::select! {
                line = timeout(SILENCE_TIMEOUT, lines.next()) => {
                    let line = line.map_err(|_| failed(Failure::Silent(SILENCE_TIMEOUT)))?;
                    let mut line = line.unwrap_or(Err(Failure::Ended)).map_err(failed)?;
                    if let Some(text) = line.config.take() {
                        self.follow_config(&text);
                    }
                    let effect = cache
                        .apply(line, Instant::now().into_std())
                        .map_err(|error| failed(error.into()))?;
                    retry.succeeded();
                    if effect.changed {
                        leases.send_replace(Some(cache.leases()));
                    }
                    if effect.revoked.contains(&own.subnets) {
                        return Err(Error::Revoked(own.subnets));
                    }
                    if let Some(grace) = effect.opened {
                        early.store_was_opened(grace, cache.len());
                    }
                    if is_current(own, cache) || !early.tell_again(own, cache) {
                        continue;
                    }
                }
                () = sleep_until(renew_at), if own.expiration.is_some() || early.due.is_some() => {}
            }
            own.expiration = renewal::renew(self, own).await?.expiration;
            early.due = None;
        }
    }

    /// Publishes a configuration that the server sends. One that cannot be used changes nothing.
    fn follow_config(&self, text: &str) {
        if self.config.borrow().raw == text {
            return;
        }
        match parse_config(text) {
            Ok(config) => drop(self.config.send_replace(config)),
            Err(error) => warn!(
                "the network configuration of {} cannot be used, this node keeps its own: {error}",
                self.http.url()
            ),
        }
    }

    /// Every lease and reservation of the server.
    pub(super) async fn whole_store(&self) -> Result<(Vec<Lease>, Vec<Reservation>), Error> {
        let mut cache = LeaseCache::default();
        let mut lines = self.http.watch("/v1/_/leases?watch=true").await?;
        let failed = |failure| self.http.failed(failure);
        loop {
            let line = timeout(SILENCE_TIMEOUT, lines.next()).await;
            let line = line.map_err(|_| failed(Failure::Silent(SILENCE_TIMEOUT)))?;
            let line = line.unwrap_or(Err(Failure::Ended)).map_err(failed)?;
            let applied = cache.apply(line, Instant::now().into_std());
            if applied.map_err(|error| failed(error.into()))?.snapshot {
                break;
            }
        }
        let leases = cache.leases();
        let leases = leases.iter().map(|lease| Lease::clone(lease)).collect();
        Ok((leases, self.reservations().await?))
    }

    async fn reservations(&self) -> Result<Vec<Reservation>, Error> {
        let path = "/v1/_/reservations";
        let call = self
            .http
            .call(Method::GET, path, String::new(), Subnets::default());
        let kept: Vec<ReservationJson> = go_compat::json::from_slice(&call.await?)
            .map_err(|error| self.http.failed(Failure::Lease(error)))?;
        Ok(kept.into_iter().map(Reservation::from).collect())
    }

    /// Keeps subnets for a node.
    pub(super) async fn reserve(&self, reservation: &Reservation) -> Result<(), Error> {
        let body = wire::json(&ReservationJson::from(reservation));
        let path = "/v1/_/reservations";
        let call = self
            .http
            .call(Method::POST, path, body, reservation.subnets);
        call.await.map(drop)
    }

    /// Grants a lease with its own subnets, which are free.
    pub(super) async fn grant_previous(&self, lease: &Lease) -> Result<Lease, Error> {
        let body = wire::acquire_body(&lease.attrs, &lease.subnets, None);
        let path = "/v1/_/leases";
        let body = self.http.call(Method::POST, path, body, lease.subnets);
        let granted = self.read_lease(&body.await?, &lease.attrs)?;
        if granted.subnets == lease.subnets {
            return Ok(granted);
        }
        Err(Error::Taken {
            subnets: lease.subnets,
            by: "another node, since a moment ago".to_owned(),
        })
    }

    fn with_session(&self, path: String) -> String {
        match &self.session {
            Some(session) => format!("{path}?session={session}"),
            None => path,
        }
    }

    fn read_lease(&self, body: &[u8], attrs: &LeaseAttrs) -> Result<Lease, Error> {
        let lease: Lease = go_compat::json::from_slice(body)
            .map_err(|error| self.http.failed(Failure::Lease(error)))?;
        if !lease.attrs.same_node(attrs) {
            return Err(self.http.failed(Failure::OtherNode {
                asked: attrs.node(),
                got: lease.attrs.node(),
            }));
        }
        self.renewed.record(&lease);
        Ok(lease)
    }
}

/// Renewals that are due before the lease is about to end.
#[derive(Debug, Default)]
struct EarlyRenewal {
    due: Option<Instant>,
    /// When the lease, changed by another party, was last told again.
    told_again: Option<Instant>,
}

impl EarlyRenewal {
    /// A store that was opened gives each lease no more than `grace` where its clock is ahead of
    /// what it was before, and does not know who is connected. The nodes renew within half of it,
    /// and as many together as a server with a slow disk takes.
    fn store_was_opened(&mut self, grace: Duration, leases: usize) {
        let leases = u32::try_from(leases).unwrap_or(u32::MAX);
        // the first connection follows the grant of the lease
        let spread = match leases {
            0 => grace / 2,
            leases => RENEWAL_SHARE.saturating_mul(leases).min(grace / 2),
        };
        self.no_later_than(Instant::now() + spread.mul_f64(random_share()));
    }

    /// Another party changed our lease. True if it is to be told again now; two parties that both
    /// insist do not do so at the speed of the network.
    fn tell_again(&mut self, own: &Lease, cache: &LeaseCache) -> bool {
        let next = self.told_again.map(|last| last + RETELL_DELAY);
        if let Some(next) = next.filter(|next| *next > Instant::now()) {
            self.no_later_than(next);
            return false;
        }
        if let Some(changed) = cache.get(&own.subnets) {
            warn!(
                "another party changed the lease of this node to {}: telling the server {} again",
                wire::json(&changed.attrs),
                wire::json(&own.attrs)
            );
        }
        self.told_again = Some(Instant::now());
        true
    }

    fn no_later_than(&mut self, time: Instant) {
        self.due = Some(self.due.map_or(time, |due| due.min(time)));
    }
}

/// True if the store knows our lease as we told it.
fn is_current(own: &Lease, cache: &LeaseCache) -> bool {
    match cache.get(&own.subnets) {
        Some(lease) => lease.attrs == own.attrs,
        None => !cache.is_complete(),
    }
}

fn parse_config(text: &str) -> Result<NetworkConfig, network_config::Error> {
    let mut config = NetworkConfig::parse(text)?;
    config.check_subnets()?;
    Ok(config)
}

impl LeaseStore for Client {
    async fn renew(&self, lease: &Lease) -> Result<Lease, Error> {
        let path = self.with_session(format!("/v1/_/leases/{}", lease.subnets));
        let body = wire::json(lease);
        let body = self
            .http
            .call(Method::PUT, &path, body, lease.subnets)
            .await?;
        self.read_lease(&body, &lease.attrs)
    }

    async fn grant(&self, attrs: &LeaseAttrs, previous: Subnets) -> Result<Lease, Error> {
        let former = self.renewed.former(attrs);
        let body = wire::acquire_body(attrs, &previous, former.as_ref());
        let path = self.with_session("/v1/_/leases".to_owned());
        let body = self.http.call(Method::POST, &path, body, previous).await?;
        self.read_lease(&body, attrs)
    }
}

impl SubnetManager for Client {
    fn describe(&self) -> String {
        format!("lease server {}", self.http.url())
    }

    fn network_config(&self) -> BoxFuture<'_, Result<NetworkConfig, Error>> {
        Box::pin(async {
            let mut retry = self.retry(format!("the network configuration of {}", self.http.url()));
            loop {
                match self.config().await {
                    Err(error) => retry.failed(&self.reason(&error)).await,
                    Ok(config) => {
                        self.config.send_replace(config.clone());
                        return Ok(config);
                    }
                }
            }
        })
    }

    fn network_configs(&self) -> Option<watch::Receiver<NetworkConfig>> {
        Some(self.config.subscribe())
    }

    fn acquire<'a>(
        &'a self,
        attrs: &'a LeaseAttrs,
        previous: Subnets,
    ) -> BoxFuture<'a, Result<Lease, Error>> {
        Box::pin(async move {
            let mut retry = self.retry(format!("a lease from {}", self.http.url()));
            loop {
                match self.grant(attrs, previous).await {
                    Err(error) if error.is_transient() => retry.failed(&self.reason(&error)).await,
                    answer => return answer,
                }
            }
        })
    }

    fn acquire_once<'a>(
        &'a self,
        attrs: &'a LeaseAttrs,
        previous: Subnets,
    ) -> BoxFuture<'a, Result<Lease, Error>> {
        Box::pin(self.grant(attrs, previous))
    }

    fn held(&self, lease: &Lease) {
        self.renewed.record(lease);
    }

    fn run(&self, session: Session) -> BoxFuture<'_, Error> {
        Box::pin(self.watch_until_lost(session))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn log_line_names_the_server_once() {
        let client = Client::new(ClientOptions {
            remote: "127.0.0.1:9".to_owned(),
            tls: None,
            insecure: false,
            renew_margin: Duration::ZERO,
        })
        .unwrap();
        let refused = client.config().await.unwrap_err();
        assert!(refused.to_string().starts_with("http://127.0.0.1:9: "));
        let reason = client.reason(&refused);
        assert!(
            reason.contains("onnect") && !reason.contains("http"),
            "{reason}"
        );
        let other = Error::Revoked(Subnets::default());
        assert_eq!(client.reason(&other), other.to_string());
    }
}
