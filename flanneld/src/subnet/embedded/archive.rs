//! `flanneld lease export | import` for the embedded store: on its machine while no flanneld serves
//! it, and over the lease API.

use super::{client::Client, local::Local};
use crate::{
    model::{lease::Lease, network_config::NetworkConfig},
    subnet::{
        BoxFuture, Error, SubnetManager,
        alloc::Reservation,
        transfer::{Export, Held, LeaseArchive, Outcome},
    },
};

impl LeaseArchive for Local {
    fn describe(&self) -> String {
        SubnetManager::describe(self)
    }

    fn export(&self) -> BoxFuture<'_, Result<Export, Error>> {
        Box::pin(async {
            export(
                &self.store.config(),
                self.leases(),
                self.store.reservations(),
            )
        })
    }

    fn held<'a>(&'a self, _: &'a Export) -> BoxFuture<'a, Result<Held, Error>> {
        let config = self.store.config();
        Box::pin(async { Ok(held(config, self.leases(), self.store.reservations())) })
    }

    fn add<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<Outcome, Error>> {
        Box::pin(async {
            if lease.expiration.is_none() {
                self.store.reserve(reservation(lease))?;
            }
            let (attrs, subnets) = (lease.attrs.clone(), lease.subnets);
            self.store.acquire(attrs, subnets, None)?;
            Ok(Outcome::Added)
        })
    }
}

impl Local {
    fn leases(&self) -> Vec<Lease> {
        let leases = self.store.leases();
        leases.iter().map(|lease| Lease::clone(lease)).collect()
    }
}

impl LeaseArchive for Client {
    fn describe(&self) -> String {
        SubnetManager::describe(self)
    }

    fn export(&self) -> BoxFuture<'_, Result<Export, Error>> {
        Box::pin(async {
            let config = self.config().await?;
            let (leases, reservations) = self.whole_store().await?;
            export(&config, leases, reservations)
        })
    }

    fn held<'a>(&'a self, _: &'a Export) -> BoxFuture<'a, Result<Held, Error>> {
        Box::pin(async {
            let config = self.config().await?;
            let (leases, reservations) = self.whole_store().await?;
            Ok(held(config, leases, reservations))
        })
    }

    fn add<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<Outcome, Error>> {
        Box::pin(async {
            if lease.expiration.is_none() {
                self.reserve(&reservation(lease)).await?;
            }
            self.grant_previous(lease).await?;
            Ok(Outcome::Added)
        })
    }
}

fn reservation(lease: &Lease) -> Reservation {
    Reservation {
        subnets: lease.subnets,
        attrs: lease.attrs.clone(),
    }
}

fn held(config: NetworkConfig, leases: Vec<Lease>, reservations: Vec<Reservation>) -> Held {
    let leases = leases.into_iter().map(|lease| (lease.subnets, lease.attrs));
    let kept = reservations.into_iter();
    let kept = kept.map(|reservation| (reservation.subnets, reservation.attrs));
    Held {
        config,
        leases: leases.chain(kept).collect(),
    }
}

/// A reservation without a lease becomes a lease without end.
fn export(
    config: &NetworkConfig,
    mut leases: Vec<Lease>,
    reservations: Vec<Reservation>,
) -> Result<Export, Error> {
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
    Export::of(config, leases)
}
