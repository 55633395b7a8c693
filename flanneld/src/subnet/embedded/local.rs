//! The node that keeps the store, using it.
use super::{
    Store,
    keep::{Memory, NotKept, Refused, Source, keep},
    renew_after,
    store::StoreError,
};
use crate::{
    model::Subnets,
    model::lease::{Lease, LeaseAttrs},
    model::network_config::NetworkConfig,
    subnet::{BoxFuture, Error, Session, SubnetManager},
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// After a change could not be written.
const RETRY: Duration = Duration::from_secs(10);

/// The store of this machine, without HTTP in between.
pub struct Local {
    store: Arc<Store>,
    renew_margin: Duration,
    memory: Memory,
}

impl Local {
    /// `renew_margin`: how long before its end a lease is renewed.
    pub fn new(store: Arc<Store>, renew_margin: Duration) -> Local {
        Local {
            store,
            renew_margin,
            memory: Memory::default(),
        }
    }

    /// Changes wait for the disk: not on the thread that does everything else.
    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refused> {
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(result) => Ok(result?),
            Err(error) => Err(Refused::NotNow(error.to_string())),
        }
    }

    async fn follow(&self, session: Session) -> Result<(), Error> {
        let mut changes = self.store.changes();
        let mut own = session.own.borrow().clone();
        let mut renew_at = Instant::now() + renew_after(self.store.ttl(), self.renew_margin);
        loop {
            changes.borrow_and_update();
            let all = self.store.leases();
            let known = all
                .iter()
                .any(|lease| lease.subnets == own.subnets && lease.attrs.same_node(&own.attrs));
            session.leases.send_replace(Some(Arc::new(all)));
            if !known || (own.expiration.is_some() && renew_at <= Instant::now()) {
                match keep(self, &own).await {
                    Ok(lease) => {
                        own = lease;
                        renew_at =
                            Instant::now() + renew_after(self.store.ttl(), self.renew_margin);
                    }
                    Err(NotKept::Lost(error)) => return Err(error),
                    Err(NotKept::NotNow(reason)) => {
                        tracing::error!("the lease for {} is not renewed: {reason}", own.subnets);
                        renew_at = Instant::now() + RETRY;
                        if !known {
                            tokio::time::sleep(RETRY).await;
                        }
                    }
                }
                continue;
            }
            tokio::select! {
                // the sender lives in the store, which we hold
                _ = changes.changed() => {}
                () = sleep_until(renew_at), if own.expiration.is_some() => {}
            }
        }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Refused {
        match error {
            StoreError::Revoked(_) => Refused::Revoked,
            StoreError::Unknown(_) => Refused::Unknown,
            StoreError::HeldBy(_, node) => Refused::HeldBy(node),
            StoreError::File { .. } => Refused::NotNow(error.to_string()),
            other => Refused::Never(other.into()),
        }
    }
}

impl Source for Local {
    async fn renew(&self, lease: &Lease) -> Result<Lease, Refused> {
        let (key, attrs) = (lease.subnets, lease.attrs.clone());
        let lease = self
            .change(move |store| store.renew(key, Some(attrs)))
            .await?;
        self.memory.note(&lease);
        Ok(lease)
    }

    async fn acquire(&self, attrs: &LeaseAttrs, previous: Subnets) -> Result<Lease, Refused> {
        let (attrs, formerly) = (attrs.clone(), self.memory.formerly(attrs));
        let lease = self
            .change(move |store| store.acquire(attrs, previous, formerly))
            .await?;
        self.memory.note(&lease);
        Ok(lease)
    }
}

impl SubnetManager for Local {
    fn describe(&self) -> String {
        format!("embedded store at {}", self.store.path().display())
    }

    fn network_config(&self) -> BoxFuture<'_, Result<NetworkConfig, Error>> {
        Box::pin(async { Ok(self.store.config().clone()) })
    }

    fn acquire<'a>(
        &'a self,
        attrs: &'a LeaseAttrs,
        previous: Subnets,
    ) -> BoxFuture<'a, Result<Lease, Error>> {
        Box::pin(async move {
            let attrs = attrs.clone();
            let refused = match Source::acquire(self, &attrs, previous).await {
                Ok(lease) => return Ok(lease),
                Err(refused) => refused,
            };
            Err(match refused {
                Refused::Never(error) => error,
                Refused::NotNow(reason) => Error::Other(reason),
                other => Error::Other(format!("{other:?}")),
            })
        })
    }

    fn run(&self, session: Session) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.follow(session))
    }
}
