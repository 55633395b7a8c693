//! Keeps this node's lease: runs the subnet manager, and acquires the lease again when this node
//! comes to be reached by another address or publishes other backend data. What the store did not
//! take is told again until it does.

use super::Error;
use crate::{
    backend::Backend,
    failure_log::FailureLog,
    model::{
        Subnets,
        lease::{Lease, LeaseAttrs},
    },
    subnet::{self, Session, SubnetManager},
    underlay::Underlay,
};
use std::{convert::Infallible, future, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tracing::{info, warn};

/// Delay before a lease is acquired again after the store refused it.
const REACQUIRE_DELAY: Duration = Duration::from_secs(10);
/// For one attempt: the lease that the node has is not renewed meanwhile, and no peers are learned.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);

/// Attempts that failed.
static UNTOLD: FailureLog = FailureLog::new();

/// The task that keeps the lease.
pub(super) struct LeaseKeeper<'a> {
    pub(super) manager: &'a dyn SubnetManager,
    pub(super) backend: Arc<dyn Backend>,
    /// How this node is reached.
    pub(super) underlays: watch::Receiver<Underlay>,
    /// What the lease was acquired with.
    pub(super) told: LeaseAttrs,
}

/// What the store was told last.
struct Told {
    attrs: LeaseAttrs,
    /// The store did not take it: when it is told again.
    again_at: Option<Instant>,
}

impl LeaseKeeper<'_> {
    /// Returns only when the lease is lost.
    pub(super) async fn run(mut self, session: Session) -> Result<Infallible, Error> {
        let mut told = Told {
            attrs: self.told.clone(),
            again_at: None,
        };
        loop {
            tokio::select! {
                // also between two attempts: the lease that the node has is renewed meanwhile
                ended = self.manager.run(session.clone()) => match ended {
                    ended @ (subnet::Error::Revoked(_) | subnet::Error::Taken { .. })
                        if self.manager.serves_others() =>
                    {
                        warn!("{ended}: this node asks for another subnet and goes on serving leases");
                        told = self.tell(&session.own, Subnets::default(), false).await;
                        if let Some(at) = told.again_at {
                            sleep_until(at).await;
                        }
                        continue;
                    }
                    subnet::Error::Revoked(_) => return Err(Error::Revoked),
                    error => return Err(error.into()),
                },
                due = due(&mut self.underlays, &*self.backend, &told) => due?,
            }
            let subnets = session.own.borrow().subnets;
            told = self
                .tell(&session.own, subnets, told.again_at.is_some())
                .await;
        }
    }

    /// Publishes the attributes as they are now, for the previous subnets if the store still grants
    /// them.
    async fn tell(
        &mut self,
        current: &watch::Sender<Lease>,
        previous: Subnets,
        again: bool,
    ) -> Told {
        let own = current.borrow().clone();
        let underlay = self.underlays.borrow_and_update().clone();
        let attrs = self.backend.lease_attrs(&underlay);
        let attempt = self.manager.acquire_once(&attrs, previous);
        let answer = timeout(ATTEMPT_TIMEOUT, attempt)
            .await
            .unwrap_or_else(|elapsed| Err(subnet::Error::Transient(elapsed.into())));
        let again_at = match answer {
            Ok(lease) => {
                if lease.subnets != own.subnets {
                    warn!(
                        "this node's subnet changed from {} to {}: restart the pods that run on it",
                        own.subnets.cidrs(),
                        lease.subnets.cidrs()
                    );
                }
                if again {
                    info!("published that this node is reached by {underlay}");
                }
                current.send_replace(lease);
                None
            }
            Err(error) => {
                UNTOLD.failed(format_args!(
                    "cannot publish that this node is now reached by {underlay}: {error}; trying again"
                ));
                Some(Instant::now() + REACQUIRE_DELAY)
            }
        };
        Told { attrs, again_at }
    }
}

/// Waits until this node has to publish something: other attributes than it told last, or the same
/// ones again.
async fn due(
    underlays: &mut watch::Receiver<Underlay>,
    backend: &dyn Backend,
    told: &Told,
) -> Result<(), Error> {
    let again = async {
        match told.again_at {
            Some(at) => sleep_until(at).await,
            None => future::pending().await,
        }
    };
    let is_untold = |underlay: &Underlay| backend.lease_attrs(underlay) != told.attrs;
    tokio::select! {
        changed = underlays.wait_for(is_untold) => match changed {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::ReconcilerStopped),
        },
        () = again => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::fixtures,
        model::{Subnets, network_config::NetworkConfig},
        subnet::BoxFuture,
    };
    use std::{io, sync::Mutex};

    /// A store that refuses what its list of answers says.
    #[derive(Default)]
    struct Store {
        refusals: Mutex<usize>,
        taken: Mutex<Vec<LeaseAttrs>>,
    }

    impl SubnetManager for Store {
        fn describe(&self) -> String {
            "a store".to_owned()
        }

        fn network_config(&self) -> BoxFuture<'_, Result<NetworkConfig, subnet::Error>> {
            Box::pin(future::pending())
        }

        fn acquire<'a>(
            &'a self,
            attrs: &'a LeaseAttrs,
            previous: Subnets,
        ) -> BoxFuture<'a, Result<Lease, subnet::Error>> {
            let mut refusals = self.refusals.lock().unwrap();
            let answer = match refusals.checked_sub(1) {
                Some(left) => {
                    *refusals = left;
                    let full = io::Error::from_raw_os_error(28);
                    Err(subnet::Error::Transient(Box::new(full)))
                }
                None => {
                    self.taken.lock().unwrap().push(attrs.clone());
                    Ok(Lease {
                        subnets: previous,
                        attrs: attrs.clone(),
                        expiration: None,
                    })
                }
            };
            Box::pin(future::ready(answer))
        }

        fn run(&self, _: Session) -> BoxFuture<'_, subnet::Error> {
            Box::pin(future::pending())
        }
    }

    fn underlay(last: u8) -> Underlay {
        let ip = Some([172, 31, 0, last].into());
        Underlay {
            index: 2,
            name: "eth0".to_owned(),
            mtu: 1500,
            address: ip,
            address_v6: None,
            public_ip: ip,
            public_ipv6: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn address_is_told_until_the_store_takes_it() {
        let (store, backend) = (Store::default(), fixtures::vxlan());
        *store.refusals.lock().unwrap() = 3;
        let (sender, underlays) = watch::channel(underlay(1));
        let attrs = backend.lease_attrs(&underlay(1));
        let own = watch::Sender::new(Lease {
            subnets: "10.244.1.0-24".parse().unwrap(),
            attrs: attrs.clone(),
            expiration: None,
        });
        let session = Session {
            own: own.clone(),
            leases: watch::Sender::new(None),
            node_ready: watch::channel(false).1,
        };
        let keeper = LeaseKeeper {
            manager: &store,
            backend,
            underlays,
            told: attrs,
        };
        let test = async {
            let mut lease = own.subscribe();
            for last in [2, 3] {
                sender.send_replace(underlay(last));
                let told =
                    lease.wait_for(|lease| lease.attrs.public_ip == underlay(last).public_ip);
                told.await.unwrap();
            }
            // what is told is not told again
            tokio::time::sleep(10 * REACQUIRE_DELAY).await;
        };
        tokio::select! {
            // the address has changed before the keeper looks for the first time
            biased;
            () = test => {}
            _ = keeper.run(session) => panic!("the lease is kept"),
        }
        let taken = store.taken.lock().unwrap();
        let ips: Vec<_> = taken.iter().map(|attrs| attrs.public_ip).collect();
        assert_eq!(ips, [underlay(2).public_ip, underlay(3).public_ip]);
    }
}
