//! The etcd subnet manager: leases are keys of etcd v3, as upstream writes them.
//!
//! A node lists the leases once and then watches them. Whatever happens to etcd, the last snapshot
//! stays, and with it the data path: a watch goes on where it broke, or starts over from a new
//! listing that is compared with what is known.

mod acquire;
mod archive;
mod cache;
mod connection;
mod error;
mod fuzz;
mod keys;
mod own_lease;
mod registry;
mod watch;

pub(crate) use connection::ConnectionOptions;
pub(crate) use error::{EndpointError, IdentityError};
pub(crate) use fuzz::{answer as fuzz_answer, leases as fuzz_leases};

use crate::{
    best_effort::best_effort,
    model::{
        Subnets,
        lease::{Lease, LeaseAttrs},
        network_config::NetworkConfig,
    },
    retry::{ExponentialBackoff, Retry},
    subnet::{BoxFuture, Error, Session, SubnetManager, TTL, Waiting, alloc::Node},
};
use acquire::{Known, Plan};
use cache::LeaseCache;
use connection::Connection;
use error::Failure;
use keys::Keys;
use own_lease::{Moment, OwnLease};
use registry::{Registry, Write, Written};
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tracing::info;

/// For a network configuration that is missing or wrong: somebody is about to write it.
const CONFIG_BACKOFF: ExponentialBackoff = ExponentialBackoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(5),
};

/// The other managers, for a user who did not mean etcd: logged once, or each time if no option
/// names etcd.
const CHOICES: &str = " (leases come from etcd because no other manager is named: -etcd-endpoints URLS and -etcd-prefix \
PREFIX name another etcd, -kube-subnet-mgr takes leases from Kubernetes, -listen HOST:PORT keeps them on this machine, \
-remote HOST:PORT uses those of another flanneld)";

/// The subnet manager.
pub(crate) struct Etcd {
    registry: Registry,
    /// The lifetime of a lease.
    ttl: Duration,
    /// `-subnet-lease-renew-margin`
    renew_margin: Duration,
    waiting: Waiting,
    /// What it says while another node has this node's lease, too.
    contention: Waiting,
    contended: AtomicBool,
    /// The configuration that this node runs with.
    config: Mutex<Option<NetworkConfig>>,
    own: Mutex<Option<OwnLease>>,
    /// What an earlier process of this node held.
    held: Mutex<Option<LeaseAttrs>>,
    cache: tokio::sync::Mutex<LeaseCache>,
}

impl Etcd {
    /// Checks the options; connects later.
    pub(crate) fn new(
        options: ConnectionOptions,
        prefix: &str,
        renew_margin: Duration,
        waiting: Waiting,
    ) -> Result<Etcd, EndpointError> {
        let keys = Keys::new(prefix);
        let registry = Registry {
            connection: Connection::new(options)?,
            keys: keys.clone(),
        };
        Ok(Etcd {
            registry,
            ttl: TTL,
            renew_margin,
            contention: waiting.another(),
            contended: AtomicBool::new(false),
            waiting,
            config: Mutex::default(),
            own: Mutex::default(),
            held: Mutex::default(),
            cache: tokio::sync::Mutex::new(LeaseCache::new(keys, TTL)),
        })
    }

    /// Refuses a certificate of this node that etcd would refuse, whatever it does later.
    pub(crate) fn check_identity(&self) -> Result<(), IdentityError> {
        self.registry.connection.check_identity()
    }

    fn own(&self) -> MutexGuard<'_, Option<OwnLease>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Option<LeaseAttrs>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn config(&self) -> MutexGuard<'_, Option<NetworkConfig>> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self) -> String {
        format!("etcd at {}", self.registry.connection.urls())
    }

    /// Reads the configuration once.
    async fn read_config(&self) -> Result<NetworkConfig, Failure> {
        let key = || self.registry.keys.config().to_owned();
        let answer = self.registry.config().await?;
        let value = answer
            .value
            .ok_or_else(|| Failure::NoConfig { key: key() })?;
        let text = value.map_err(|source| Failure::UnreadableConfig { key: key(), source })?;
        parse_config(&text).map_err(|source| Failure::Config { key: key(), source })
    }

    /// Asks once for a lease; None if another node was faster.
    async fn try_acquire(
        &self,
        config: &NetworkConfig,
        attrs: &LeaseAttrs,
        previous: Subnets,
    ) -> Result<Option<Lease>, Error> {
        let listing = self.registry.list().await.map_err(transient)?;
        let records = listing.records.iter();
        let known: Vec<Known> = records
            .filter_map(|record| self.registry.known(record))
            .collect();
        // the watch goes on from here: a node lists the leases once
        if let Ok(mut cache) = self.cache.try_lock() {
            self.take_listing(&mut cache, listing);
        }
        let former = match self.own().as_ref() {
            Some(own) => own.former(attrs),
            None => self.held().clone().filter(|held| !held.same_node(attrs)),
        };
        let node = Node {
            attrs,
            former: former.as_ref(),
        };
        let random = best_effort(getrandom::u64(), "the first free subnet is taken");
        let plan = acquire::plan(config, node, previous, &known, random.unwrap_or(0))?;
        log_plan(&plan, attrs);
        let is_reservation = plan.existing.is_some_and(|known| known.lease_id == 0);
        let asked = Moment::now();
        let written = if let Some(known) = plan.existing.filter(|_| is_reservation)
            && known.attrs == *attrs
            && plan.delete.is_empty()
        {
            Written {
                mod_revision: known.mod_revision,
                lease_id: 0,
            }
        } else {
            let write = Write {
                subnets: plan.subnets,
                attrs,
                expected: plan.existing.map_or(0, |known| known.mod_revision),
                ttl: (!is_reservation).then_some(self.ttl),
                delete: &plan.delete,
            };
            match self.registry.write(&write).await.map_err(transient)? {
                Some(written) => written,
                None => return Ok(None),
            }
        };
        let lease = Lease {
            subnets: plan.subnets,
            attrs: attrs.clone(),
            expiration: None,
        };
        let mut own = OwnLease::new(lease, written, asked, self.ttl, self.renew_margin);
        let lease = own.lease.clone();
        let held = plan.existing.map(|known| &known.attrs);
        let held = held.filter(|held| own_lease::is_of_another_node(held, attrs));
        {
            let mut current = self.own();
            let former = current.as_ref().map(|own| &own.lease.attrs);
            if held.is_some_and(|held| former != Some(held)) {
                own.leave_to_holder();
            }
            *current = Some(own);
        }
        for gone in plan.existing.into_iter().chain(plan.delete) {
            if gone.lease_id != 0 {
                self.registry.revoke_unused(gone.lease_id).await;
            }
        }
        Ok(Some(lease))
    }

    async fn acquire_lease(&self, attrs: &LeaseAttrs, previous: Subnets) -> Result<Lease, Error> {
        let config = self.config().clone();
        let config = match config {
            Some(config) => config,
            None => self.network_config().await?,
        };
        let what = format!("a lease from {}", self.name());
        let mut retry = Retry::new(what, ExponentialBackoff::NETWORK);
        loop {
            match self.try_acquire(&config, attrs, previous).await {
                Ok(Some(lease)) => {
                    retry.succeeded();
                    self.waiting.clear();
                    return Ok(lease);
                }
                Ok(None) => info!("another node was faster: choosing another subnet"),
                Err(error) if error.is_transient() => {
                    self.waiting
                        .report(format!("for a lease from {}", self.name()));
                    retry.failed(&error.to_string()).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn wait_for_config(&self) -> NetworkConfig {
        let what = || format!("the network configuration from {}", self.name());
        let mut network = Retry::new(what(), ExponentialBackoff::NETWORK);
        let mut content = Retry::new(what(), CONFIG_BACKOFF);
        let mut first = true;
        loop {
            let failure = match self.read_config().await {
                Ok(config) => {
                    self.waiting.clear();
                    return config;
                }
                Err(failure) => failure,
            };
            match failure {
                Failure::NoAnswer(_) | Failure::Refused { .. } => {
                    self.waiting.report(format!("for {}", self.name()));
                    let named = self.registry.connection.is_named() && !first;
                    let choices = if named { "" } else { CHOICES };
                    network.failed(&format!("{failure}{choices}")).await;
                    first = false;
                }
                failure => {
                    network.succeeded();
                    let key = self.registry.keys.config();
                    self.waiting
                        .report(format!("for a network configuration in etcd ({key})"));
                    content.failed(&failure.to_string()).await;
                }
            }
        }
    }
}

impl SubnetManager for Etcd {
    fn describe(&self) -> String {
        self.name()
    }

    fn network_config(&self) -> BoxFuture<'_, Result<NetworkConfig, Error>> {
        Box::pin(async {
            let config = self.wait_for_config().await;
            *self.config() = Some(config.clone());
            Ok(config)
        })
    }

    fn acquire<'a>(
        &'a self,
        attrs: &'a LeaseAttrs,
        previous: Subnets,
    ) -> BoxFuture<'a, Result<Lease, Error>> {
        Box::pin(self.acquire_lease(attrs, previous))
    }

    fn acquire_once<'a>(
        &'a self,
        attrs: &'a LeaseAttrs,
        previous: Subnets,
    ) -> BoxFuture<'a, Result<Lease, Error>> {
        Box::pin(async move {
            let config = self.config().clone();
            let config = match config {
                Some(config) => config,
                None => self.network_config().await?,
            };
            loop {
                if let Some(lease) = self.try_acquire(&config, attrs, previous).await? {
                    return Ok(lease);
                }
            }
        })
    }

    fn held(&self, lease: &Lease) {
        *self.held() = Some(lease.attrs.clone());
    }

    fn run(&self, session: Session) -> BoxFuture<'_, Error> {
        Box::pin(self.follow_until_lost(session))
    }

    fn is_contended(&self) -> bool {
        self.contended.load(Ordering::Relaxed)
    }
}

fn parse_config(text: &str) -> Result<NetworkConfig, crate::model::network_config::Error> {
    let mut config = NetworkConfig::parse(text)?;
    config.check_subnets()?;
    Ok(config)
}

/// A later attempt may succeed, whatever the reason: permissions and certificates change, too.
fn transient(failure: Failure) -> Error {
    Error::Transient(Box::new(failure))
}

fn log_plan(plan: &Plan<'_>, attrs: &LeaseAttrs) {
    for gone in &plan.delete {
        info!(
            "the lease for {} of this node ({}) does not fit the network configuration: deleting it",
            gone.subnets.cidrs(),
            attrs.node()
        );
    }
    match plan.existing {
        Some(_) => info!(
            "found the lease for {} of this node ({}): using it again",
            plan.subnets.cidrs(),
            attrs.node()
        ),
        None => info!("asking for the lease for {}", plan.subnets.cidrs()),
    }
}

#[cfg(test)]
mod tests;
