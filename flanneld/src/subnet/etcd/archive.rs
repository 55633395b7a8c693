//! Export and import of the leases in etcd.

use super::{Etcd, error::Failure, keys, registry::Write, transient};
use crate::{
    model::{lease::Lease, network_config::NetworkConfig},
    subnet::{
        BoxFuture, Error, SubnetManager,
        transfer::{Export, Held, LeaseArchive, Outcome},
    },
};
use std::time::SystemTime;
use tracing::warn;

impl LeaseArchive for Etcd {
    fn describe(&self) -> String {
        SubnetManager::describe(self)
    }

    fn export(&self) -> BoxFuture<'_, Result<Export, Error>> {
        Box::pin(async {
            let config = self.read_config().await.map_err(transient)?;
            let listing = self.registry.list().await.map_err(transient)?;
            let end = SystemTime::now() + self.ttl;
            let mut leases = Vec::with_capacity(listing.records.len());
            for record in &listing.records {
                match self.registry.readable(record) {
                    Ok(known) => leases.push(Lease {
                        subnets: known.subnets,
                        attrs: known.attrs,
                        // no later than this; an import starts the life of a lease anew
                        expiration: (known.lease_id != 0).then_some(end),
                    }),
                    Err(reason) => warn!(
                        "etcd key {} is left out: {reason}",
                        keys::shown(&record.key)
                    ),
                }
            }
            Export::of(&config, leases)
        })
    }

    fn held<'a>(&'a self, export: &'a Export) -> BoxFuture<'a, Result<Held, Error>> {
        Box::pin(async {
            let config = self.config_or(export).await.map_err(transient)?;
            let listing = self.registry.list().await.map_err(transient)?;
            let records = listing.records.iter();
            let known = records.filter_map(|record| self.registry.known(record));
            Ok(Held {
                config,
                leases: known.map(|known| (known.subnets, known.attrs)).collect(),
            })
        })
    }

    fn add<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<Outcome, Error>> {
        Box::pin(async { self.import_one(lease).await.map_err(transient) })
    }
}

impl Etcd {
    /// The configuration in etcd; where there is none, that of the export is written.
    async fn config_or(&self, export: &Export) -> Result<NetworkConfig, Failure> {
        match self.read_config().await {
            Err(Failure::NoConfig { .. }) => {}
            answer => return answer,
        }
        let config = export.config.to_string();
        self.registry
            .create(self.registry.keys.config(), &config)
            .await?;
        self.read_config().await
    }

    async fn import_one(&self, lease: &Lease) -> Result<Outcome, Failure> {
        let write = Write {
            subnets: lease.subnets,
            attrs: &lease.attrs,
            expected: 0,
            ttl: lease.expiration.map(|_| self.ttl),
            delete: &[],
        };
        if self.registry.write(&write).await?.is_some() {
            return Ok(Outcome::Added);
        }
        let holder = self.registry.get(&lease.subnets).await?;
        Ok(match holder {
            Some(known) if known.attrs.same_node(&lease.attrs) => Outcome::Present,
            holder => Outcome::HeldBy {
                subnets: lease.subnets,
                node: holder
                    .map_or_else(|| "a node that left".to_owned(), |known| known.attrs.node()),
            },
        })
    }
}
