//! `flanneld lease export | import` for the embedded store: on its machine while no flanneld serves
//! it, and over the lease API.

use super::{client::Client, local::Local, store::Store};
use crate::{
    model::lease::Lease,
    subnet::{
        BoxFuture, Error, SubnetManager,
        alloc::{Owned, Reservation},
        transfer::{Export, LeaseArchive, Outcome, decide},
    },
};
use serde_json::Value;

impl LeaseArchive for Local {
    fn describe(&self) -> String {
        SubnetManager::describe(self)
    }

    fn export(&self) -> BoxFuture<'_, Result<Export, Error>> {
        Box::pin(async {
            let leases = self.store.leases();
            let leases = leases.iter().map(|lease| Lease::clone(lease)).collect();
            export(&self.store.config.raw, leases, self.store.reservations())
        })
    }

    fn import<'a>(&'a self, export: &'a Export) -> BoxFuture<'a, Result<Vec<Outcome>, Error>> {
        let import = |lease: &Lease| import_one(&self.store, lease);
        Box::pin(async move { export.leases.iter().map(import).collect() })
    }
}

fn import_one(store: &Store, lease: &Lease) -> Result<Outcome, Error> {
    let (leases, reservations) = (store.leases(), store.reservations());
    let leases = leases.iter().map(|held| (held.subnets, &held.attrs));
    let reservations = reservations.iter().map(|kept| (kept.subnets, &kept.attrs));
    let held: Vec<Owned<'_>> = leases.chain(reservations).collect();
    let outcome = decide(&store.config, &held, lease);
    if outcome == Outcome::Added {
        if lease.expiration.is_none() {
            store.reserve(reservation(lease))?;
        }
        store.acquire(lease.attrs.clone(), lease.subnets, None)?;
    }
    Ok(outcome)
}

impl LeaseArchive for Client {
    fn describe(&self) -> String {
        SubnetManager::describe(self)
    }

    fn export(&self) -> BoxFuture<'_, Result<Export, Error>> {
        Box::pin(async {
            let config = self.config().await?;
            let (leases, reservations) = self.whole_store().await?;
            export(&config.raw, leases, reservations)
        })
    }

    fn import<'a>(&'a self, export: &'a Export) -> BoxFuture<'a, Result<Vec<Outcome>, Error>> {
        Box::pin(async {
            let config = self.config().await?;
            let (mut leases, reservations) = self.whole_store().await?;
            let mut outcomes = Vec::with_capacity(export.leases.len());
            for lease in &export.leases {
                let held = leases.iter().map(|held| (held.subnets, &held.attrs));
                let kept = reservations.iter().map(|kept| (kept.subnets, &kept.attrs));
                let held: Vec<Owned<'_>> = held.chain(kept).collect();
                let outcome = decide(&config, &held, lease);
                if outcome == Outcome::Added {
                    if lease.expiration.is_none() {
                        self.reserve(&reservation(lease)).await?;
                    }
                    leases.push(self.grant_previous(lease).await?);
                }
                outcomes.push(outcome);
            }
            Ok(outcomes)
        })
    }
}

fn reservation(lease: &Lease) -> Reservation {
    Reservation {
        subnets: lease.subnets,
        attrs: lease.attrs.clone(),
    }
}

/// A reservation without a lease becomes a lease without end.
fn export(
    config: &str,
    mut leases: Vec<Lease>,
    reservations: Vec<Reservation>,
) -> Result<Export, Error> {
    let config: Value =
        serde_json::from_str(config).map_err(|error| Error::Permanent(error.into()))?;
    for reservation in reservations {
        let leased = |lease: &Lease| lease.subnets == reservation.subnets;
        if !leases.iter().any(leased) {
            leases.push(Lease {
                subnets: reservation.subnets,
                attrs: reservation.attrs,
                expiration: None,
            });
        }
    }
    Ok(Export::new(config, leases))
}
