//! The loop: a pass at the start, on each new picture of the leases, on each kernel notification that contradicts what is
//! wanted, when something that failed is due again, and on a slow timer.
pub mod apply;
pub mod backoff;
pub mod diff;
pub mod event_filter;
pub mod observe;
pub mod ownership;
pub mod pass;
pub mod rate_limiter;

use crate::{
    files::subnet_env,
    model::lease::{Lease, Leases},
    reconcile::event_filter::View,
    reconcile::pass::{Engine, Outcome},
    reconcile::rate_limiter::Pace,
};
use linux_net::monitor::Monitor;
use packet_filter::NftMonitor;
use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
    time::{sleep, sleep_until},
};
use tracing::warn;

/// Even if no notification came: everything is looked at again.
const SLOW: Duration = Duration::from_secs(60);
/// How long to wait for the rest of a burst of notifications (a device that goes takes many entries along).
const GATHER: Duration = Duration::from_millis(2);
/// How often subnet.env is looked at.
const FILE: Duration = Duration::from_secs(1);
/// Passes in a row that follow only because the last one changed something.
const CONFIRM: u32 = 3;

/// The kernel's notifications.
pub struct Wake {
    net: AsyncFd<Monitor>,
    nft: Option<AsyncFd<NftMonitor>>,
}

impl Wake {
    /// Opens both sockets in the calling thread's namespace. Without nftables there is nothing to watch there.
    pub fn open() -> Result<Wake, String> {
        let monitor = Monitor::open().map_err(|error| error.to_string())?;
        let nft = match NftMonitor::open() {
            Ok(monitor) => Some(register(monitor)?),
            Err(error) => {
                warn!("{error}: changes of the rules are noticed once a minute only");
                None
            }
        };
        let net = register(monitor)?;
        Ok(Wake { net, nft })
    }

    /// Waits for a notification that contradicts `view`.
    async fn contradiction(&mut self, view: &View) -> io::Result<()> {
        loop {
            let Wake { net, nft } = self;
            let nft_ready = async {
                match nft {
                    Some(nft) => nft.readable().await.map(|mut ready| ready.clear_ready()),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ready = net.readable() => ready?.clear_ready(),
                ready = nft_ready => ready?,
            }
            if self.drain(view)? {
                return Ok(());
            }
        }
    }

    /// Reads all that waits; true if any of it contradicts `view`.
    fn drain(&mut self, view: &View) -> io::Result<bool> {
        let mut contradicted = false;
        loop {
            let events = self.net.get_mut().events().map_err(io::Error::other)?;
            if events.is_empty() {
                break;
            }
            contradicted = contradicted || events.iter().any(|event| view.contradicts(event));
        }
        if let Some(nft) = &mut self.nft {
            let changed = nft.get_mut().changed().map_err(io::Error::other)?;
            contradicted |= view.concerns_tables(changed.as_deref());
        }
        Ok(contradicted)
    }
}

#[allow(
    deprecated,
    reason = "its successor is unsafe: the caller promises that the descriptor stays open and the same, as monitors' do"
)]
fn register<T: AsRawFd + AsFd>(monitor: T) -> Result<AsyncFd<T>, String> {
    AsyncFd::with_interest(monitor, Interest::READABLE)
        .map_err(|error| format!("failed to watch for changes of the host: {error}"))
}

/// What the loop works on.
pub struct Reconciler {
    /// makes passes
    pub engine: Engine,
    /// wakes the loop
    pub wake: Wake,
    /// our lease
    pub own: watch::Receiver<Lease>,
    /// all leases; None until the first whole picture is known
    pub leases: watch::Receiver<Option<Leases>>,
    /// what came of each pass
    pub outcomes: watch::Sender<Option<Outcome>>,
}

impl Reconciler {
    /// Runs until it is dropped. The error is one that no further pass can mend.
    pub async fn run(self) -> Result<(), String> {
        let Reconciler {
            mut engine,
            mut wake,
            mut own,
            mut leases,
            outcomes,
        } = self;
        let file: PathBuf = engine.subnet_file().to_owned();
        let mut pace = Pace::new(Instant::now());
        let mut confirm = 0;
        loop {
            sleep(pace.take(Instant::now())).await;
            // what was notified up to here is seen by the pass
            wake.drain(&View::default())
                .map_err(|error| error.to_string())?;
            let (lease, picture) = (
                own.borrow_and_update().clone(),
                leases.borrow_and_update().clone(),
            );
            let start = Instant::now();
            let result;
            (engine, result) = pass(engine, lease, picture).await?;
            let took = start.elapsed();
            let outcome = match result {
                Ok(outcome) => outcome,
                Err(error) => {
                    warn!("cannot look at the host; trying again: {error}");
                    outcomes.send_modify(|outcome| {
                        if let Some(outcome) = outcome {
                            outcome.foundation = false;
                        }
                    });
                    sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            outcomes.send_replace(Some(outcome.clone()));
            confirm = if outcome.changed { confirm + 1 } else { 0 };
            if (1..CONFIRM).contains(&confirm) {
                continue;
            }
            confirm = 0;
            let retry = outcome.retry.unwrap_or_else(|| Instant::now() + SLOW);
            tokio::select! {
                changed = leases.changed() => {
                    changed.map_err(|_| "no subnet manager".to_owned())?;
                    // thousands that join one after the other cost half of the processor, not all of it
                    sleep(took).await;
                }
                changed = own.changed() => changed.map_err(|_| "no subnet manager".to_owned())?,
                woken = wake.contradiction(&outcome.view) => {
                    woken.map_err(|error| error.to_string())?;
                    sleep(GATHER).await;
                }
                () = sleep_until(retry.min(Instant::now() + SLOW).into()) => {}
                () = file_changed(&file, outcome.subnet_env.as_deref()) => {}
            }
        }
    }
}

/// A pass takes a second or two with thousands of new peers: health and signals are answered meanwhile.
async fn pass(
    mut engine: Engine,
    own: Lease,
    leases: Option<Leases>,
) -> Result<(Engine, linux_net::Result<Outcome>), String> {
    tokio::task::spawn_blocking(move || {
        let outcome = engine.pass(&own, leases.as_ref());
        (engine, outcome)
    })
    .await
    .map_err(|error| format!("a pass over the host ended early: {error}"))
}

/// Waits until subnet.env is not as it should be any more; if it could not be written, until it may be tried again.
async fn file_changed(path: &std::path::Path, text: Option<&str>) {
    loop {
        sleep(FILE).await;
        if !text.is_some_and(|text| subnet_env::is_current(path, text)) {
            return;
        }
    }
}
