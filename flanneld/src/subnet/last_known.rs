//! A subnet manager above another one: a node that starts while its store is away goes on with what
//! the store said last. What the store says once it answers replaces it.

use super::{BoxError, BoxFuture, Error, Session, SubnetManager, Waiting};
use crate::{
    files::last_leases::LastLeases,
    model::{
        Subnets,
        lease::{Lease, LeaseAttrs, Leases},
        network_config::NetworkConfig,
        node_record::NodeRecord,
    },
};
use std::{
    convert::Infallible,
    future::{self, Future},
    path::PathBuf,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{info, warn};

/// How long a start waits for the store before it goes on with the last snapshot.
const STORE_TIMEOUT: Duration = Duration::from_secs(3);
/// Changes within this time are written together.
const WRITE_DELAY: Duration = Duration::from_secs(1);
/// Between one write of the snapshot and the next.
const WRITE_INTERVAL: Duration = Duration::from_secs(9);

/// The manager.
pub(crate) struct LastKnown<'a> {
    inner: &'a dyn SubnetManager,
    path: PathBuf,
    waiting: Waiting,
    records: watch::Sender<NodeRecord>,
    state: Mutex<State>,
}

/// What the start has used so far.
#[derive(Debug, Default)]
struct State {
    /// What the file has, from when the store did not answer until it sends its own leases.
    last: Option<Arc<LastLeases>>,
    /// The store did not answer in time: the leases of the file are used until it sends its own.
    offline: bool,
    /// The store has answered since.
    joined: bool,
    /// This machine has had the file's subnets since its last boot.
    kept_subnets: bool,
    config: String,
    record: NodeRecord,
    asked: LeaseAttrs,
}

impl State {
    /// True while the store has not answered since the start.
    fn is_away(&self) -> bool {
        self.offline && !self.joined
    }
}

impl<'a> LastKnown<'a> {
    pub(crate) fn new(
        inner: &'a dyn SubnetManager,
        path: PathBuf,
        waiting: Waiting,
    ) -> LastKnown<'a> {
        LastKnown {
            inner,
            path,
            waiting,
            records: watch::Sender::default(),
            state: Mutex::default(),
        }
    }

    /// Remembers a configuration that replaces the one of the start.
    pub(crate) fn follow_config(&self, config: &NetworkConfig) {
        self.state().config.clone_from(&config.raw);
    }

    /// Forgets a start with old leases. The next one has this configuration of the store's, and
    /// waits for the store: the file does not go with it.
    pub(crate) fn start_again(&self, config: &NetworkConfig) {
        *self.state() = State {
            config: config.raw.clone(),
            ..State::default()
        };
        self.waiting.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the file has, while the store has not answered since the start.
    fn last_if_away(&self) -> Option<Arc<LastLeases>> {
        let state = self.state();
        state.last.clone().filter(|_| state.is_away())
    }

    /// The store's answer, or the file's content if the store does not answer in time.
    async fn answer<T>(&self, call: impl Future<Output = T>) -> Result<T, Arc<LastLeases>> {
        if let Some(last) = self.last_if_away() {
            return Err(last);
        }
        let mut call = pin!(call);
        if let Ok(answer) = timeout(STORE_TIMEOUT, call.as_mut()).await {
            return Ok(answer);
        }
        match self.go_on_without_the_store() {
            Some(last) => Err(last),
            None => Ok(call.await),
        }
    }

    /// Reads the file, and says so, if it has what the start has used so far.
    fn go_on_without_the_store(&self) -> Option<Arc<LastLeases>> {
        if self.inner.serves_others() {
            return None;
        }
        let last = LastLeases::load(&self.path, &self.inner.describe())?;
        let mut state = self.state();
        if !state.config.is_empty() && state.config != last.config {
            return None;
        }
        let what = format!(
            "for the {}: until it answers, the leases are old, those of {} in {}",
            self.inner.describe(),
            last.age(),
            self.path.display()
        );
        warn!("waiting {what}");
        self.waiting.report(what);
        let last = Arc::new(last);
        (state.offline, state.joined) = (true, false);
        state.last = Some(last.clone());
        Some(last)
    }

    async fn config(&self) -> Result<NetworkConfig, Error> {
        let config = match self.answer(self.inner.network_config()).await {
            Ok(config) => config?,
            Err(last) => parse(&last.config)?,
        };
        self.state().config.clone_from(&config.raw);
        Ok(config)
    }

    async fn record(&self) -> Result<NodeRecord, Error> {
        let record = match self.answer(self.inner.node_record()).await {
            Ok(record) => record?,
            Err(last) => last.record.clone(),
        };
        self.state().record = record.clone();
        self.records.send_replace(NodeRecord {
            backend_data: None,
            backend_v6_data: None,
            ..record.clone()
        });
        Ok(record)
    }

    /// The lease of the file, while the store has not answered since the start.
    fn last_lease(&self, attrs: &LeaseAttrs, previous: Subnets) -> Option<Lease> {
        self.state().asked.clone_from(attrs);
        let last = self.last_if_away()?;
        // subnet.env is in no copy of the disk
        self.state().kept_subnets |= previous == last.own.subnets;
        match last.asked == *attrs {
            true => Some(last.own.clone()),
            false => Some(Lease {
                attrs: attrs.clone(),
                ..last.own.clone()
            }),
        }
    }

    async fn lease(&self, attrs: &LeaseAttrs, previous: Subnets) -> Result<Lease, Error> {
        match self.last_lease(attrs, previous) {
            // a store that answers may need time, and decides
            None => self.inner.acquire(attrs, previous).await,
            Some(lease) => Ok(lease),
        }
    }

    async fn lease_once(&self, attrs: &LeaseAttrs, previous: Subnets) -> Result<Lease, Error> {
        match self.last_lease(attrs, previous) {
            None => self.inner.acquire_once(attrs, previous).await,
            Some(lease) => Ok(lease),
        }
    }

    /// Waits for the store, and replaces what the file had by what it says.
    async fn join(&self, session: &Session) -> Result<(), Error> {
        let Some(last) = self.last_if_away() else {
            return Ok(());
        };
        session.leases.send_replace(Some(last.leases.clone()));
        let config = self.inner.network_config().await?;
        if config.raw != last.config {
            return Err(Error::ConfigChanged {
                store: self.inner.describe(),
                config: Box::new(config),
            });
        }
        let record = self.inner.node_record().await?;
        self.state().record = record;
        let (asked, subnets) = (self.state().asked.clone(), session.own.borrow().subnets);
        if self.state().kept_subnets {
            self.inner.held(&last.own);
        }
        let lease = self.inner.acquire(&asked, subnets).await?;
        if lease.subnets != subnets {
            warn!(
                "this node's subnet changed from {} to {}: restart the pods that run on it",
                subnets.cidrs(),
                lease.subnets.cidrs()
            );
        }
        self.state().joined = true;
        session.own.send_if_modified(|own| {
            let changed = *own != lease;
            *own = lease;
            changed
        });
        Ok(())
    }

    /// Ends the use of old leases with the first snapshot of the store.
    async fn until_told(&self, mut leases: watch::Receiver<Option<Leases>>) -> Infallible {
        if self.state().offline && leases.changed().await.is_ok() {
            self.state().offline = false;
            self.state().last = None;
            self.waiting.clear();
            info!("the {} answers: the leases are new", self.inner.describe());
        }
        future::pending().await
    }

    /// Passes on what the store says of this node's addresses.
    async fn follow_records(&self) -> Infallible {
        let Some(mut records) = self.inner.node_records() else {
            return future::pending().await;
        };
        while records.changed().await.is_ok() {
            let record = records.borrow_and_update().clone();
            self.records.send_replace(record);
        }
        future::pending().await
    }

    /// Keeps the file as the store's leases are.
    async fn keep_file(&self, session: &Session) -> Infallible {
        if self.inner.serves_others() {
            return future::pending().await;
        }
        let (mut leases, mut own) = (session.leases.subscribe(), session.own.subscribe());
        let mut written = self.state().last.clone();
        let mut warned = false;
        loop {
            sleep(WRITE_DELAY).await;
            let known = leases.borrow_and_update().clone();
            let known = known.filter(|_| !self.state().offline);
            let now = known.map(|leases| self.snapshot(own.borrow_and_update().clone(), leases));
            let differs =
                |now: &LastLeases| written.as_ref().is_none_or(|old| !old.same_content(now));
            if let Some(now) = now.filter(differs) {
                match self.write(now.clone()).await {
                    Ok(()) => (written, warned) = (Some(Arc::new(now)), false),
                    Err(error) if !warned => {
                        warned = true;
                        warn!(
                            "cannot write {}: {error}; a start while the store is away would have older leases",
                            self.path.display()
                        );
                    }
                    Err(_) => {}
                }
                sleep(WRITE_INTERVAL).await;
                if warned {
                    continue;
                }
            }
            tokio::select! {
                changed = leases.changed() => drop(changed),
                changed = own.changed() => drop(changed),
            }
        }
    }

    fn snapshot(&self, own: Lease, leases: Leases) -> LastLeases {
        let state = self.state();
        LastLeases {
            store: self.inner.describe(),
            written: Some(SystemTime::now()),
            config: state.config.clone(),
            record: state.record.clone(),
            asked: state.asked.clone(),
            own,
            leases,
        }
    }

    async fn write(&self, now: LastLeases) -> Result<(), BoxError> {
        let path = self.path.clone();
        Ok(tokio::task::spawn_blocking(move || now.save(&path)).await??)
    }
}

fn parse(text: &str) -> Result<NetworkConfig, Error> {
    let parsed = NetworkConfig::parse(text).and_then(|mut config| {
        config.check_subnets()?;
        Ok(config)
    });
    parsed.map_err(|error| Error::Permanent(Box::new(error)))
}

impl SubnetManager for LastKnown<'_> {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn network_config(&self) -> BoxFuture<'_, Result<NetworkConfig, Error>> {
        Box::pin(self.config())
    }

    fn network_configs(&self) -> Option<watch::Receiver<NetworkConfig>> {
        self.inner.network_configs()
    }

    fn node_record(&self) -> BoxFuture<'_, Result<NodeRecord, Error>> {
        Box::pin(self.record())
    }

    fn node_records(&self) -> Option<watch::Receiver<NodeRecord>> {
        let follows = self.inner.node_records().is_some();
        follows.then(|| self.records.subscribe())
    }

    fn acquire<'b>(
        &'b self,
        attrs: &'b LeaseAttrs,
        previous: Subnets,
    ) -> BoxFuture<'b, Result<Lease, Error>> {
        Box::pin(self.lease(attrs, previous))
    }

    fn acquire_once<'b>(
        &'b self,
        attrs: &'b LeaseAttrs,
        previous: Subnets,
    ) -> BoxFuture<'b, Result<Lease, Error>> {
        Box::pin(self.lease_once(attrs, previous))
    }

    fn held(&self, lease: &Lease) {
        self.inner.held(lease);
    }

    fn run(&self, session: Session) -> BoxFuture<'_, Error> {
        Box::pin(async move {
            let run = async {
                if let Err(error) = self.join(&session).await {
                    return error;
                }
                let leases = session.leases.subscribe();
                tokio::select! {
                    ended = self.inner.run(session.clone()) => ended,
                    never = self.until_told(leases) => match never {},
                }
            };
            tokio::select! {
                ended = run => ended,
                never = self.follow_records() => match never {},
                never = self.keep_file(&session) => match never {},
            }
        })
    }

    fn is_away(&self) -> bool {
        self.state().offline
    }

    fn is_contended(&self) -> bool {
        self.inner.is_contended()
    }

    fn serves_others(&self) -> bool {
        self.inner.serves_others()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store that does not answer.
    struct Away;

    impl SubnetManager for Away {
        fn describe(&self) -> String {
            "a store".to_owned()
        }

        fn network_config(&self) -> BoxFuture<'_, Result<NetworkConfig, Error>> {
            Box::pin(future::pending())
        }

        fn node_record(&self) -> BoxFuture<'_, Result<NodeRecord, Error>> {
            Box::pin(future::pending())
        }

        fn acquire<'a>(
            &'a self,
            _: &'a LeaseAttrs,
            _: Subnets,
        ) -> BoxFuture<'a, Result<Lease, Error>> {
            Box::pin(future::pending())
        }

        fn run(&self, _: Session) -> BoxFuture<'_, Error> {
            Box::pin(future::pending())
        }
    }

    fn config(network: &str) -> String {
        format!(r#"{{"Network":"{network}","Backend":{{"Type":"vxlan"}}}}"#)
    }

    #[tokio::test(start_paused = true)]
    async fn file_with_an_earlier_configuration_is_not_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.leases.json");
        let last = LastLeases {
            store: Away.describe(),
            written: None,
            config: config("10.244.0.0/16"),
            record: NodeRecord::default(),
            asked: LeaseAttrs::default(),
            own: Lease {
                subnets: "10.244.1.0-24".parse().unwrap(),
                attrs: LeaseAttrs::default(),
                expiration: None,
            },
            leases: Leases::default(),
        };
        last.save(&path).unwrap();
        let manager = LastKnown::new(&Away, path, Waiting::default());
        let old = manager.network_config().await.unwrap();
        assert_eq!(old.raw, last.config);
        assert!(manager.node_record().await.is_ok());
        assert!(manager.is_away());
        let changed = parse(&config("10.0.0.0/8")).unwrap();
        manager.start_again(&changed);
        assert!(!manager.is_away());
        let record = timeout(100 * STORE_TIMEOUT, manager.node_record());
        assert!(record.await.is_err(), "the store is waited for");
    }
}
