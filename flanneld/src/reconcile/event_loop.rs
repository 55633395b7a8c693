//! The loop: a pass at the start, for each new snapshot of the leases, for each notification that
//! contradicts the wanted state, when a process that moves packets works or fails, when a failed
//! change is due again, and on a slow timer.

use super::{
    Error,
    event_filter::{Effect, EventFilter},
    host_changes::HostChanges,
    outcome::Outcome,
    pass::Reconciler,
    rate_limiter::RateLimiter,
};
use crate::{
    files::subnet_env,
    model::{
        lease::{Lease, Leases},
        network_config::NetworkConfig,
        node_record::NodeRecord,
    },
    subnet::BoxFuture,
    worker::Worker,
};
use linux_net::{
    monitor::{Event, Monitor},
    xfrm,
};
use packet_filter::NftMonitor;
use std::{
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{Notify, watch},
    time::{sleep, sleep_until},
};
use tracing::{debug, warn};

/// Delay for the rest of a burst of notifications: a device that is deleted takes many entries
/// along.
const BURST_DELAY: Duration = Duration::from_millis(2);
/// How often subnet.env is compared.
const SUBNET_FILE_INTERVAL: Duration = Duration::from_secs(1);
/// Delay after the host could not be read.
const READ_RETRY_DELAY: Duration = Duration::from_secs(1);
/// Passes in a row of which each only confirms the last one's changes.
const CONFIRMING_PASSES: u32 = 3;

/// The kernel's notifications.
pub(crate) struct Notifications {
    net: AsyncFd<Monitor>,
    nft: Option<AsyncFd<NftMonitor>>,
    xfrm: Option<AsyncFd<xfrm::Monitor>>,
}

impl Notifications {
    /// Opens the sockets in the calling thread's network namespace, but none for what the kernel
    /// does not have.
    pub(crate) fn open() -> Result<Notifications, Error> {
        let net = register(Monitor::open()?)?;
        let nft = match NftMonitor::open() {
            Ok(monitor) => Some(register(monitor)?),
            Err(error) => {
                warn!("{error}: changes of the rules are noticed once a minute only");
                None
            }
        };
        let xfrm = match xfrm::Monitor::open() {
            Ok(monitor) => Some(register(monitor)?),
            Err(error) => {
                debug!("{error}: without IPsec, no policy changes");
                None
            }
        };
        Ok(Notifications { net, nft, xfrm })
    }

    /// Waits for a notification that needs a pass, and adds what changed to the changes.
    async fn wait(&mut self, filter: &EventFilter, changes: &mut HostChanges) -> Result<(), Error> {
        loop {
            let Notifications { net, nft, xfrm } = self;
            let nft_ready = async {
                match nft {
                    Some(nft) => nft.readable().await.map(|mut ready| ready.clear_ready()),
                    None => std::future::pending().await,
                }
            };
            let xfrm_ready = async {
                match xfrm {
                    Some(xfrm) => xfrm.readable().await.map(|mut ready| ready.clear_ready()),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ready = net.readable() => ready.map_err(Error::Watch)?.clear_ready(),
                ready = nft_ready => ready.map_err(Error::Watch)?,
                ready = xfrm_ready => ready.map_err(Error::Watch)?,
            }
            if self.drain(Some(filter), changes)? {
                return Ok(());
            }
            changes.keep_routes();
        }
    }

    /// Reads every waiting notification, and adds what `filter` says of it to the changes; true if
    /// one needs a pass.
    fn drain(
        &mut self,
        filter: Option<&EventFilter>,
        changes: &mut HostChanges,
    ) -> Result<bool, Error> {
        let mut needs_pass = false;
        loop {
            let events = self.net.get_mut().events()?;
            if events.is_empty() {
                break;
            }
            let Some(filter) = filter else { continue };
            for event in events {
                let effect = filter.effect(&event);
                needs_pass |= effect.needs_pass();
                match (effect, event) {
                    (Effect::Nothing, _) => {}
                    (Effect::OtherRoute { .. }, Event::Route(route, change)) => {
                        changes.add_route(route, change);
                    }
                    (Effect::AsWanted | Effect::Contradiction, event) => changes.add_entry(event),
                    (Effect::ReadAddresses, _) => changes.add_addresses(),
                    (Effect::ReadHost | Effect::OtherRoute { .. }, _) => changes.add_everything(),
                }
            }
        }
        needs_pass |= self.drain_xfrm(filter, changes)?;
        if let Some(nft) = &mut self.nft {
            let changed = nft.get_mut().changed()?;
            if filter.is_some_and(|filter| filter.concerns_rules(changed.as_ref())) {
                needs_pass = true;
                changes.add_rules();
            }
        }
        Ok(needs_pass)
    }
}

impl Notifications {
    /// The same for policies of IPsec.
    fn drain_xfrm(
        &mut self,
        filter: Option<&EventFilter>,
        changes: &mut HostChanges,
    ) -> Result<bool, Error> {
        let Some(xfrm) = &mut self.xfrm else {
            return Ok(false);
        };
        let mut needs_pass = false;
        loop {
            let events = xfrm.get_mut().events()?;
            if events.is_empty() {
                break;
            }
            let concerns = |event| filter.is_some_and(|filter| filter.concerns_policies(event));
            needs_pass |= events.iter().any(concerns);
        }
        if needs_pass {
            changes.add_policies();
        }
        Ok(needs_pass)
    }
}

#[allow(
    deprecated,
    reason = "its successor is unsafe: the caller promises that the descriptor stays open and the same, as monitors' do"
)]
fn register<T: AsRawFd + AsFd>(monitor: T) -> Result<AsyncFd<T>, Error> {
    AsyncFd::with_interest(monitor, Interest::READABLE).map_err(Error::Watch)
}

/// The loop and its channels.
pub(crate) struct EventLoop {
    pub(crate) reconciler: Reconciler,
    pub(crate) notifications: Notifications,
    /// This node's lease.
    pub(crate) own: watch::Receiver<Lease>,
    /// What the store says of this node's addresses.
    pub(crate) records: watch::Receiver<NodeRecord>,
    /// Every lease; None until the first whole snapshot.
    pub(crate) leases: watch::Receiver<Option<Leases>>,
    /// A process that moves packets works, or does not any more.
    pub(crate) data_path_changed: Arc<Notify>,
    /// The outcome of each pass.
    pub(crate) outcomes: watch::Sender<Option<Outcome>>,
    /// Ends with another network configuration when there is one that this node can apply.
    pub(crate) config_changed: BoxFuture<'static, NetworkConfig>,
}

impl EventLoop {
    /// Runs until the network configuration changes: between two passes, so that none under the
    /// earlier one follows. Fails only with an error that no further pass can mend.
    pub(crate) async fn run(mut self) -> Result<NetworkConfig, Error> {
        let file: PathBuf = self.reconciler.subnet_file().to_owned();
        let worker = Worker::start("reconciler").map_err(Error::Thread)?;
        let mut limiter = RateLimiter::new(Instant::now());
        let mut confirming = 0;
        let mut rules_read = Instant::now();
        let mut filter = None;
        let mut changes = HostChanges::everything();
        loop {
            sleep(limiter.take(Instant::now())).await;
            // the pass sees what was notified until now
            self.notifications.drain(filter.as_ref(), &mut changes)?;
            let changed = [self.own.has_changed(), self.records.has_changed()];
            if changed.into_iter().any(|changed| changed.unwrap_or(false)) {
                changes.add_everything();
            }
            let read_host = changes.is_everything();
            if read_host || changes.has_rules() {
                rules_read = Instant::now();
            }
            let own = self.own.borrow_and_update().clone();
            self.reconciler
                .set_record(&self.records.borrow_and_update());
            let snapshot = self.leases.borrow_and_update().clone();
            let start = Instant::now();
            let (reconciler, outcome) =
                pass(&worker, self.reconciler, own, snapshot, changes).await?;
            self.reconciler = reconciler;
            let duration = start.elapsed();
            let Some(outcome) = self.publish(outcome).await else {
                changes = HostChanges::everything();
                continue;
            };
            filter = Some(outcome.filter.clone());
            // the kernel confirmed each change of a pass that did not read the host
            let unconfirmed = outcome.changed && read_host;
            confirming = if unconfirmed { confirming + 1 } else { 0 };
            if (1..CONFIRMING_PASSES).contains(&confirming) {
                changes = HostChanges::everything();
                continue;
            }
            confirming = 0;
            changes = HostChanges::default();
            let slow = Instant::now() + self.reconciler.look_interval();
            let retry_at = outcome.retry_at.unwrap_or(slow).min(slow);
            let rules_due = self.reconciler.rules_interval();
            let rules_due = rules_due.map(|interval| rules_read + interval);
            tokio::select! {
                changed = self.leases.changed() => {
                    changed.map_err(|_| Error::NoSubnetManager)?;
                    // when thousands of nodes join one by one, passes take half of a processor
                    sleep(duration).await;
                }
                changed = self.own.changed() => {
                    changed.map_err(|_| Error::NoSubnetManager)?;
                    changes.add_everything();
                }
                Ok(()) = self.records.changed() => changes.add_everything(),
                notified = self.notifications.wait(&outcome.filter, &mut changes) => {
                    notified?;
                    sleep(BURST_DELAY).await;
                }
                () = self.data_path_changed.notified() => {}
                () = sleep_until(retry_at.into()) => changes.add_everything(),
                () = sleep_until(rules_due.unwrap_or(slow).into()), if rules_due.is_some() => {
                    changes.add_rules();
                }
                config = &mut self.config_changed => return Ok(config),
                () = subnet_file_changed(&file, outcome.subnet_env.as_deref()) => {}
            }
        }
    }

    /// Publishes the outcome. None, after a delay, if the host could not be read.
    async fn publish(&self, outcome: linux_net::Result<Outcome>) -> Option<Outcome> {
        match outcome {
            Ok(outcome) => {
                self.outcomes.send_replace(Some(outcome.clone()));
                Some(outcome)
            }
            Err(error) => {
                warn!("cannot read the host's network: {error}; retrying");
                self.outcomes.send_modify(|outcome| {
                    if let Some(outcome) = outcome {
                        outcome.node_ready = false;
                    }
                });
                sleep(READ_RETRY_DELAY).await;
                None
            }
        }
    }
}

/// Runs a pass on another thread: with thousands of new peers it takes a second or two, and the
/// daemon answers probes and signals meanwhile.
async fn pass(
    worker: &Worker,
    mut reconciler: Reconciler,
    own: Lease,
    snapshot: Option<Leases>,
    changes: HostChanges,
) -> Result<(Reconciler, linux_net::Result<Outcome>), Error> {
    let work = move || {
        let outcome = reconciler.pass(&own, snapshot.as_ref(), &changes);
        (reconciler, outcome)
    };
    Ok(worker.run(work).await?)
}

/// Waits until subnet.env differs from `content`; without content, until the write may be retried.
async fn subnet_file_changed(path: &Path, content: Option<&str>) {
    loop {
        sleep(SUBNET_FILE_INTERVAL).await;
        if !content.is_some_and(|content| subnet_env::is_current(path, content)) {
            return;
        }
    }
}
