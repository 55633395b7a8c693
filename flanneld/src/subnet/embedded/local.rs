//! The subnet manager of the machine that has the store.

use super::store::{Access, Caller, Connected, Store, StoreError, random_session};
use crate::{
    model::Subnets,
    model::lease::{Lease, LeaseAttrs},
    model::network_config::NetworkConfig,
    retry::{ExponentialBackoff, Retry},
    subnet::{
        BoxFuture, Error, Session, SubnetManager,
        renewal::{self, LastRenewal, LeaseStore},
    },
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// After a renewal that could not be written: a full disk does not get better within milliseconds.
const RENEWAL_BACKOFF: ExponentialBackoff = ExponentialBackoff {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(10),
};

/// The store of this machine, without HTTP in between.
pub(crate) struct Local {
    pub(super) store: Arc<Store>,
    /// The owner of this node's lease.
    caller: Caller,
    renew_margin: Duration,
    renewed: LastRenewal,
    /// Tells this process from another node with the same public IP; connected as long as it runs.
    session: Option<(String, Connected)>,
}

impl Local {
    /// `renew_margin`: how long before its end a lease is renewed.
    pub(crate) fn new(store: Arc<Store>, renew_margin: Duration) -> Local {
        let session = random_session();
        Local {
            session: session.map(|session| (session.clone(), store.connect(session))),
            store,
            caller: Caller::Trusted(None),
            renew_margin,
            renewed: LastRenewal::default(),
        }
    }

    /// With the node's name in its certificate, so that no other node takes its lease.
    pub(crate) fn owned_by(self, name: Option<String>) -> Local {
        let caller = Caller::Trusted(name.map(Arc::from));
        Local { caller, ..self }
    }

    fn session(&self) -> Option<String> {
        self.session.as_ref().map(|(session, _)| session.clone())
    }

    /// Changes wait for the disk: not on the thread that does everything else.
    async fn change(
        &self,
        work: impl FnOnce(&Access<'_>) -> Result<Lease, StoreError> + Send + 'static,
    ) -> Result<Lease, Error> {
        let caller = self.caller.clone();
        let done = self
            .store
            .on_thread(move |store| work(&store.access(&caller)));
        let lease = done
            .await
            .map_err(|error| Error::Transient(error.into()))??;
        self.renewed.record(&lease);
        Ok(lease)
    }

    async fn watch_until_lost(&self, session: Session) -> Error {
        let mut revisions = self.store.revisions();
        let mut own = session.own.borrow().clone();
        let what = format!("the renewal of the lease for {}", own.subnets);
        let mut retry = Retry::new(what, RENEWAL_BACKOFF);
        loop {
            revisions.borrow_and_update();
            let leases = self.store.leases();
            let known = leases
                .iter()
                .any(|lease| lease.subnets == own.subnets && lease.attrs == own.attrs);
            session.leases.send_replace(Some(Arc::new(leases)));
            let ttl = self.store.ttl();
            let renew_at = self.renewed.next(&own.subnets, ttl, self.renew_margin);
            if known && (own.expiration.is_none() || renew_at > Instant::now()) {
                tokio::select! {
                    // the store, which holds the sender, lives as long as this
                    _ = revisions.changed() => {}
                    () = sleep_until(renew_at), if own.expiration.is_some() => {}
                }
                continue;
            }
            match renewal::renew(self, &own).await {
                Ok(lease) => {
                    own = lease;
                    retry.succeeded();
                }
                Err(error) if error.is_transient() => retry.failed(&error.to_string()).await,
                Err(error) => return error,
            }
        }
    }
}

impl LeaseStore for Local {
    async fn renew(&self, lease: &Lease) -> Result<Lease, Error> {
        let (subnets, attrs) = (lease.subnets, lease.attrs.clone());
        let session = self.session();
        self.change(move |store| store.renew_as(session.as_deref(), subnets, Some(attrs)))
            .await
    }

    async fn grant(&self, attrs: &LeaseAttrs, previous: Subnets) -> Result<Lease, Error> {
        let (attrs, former) = (attrs.clone(), self.renewed.former(attrs));
        let session = self.session();
        self.change(move |store| store.acquire_as(session.as_deref(), attrs, previous, former))
            .await
    }
}

impl SubnetManager for Local {
    fn describe(&self) -> String {
        format!("embedded store at {}", self.store.path.display())
    }

    fn network_config(&self) -> BoxFuture<'_, Result<NetworkConfig, Error>> {
        Box::pin(async { Ok(self.store.config()) })
    }

    fn network_configs(&self) -> Option<watch::Receiver<NetworkConfig>> {
        Some(self.store.configs())
    }

    fn acquire<'a>(
        &'a self,
        attrs: &'a LeaseAttrs,
        previous: Subnets,
    ) -> BoxFuture<'a, Result<Lease, Error>> {
        Box::pin(async move {
            let mut retry = Retry::new("the lease of this node".to_owned(), RENEWAL_BACKOFF);
            // the others are served meanwhile
            loop {
                match self.grant(attrs, previous).await {
                    Err(error) if error.is_transient() => retry.failed(&error.to_string()).await,
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

    fn run(&self, session: Session) -> BoxFuture<'_, Error> {
        Box::pin(self.watch_until_lost(session))
    }

    fn serves_others(&self) -> bool {
        true
    }
}
