//! The manager: from the options to a lease, and what it does while this node has one.

mod error;
mod keep;
mod publish;

pub(crate) use error::OpenError;

use super::{
    Client, Keys, Node, OwnNode,
    annotations::Ignored,
    config_file::ConfigFile,
    name, own_lease,
    own_lease::Unusable,
    watch::{Published, WatchThread, Watched},
};
use crate::{
    model::{
        Subnets,
        lease::{Lease, LeaseAttrs, Leases},
        network_config::NetworkConfig,
        node_record::NodeRecord,
    },
    subnet::{BoxFuture, Error, Session, SubnetManager, Waiting},
};
use publish::Publisher;
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};
use tokio::sync::watch;
use tracing::{info, warn};

/// How many bad annotations are remembered as logged.
const MOST_IGNORED: usize = 64;

/// The options of this manager.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// `-kube-api-url`
    pub(crate) api_url: String,
    /// `-kubeconfig-file`
    pub(crate) kubeconfig: String,
    /// `-kube-annotation-prefix`
    pub(crate) annotation_prefix: String,
    /// `-net-config-path`
    pub(crate) net_config_path: PathBuf,
    /// `-set-node-network-unavailable`
    pub(crate) set_condition: bool,
}

/// Leases are the nodes of an API server.
pub(crate) struct Manager {
    client: Client,
    keys: Keys,
    /// This node's name.
    name: String,
    config: ConfigFile,
    set_condition: bool,
    own: watch::Sender<OwnNode>,
    leases: watch::Sender<Option<Leases>>,
    /// What an administrator says of this node's addresses.
    records: watch::Sender<NodeRecord>,
    publisher: Publisher,
    waits: Waits,
    /// What the backend publishes: with the addresses of the underlay, none overwritten.
    attrs: Mutex<LeaseAttrs>,
    /// This node has had a lease since the start.
    running: AtomicBool,
    /// What was logged of annotations that cannot be used.
    ignored: Mutex<BTreeSet<String>>,
    _watch: WatchThread,
}

/// What each part of the manager waits for.
struct Waits {
    lease: Waiting,
    condition: Waiting,
    config: Waiting,
}

/// The subnets that this node has.
#[derive(Debug, Clone, Copy)]
struct Held {
    subnets: Subnets,
    /// False for those of an earlier run.
    running: bool,
}

impl Manager {
    /// Reads the options' files; waits for the API server only if no variable has this node's name.
    pub(crate) async fn open(options: Options, waiting: &Waiting) -> Result<Manager, OpenError> {
        let keys = Keys::new(&options.annotation_prefix)?;
        let config = ConfigFile::read(&options.net_config_path)?;
        let client = Client::new(&options.api_url, &options.kubeconfig)?;
        explain_variables();
        let variable = |name: &str| std::env::var(name).ok();
        let name = name::own_name(&client, variable, waiting).await?;
        let own = watch::Sender::new(OwnNode::Unknown);
        let leases = watch::Sender::new(None);
        let watched = Watched {
            keys: keys.clone(),
            families: own_lease::families(&config.config),
            own_name: name.clone(),
            published: Published {
                own: own.clone(),
                leases: leases.clone(),
                waiting: waiting.another(),
            },
        };
        let watch_client = {
            let Options {
                api_url,
                kubeconfig,
                ..
            } = options;
            move || Client::new(&api_url, &kubeconfig)
        };
        Ok(Manager {
            _watch: WatchThread::start(watch_client, watched)?,
            publisher: Publisher::new(client.clone(), name.clone()),
            client,
            keys,
            name,
            config,
            set_condition: options.set_condition,
            own,
            leases,
            records: watch::Sender::default(),
            waits: Waits {
                lease: waiting.another(),
                condition: waiting.another(),
                config: waiting.another(),
            },
            attrs: Mutex::default(),
            running: AtomicBool::new(false),
            ignored: Mutex::default(),
        })
    }

    /// Waits until this node's object gives it a lease.
    async fn assigned(
        &self,
        own: &mut watch::Receiver<OwnNode>,
        attrs: &LeaseAttrs,
        held: Held,
    ) -> (Arc<Node>, Lease) {
        let mut leases = self.leases.subscribe();
        loop {
            let state = own.borrow_and_update().clone();
            leases.mark_unchanged();
            let mut needs_leases = false;
            match &state {
                OwnNode::Unknown => self.waits.lease.report(format!(
                    "for node {} from the API server {}",
                    self.name,
                    self.client.server()
                )),
                OwnNode::Missing => self.waits.lease.report(self.missing(Some(held))),
                OwnNode::Present(node) => match self.lease_of(node, attrs, held) {
                    Ok(lease) => return (node.clone(), lease),
                    Err(unusable) => {
                        needs_leases = unusable.depends_on_others();
                        self.waits.lease.report(unusable);
                    }
                },
            }
            tokio::select! {
                _ = own.changed() => {}
                _ = leases.changed(), if needs_leases => {}
            }
        }
    }

    fn missing(&self, held: Option<Held>) -> String {
        let name = &self.name;
        match held.filter(|held| held.running) {
            Some(Held { subnets, .. }) => format!(
                "for node {name}, which was deleted from the cluster: its pods keep their network ({}); a kubelet that \
                 starts registers it again",
                subnets.cidrs()
            ),
            None => format!(
                "for node {name}: the API server has no such node yet; its kubelet registers it, and NODE_NAME names \
                 another"
            ),
        }
    }

    /// The lease that the node's object gives. Subnets that this node has, or had before it was
    /// started again, are its own even if another node claims them: the newcomer waits.
    fn lease_of(&self, node: &Node, attrs: &LeaseAttrs, held: Held) -> Result<Lease, Unusable> {
        let subnets = own_lease::subnets(&self.keys, node, &self.config.config)?;
        let (attrs, ignored) = self.keys.overwritten(attrs, node);
        self.log_ignored(ignored);
        if held.subnets != subnets && !self.keys.is_managed(node) {
            let leases = self.leases.borrow().clone();
            let leases = leases.ok_or_else(|| Unusable::OthersUnknown(node.name.clone()))?;
            own_lease::overlap(node, subnets, &attrs, &leases)?;
        }
        Ok(Lease {
            subnets,
            attrs,
            expiration: None,
        })
    }

    /// Takes over what an administrator says of this node's addresses.
    fn update_record(&self, node: &Node) -> NodeRecord {
        let (record, ignored) = self.keys.record(node);
        self.log_ignored(ignored);
        let addresses = NodeRecord {
            backend_data: None,
            backend_v6_data: None,
            ..record.clone()
        };
        self.records.send_if_modified(|current| {
            let changed = *current != addresses;
            *current = addresses;
            changed
        });
        record
    }

    /// Logs each annotation that cannot be used once.
    fn log_ignored(&self, ignored: Ignored) {
        let mut logged = lock(&self.ignored);
        if logged.len() > MOST_IGNORED {
            logged.clear();
        }
        for error in ignored {
            let text = error.to_string();
            if !logged.contains(&text) {
                warn!("node {}: {text}; it is ignored", self.name);
                logged.insert(text);
            }
        }
    }

    async fn record(&self) -> NodeRecord {
        let mut own = self.own.subscribe();
        loop {
            let state = own.borrow_and_update().clone();
            match state {
                OwnNode::Present(node) => {
                    self.waits.lease.clear();
                    return self.update_record(&node);
                }
                OwnNode::Missing => self.waits.lease.report(self.missing(None)),
                OwnNode::Unknown => {}
            }
            // the sender is in self
            if own.changed().await.is_err() {
                return NodeRecord::default();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Go flanneld keeps events in a queue; an existing manifest sets its length.
fn explain_variables() {
    let depth = std::env::var("EVENT_QUEUE_DEPTH").unwrap_or_default();
    let go_on = std::env::var("CONT_WHEN_CACHE_NOT_READY").unwrap_or_default();
    if !depth.is_empty() || !go_on.is_empty() {
        info!(
            "EVENT_QUEUE_DEPTH and CONT_WHEN_CACHE_NOT_READY have no effect: flanneld keeps the latest state of each \
             node, which no number of events fills, and starts without waiting for all nodes"
        );
    }
    if !depth.is_empty() && depth.parse::<i64>().is_err() {
        warn!("EVENT_QUEUE_DEPTH={depth:?} is not a number: Go flanneld would refuse to start");
    }
}

impl SubnetManager for Manager {
    fn describe(&self) -> String {
        format!(
            "Kubernetes API server {} (node {})",
            self.client.server(),
            self.name
        )
    }

    fn network_config(&self) -> BoxFuture<'_, Result<NetworkConfig, Error>> {
        let config = self.config.config.clone();
        Box::pin(async { Ok(config) })
    }

    fn node_record(&self) -> BoxFuture<'_, Result<NodeRecord, Error>> {
        Box::pin(async { Ok(self.record().await) })
    }

    fn node_records(&self) -> Option<watch::Receiver<NodeRecord>> {
        Some(self.records.subscribe())
    }

    fn acquire<'a>(
        &'a self,
        attrs: &'a LeaseAttrs,
        previous: Subnets,
    ) -> BoxFuture<'a, Result<Lease, Error>> {
        Box::pin(async move { Ok(self.acquire_lease(attrs, previous).await) })
    }

    fn run(&self, session: Session) -> BoxFuture<'_, Error> {
        Box::pin(async move {
            let never = self.keep(session).await;
            match never {}
        })
    }
}
