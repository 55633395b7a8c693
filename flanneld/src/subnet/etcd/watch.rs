//! Follows etcd: publishes snapshots, keeps this node's lease, and notices a changed network
//! configuration. Any failure ends one round; the next one goes on where it broke.

use super::{
    Etcd,
    cache::{LeaseCache, Listing},
    error::{Failure, Kind},
    keys::Unreadable,
    own_lease::{Due, Finding, Moment, OwnLease},
    parse_config,
    registry::{ConfigValue, Message, Write, Written},
    transient,
};
use crate::{
    model::{
        lease::{Lease, Leases},
        network_config::NetworkConfig,
    },
    retry::{ExponentialBackoff, Retry},
    subnet::{Error, Session},
};
use std::{
    convert::Infallible,
    future,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::sleep_until};
use tracing::{debug, info, warn};

/// A watch that lives this long, or has sent something, is good: the next failure is retried soon.
const PROVING_TIME: Duration = Duration::from_secs(5);
/// Times that this node tries to write its lease while another party writes it, too.
const WRITE_ATTEMPTS: usize = 3;

/// What has been said about a changed configuration.
#[derive(Debug, PartialEq)]
enum ConfigState {
    Running,
    Changed(String),
}

impl Etcd {
    pub(super) async fn follow_until_lost(&self, session: Session) -> Error {
        let mut cache = self.cache.lock().await;
        let what = format!("{} (the data path stays as it is)", self.name());
        let mut retry = Retry::new(what, ExponentialBackoff::NETWORK);
        let mut config = ConfigState::Running;
        if cache.is_complete() {
            session.leases.send_replace(Some(cache.leases()));
        }
        loop {
            let round = self.follow(&session, &mut cache, &mut config, &mut retry);
            let Err(error) = round.await;
            if !error.is_transient() {
                return error;
            }
            self.waiting.report(format!("for {}", self.name()));
            retry.failed(&error.to_string()).await;
        }
    }

    /// One watch, until it breaks or the lease is lost.
    async fn follow(
        &self,
        session: &Session,
        cache: &mut LeaseCache,
        config: &mut ConfigState,
        retry: &mut Retry,
    ) -> Result<Infallible, Error> {
        let current = self.registry.config().await.map_err(transient)?;
        let ConfigValue { value, store } = current;
        self.compare_config(value, config);
        if !cache.is_resumable(store) {
            self.list(cache, &session.leases).await?;
        }
        self.keep_own_lease(cache).await?;
        let Some(from) = cache.next_revision() else {
            return Err(transient(Failure::WatchEnded(
                "nothing is listed".to_owned(),
            )));
        };
        let watch = self.registry.watch(from, store.revision.saturating_add(1));
        let mut watch = watch.await.map_err(transient)?;
        let opened = tokio::time::Instant::now();
        let mut proven = false;
        loop {
            let due = self.own().as_ref().and_then(OwnLease::next_due);
            tokio::select! {
                message = watch.next() => {
                    let message = message.map_err(|failure| self.broken(cache, failure))?;
                    if matches!(message, Message::Created) {
                        continue;
                    }
                    self.take_in(message, cache, config, &session.leases);
                }
                () = sleep_until(opened + PROVING_TIME), if !proven => {}
                () = at(due) => {}
            }
            proven = true;
            self.waiting.clear();
            retry.succeeded();
            self.keep_own_lease(cache).await?;
        }
    }

    async fn list(
        &self,
        cache: &mut LeaseCache,
        leases: &watch::Sender<Option<Leases>>,
    ) -> Result<(), Error> {
        let listing = self.registry.list().await.map_err(transient)?;
        if self.take_listing(cache, listing) {
            leases.send_replace(Some(cache.leases()));
        }
        Ok(())
    }

    /// Takes over a listing; true if the leases are not the same as before.
    pub(super) fn take_listing(&self, cache: &mut LeaseCache, listing: Listing) -> bool {
        let replaced = cache.replace(listing, Instant::now());
        if replaced.lost
            && let Some(own) = &mut *self.own()
        {
            own.store_lost();
        }
        replaced.changed
    }

    /// The watch broke: what the next round does differently.
    fn broken(&self, cache: &mut LeaseCache, failure: Failure) -> Error {
        match failure.kind() {
            // the next round lists, and leaves out the value that is too long
            Kind::Compacted | Kind::TooLong => cache.start_over(),
            _ => self.registry.connection.failed(),
        }
        transient(failure)
    }

    fn take_in(
        &self,
        message: Message,
        cache: &mut LeaseCache,
        config: &mut ConfigState,
        leases: &watch::Sender<Option<Leases>>,
    ) {
        match message {
            Message::Changes(changes) => {
                let now = Instant::now();
                let mut changed = false;
                for change in changes {
                    changed |= cache.apply(change, now);
                }
                if changed {
                    leases.send_replace(Some(cache.leases()));
                }
            }
            Message::Config(value) => self.compare_config(value, config),
            Message::Progress(revision) => cache.advance(revision),
            Message::Created => {}
        }
    }

    /// Says once that the configuration in etcd is not the one that runs.
    fn compare_config(&self, value: Option<Result<String, Unreadable>>, said: &mut ConfigState) {
        let Some(running) = self.config().clone() else {
            return;
        };
        let state = compare_config(&running, value);
        if state == *said {
            return;
        }
        let key = self.registry.keys.config();
        match &state {
            ConfigState::Running => {
                info!(
                    "the network configuration in etcd ({key}) is again the one that this node runs with"
                );
            }
            ConfigState::Changed(what) => warn!(
                "the network configuration in etcd ({key}) {what}: this node goes on with the one that it \
                 started with; a restart of flanneld applies the new one"
            ),
        }
        *said = state;
    }

    /// Does what the own lease needs now.
    async fn keep_own_lease(&self, cache: &LeaseCache) -> Result<(), Error> {
        let Some(mut own) = self.own().clone() else {
            return Ok(());
        };
        let subnets = own.lease.subnets;
        let finding = own.inspect(cache);
        let mut contended = finding == Finding::Contended;
        match finding {
            Finding::Unchanged => own.intact(),
            Finding::Rewritten {
                mod_revision,
                lease_id,
            } => {
                if lease_id == 0 && !own.is_reservation() {
                    info!("the lease for {subnets} has become a reservation, which does not end");
                }
                own.rewritten(mod_revision, lease_id);
            }
            Finding::Overwritten => {
                if own.may_rewrite() {
                    warn!(
                        "another party wrote other data into the lease for {subnets} of this node: writing this node's again"
                    );
                    self.try_write_again(&mut own).await?;
                }
            }
            Finding::Contended => {
                if own.may_rewrite() {
                    contended = false;
                    warn!(
                        "another node that has the public IP {} wrote its data into the lease for {subnets} of this node: \
                         writing this node's again; set another -public-ip on one of the two, or stop the other one",
                        own.lease.attrs.node()
                    );
                    self.try_write_again(&mut own).await?;
                }
            }
            Finding::Taken { by } => return Err(Error::Taken { subnets, by }),
            Finding::Ended => {
                if let Some(by) = overlapping_node(cache, &own.lease) {
                    return Err(Error::Taken { subnets, by });
                }
                if own.may_rewrite() {
                    warn!(
                        "the lease for {subnets} ended, or its store was lost: acquiring the same subnets again"
                    );
                    self.try_write_again(&mut own).await?;
                }
            }
            Finding::Deleted => return Err(Error::Revoked(subnets)),
        }
        self.say_contended(contended.then_some(&own.lease));
        *self.own() = Some(own);
        self.renew_if_due().await;
        Ok(())
    }

    /// Some: another node has this lease, too, and had it first.
    fn say_contended(&self, lease: Option<&Lease>) {
        self.contended.store(lease.is_some(), Ordering::Relaxed);
        match lease {
            Some(lease) => self.contention.report(format!(
                "for the lease for {}: another node that runs has the public IP {}: set another -public-ip on one of the \
                 two, or stop the other one",
                lease.subnets.cidrs(),
                lease.attrs.node()
            )),
            None => self.contention.clear(),
        }
    }

    /// Writes the lease again, or later if that fails: the watch is not affected.
    async fn try_write_again(&self, own: &mut OwnLease) -> Result<(), Error> {
        match self.write_again(own).await {
            Err(error) if error.is_transient() => {
                let subnets = own.lease.subnets;
                warn!("cannot write the lease for {subnets} again, will try later: {error}");
                own.rewrite_later();
                Ok(())
            }
            done => done,
        }
    }

    /// Writes the lease over what another party wrote, or where the key is gone.
    async fn write_again(&self, own: &mut OwnLease) -> Result<(), Error> {
        let subnets = own.lease.subnets;
        for _ in 0..WRITE_ATTEMPTS {
            let known = self.registry.get(&subnets).await.map_err(transient)?;
            if let Some(known) = &known
                && (known.attrs.public_ip.is_some() || known.attrs.public_ipv6.is_some())
                && !known.attrs.same_node(&own.lease.attrs)
            {
                let by = known.attrs.node();
                return Err(Error::Taken { subnets, by });
            }
            let expected = known.map_or(0, |known| known.mod_revision);
            if self.write(own, expected).await.map_err(transient)? {
                info!("wrote the lease for {subnets} again");
                return Ok(());
            }
        }
        Err(transient(Failure::Contention))
    }

    /// Keeps the etcd lease alive or puts a new one in its place. A failure is tried again later:
    /// the watch is not affected.
    async fn renew_if_due(&self) {
        let Some(mut own) = self.own().clone() else {
            return;
        };
        let subnets = own.lease.subnets;
        let done = match own.due() {
            Due::Nothing => return,
            Due::KeepAlive => self.keep_alive(&mut own).await,
            Due::Renewal => self.renew(&mut own).await,
        };
        if let Err(failure) = done {
            warn!("cannot renew the lease for {subnets}, will try again: {failure}");
            own.postpone();
        }
        *self.own() = Some(own);
    }

    async fn keep_alive(&self, own: &mut OwnLease) -> Result<(), Failure> {
        let asked = Moment::now();
        if self.registry.keep_alive(own.lease_id).await? {
            debug!("kept the etcd lease of {} alive", own.lease.subnets);
            own.kept_alive(asked);
            Ok(())
        } else {
            self.renew(own).await
        }
    }

    async fn renew(&self, own: &mut OwnLease) -> Result<(), Failure> {
        let old = own.lease_id;
        if !self.write(own, own.mod_revision).await? {
            // the event that says why is on its way
            own.postpone();
            return Ok(());
        }
        info!("renewed the lease for {}", own.lease.subnets);
        self.registry.revoke_unused(old).await;
        Ok(())
    }

    /// Writes the lease if its key has the revision `expected`; false if not.
    async fn write(&self, own: &mut OwnLease, expected: i64) -> Result<bool, Failure> {
        let asked = Moment::now();
        let write = Write {
            subnets: own.lease.subnets,
            attrs: &own.lease.attrs,
            expected,
            ttl: own.ttl(),
            delete: &[],
        };
        let written: Option<Written> = self.registry.write(&write).await?;
        if let Some(written) = written {
            own.written(written, asked, self.renew_margin);
        }
        Ok(written.is_some())
    }
}

/// The other node that holds a part of the lease's subnets, under another key.
fn overlapping_node(cache: &LeaseCache, own: &Lease) -> Option<String> {
    let mut others = cache.overlapping(&own.subnets);
    let other = others.find(|lease| !lease.attrs.same_node(&own.attrs))?;
    Some(other.attrs.node())
}

async fn at(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => future::pending().await,
    }
}

fn compare_config(
    running: &NetworkConfig,
    value: Option<Result<String, Unreadable>>,
) -> ConfigState {
    let text = match value {
        None => return ConfigState::Changed("was deleted".to_owned()),
        Some(Err(reason)) => return ConfigState::Changed(format!("cannot be read: {reason}")),
        Some(Ok(text)) => text,
    };
    match parse_config(&text) {
        Err(reason) => ConfigState::Changed(format!("cannot be used: {reason}")),
        Ok(new) => {
            let raw = running.raw.clone();
            if (NetworkConfig { raw, ..new }) == *running {
                ConfigState::Running
            } else {
                ConfigState::Changed(format!("changed to {}", text.trim()))
            }
        }
    }
}
