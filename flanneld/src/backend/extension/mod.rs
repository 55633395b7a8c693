//! extension: commands of the network configuration move the packets (upstream:
//! pkg/backend/extension). The plan says what they are to be given; `schedule` decides which ones
//! are to run, `runner` runs them beside the reconciler, and `record` remembers what ran.

mod command;
mod peer;
mod record;
mod runner;
mod schedule;

pub(crate) use record::{fuzz as fuzz_record, path as commands_record};

use super::{
    Backend, Error, Input, PeerData, PeerError, Plan,
    backend_type::{BackendType, Meaning, NodeIdentity},
    mtu,
};
use crate::{
    model::{lease::Lease, network_config::NetworkConfig},
    retry::Retry,
    underlay::Underlay,
};
use command::{Command, RunError, Variables};
use go_compat::json;
use peer::{Key, PeerInput};
use record::Record;
use runner::Runner;
use schedule::Job;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// Time limit of a command in seconds where `CommandTimeout` is not set.
const DEFAULT_TIMEOUT: u32 = 30;
/// The longest one, in seconds.
const LONGEST_TIMEOUT: u32 = 3600;
/// ShutdownCommand is killed after this: Kubernetes kills the daemon after 30 s.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);
/// The longest backend data as JSON, in bytes: what all subnet managers pass on.
const LONGEST_DATA: usize = 4096;

pub(super) const TYPE: BackendType = BackendType {
    name: "extension",
    build: |config, node| Ok(Arc::new(Extension::new(config, node)?)),
    keys: &[
        "PreStartupCommand",
        "PostStartupCommand",
        "SubnetAddCommand",
        "SubnetRemoveCommand",
        "ShutdownCommand",
        "CommandTimeout",
        "MTU",
    ],
    check: |config| Ok(Keys::read(config)?.describe()),
    owns_device: |_| false,
};

/// The keys of `Backend`, named as upstream names them; upstream has no `CommandTimeout` and no
/// `MTU`.
#[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
struct Keys {
    #[serde(rename = "PreStartupCommand")]
    pre: Command,
    #[serde(rename = "PostStartupCommand")]
    post: Command,
    #[serde(rename = "SubnetAddCommand")]
    add: Command,
    #[serde(rename = "SubnetRemoveCommand")]
    remove: Command,
    #[serde(rename = "ShutdownCommand")]
    shutdown: Command,
    /// Seconds.
    #[serde(rename = "CommandTimeout")]
    timeout: u32,
    /// Of pods, in bytes; 0 is that of the underlay's interface.
    #[serde(rename = "MTU")]
    mtu: u32,
}

/// What the commands are to be given.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    /// The variables of PostStartupCommand.
    own: Variables,
    /// None until the leases of the others are known.
    pub(crate) peers: Option<BTreeMap<Key, PeerInput>>,
}

/// How far the commands are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// PostStartupCommand succeeded.
    pub(crate) is_started: bool,
    /// Every known peer was added, except for those whose command failed several times.
    pub(crate) is_settled: bool,
    /// Commands that fail.
    pub(crate) failing: usize,
    /// The last failure, for messages.
    pub(crate) fault: Option<String>,
}

/// The backend.
#[derive(Debug)]
pub(crate) struct Extension {
    keys: Arc<Keys>,
    /// The file of the record.
    file: PathBuf,
    /// What [`Extension::prepare`] read, for the task that runs the commands.
    record: Mutex<Option<Record>>,
    /// Backend data, once PreStartupCommand ran.
    published: OnceLock<Option<Value>>,
    /// What the commands were to be given last, for ShutdownCommand.
    wanted: Mutex<Option<watch::Receiver<Option<Arc<Wanted>>>>>,
    progress: watch::Sender<Progress>,
}

impl Extension {
    fn new(config: &NetworkConfig, node: &NodeIdentity<'_>) -> Result<Extension, Error> {
        Ok(Extension {
            keys: Arc::new(Keys::read(config)?),
            file: record::path(node.state.file()),
            record: Mutex::default(),
            published: OnceLock::new(),
            wanted: Mutex::default(),
            progress: watch::Sender::default(),
        })
    }

    /// Runs PreStartupCommand until it succeeds, unless it ran since the host booted: what it
    /// printed is this node's backend data.
    pub(crate) async fn prepare(&self) {
        let mut record = Record::load(&self.file);
        record.follow_boot(&record::boot());
        let command = &self.keys.pre;
        let output = match record.output_of(command) {
            Some(output) => Some(output.to_owned()),
            None if command.is_set() => {
                let output = self.prepared().await;
                record.prepared(command, &output);
                if let Err(error) = record
                    .bytes()
                    .and_then(|bytes| Record::write(&self.file, &bytes))
                {
                    warn!("cannot write {}: {error}", self.file.display());
                }
                Some(output)
            }
            None => None,
        };
        let data = output.filter(|_| command.is_set()).map(Value::String);
        self.published.get_or_init(|| data);
        *lock(&self.record) = Some(record);
    }

    async fn prepared(&self) -> String {
        let mut retry = Retry::new("PreStartupCommand", schedule::BACKOFF);
        let variables = Variables::new();
        loop {
            let run = self.keys.pre.run(&variables, "\n", self.keys.limit());
            let reason = match run.await {
                Ok(output) if Value::from(output.as_str()).to_string().len() <= LONGEST_DATA => {
                    info!("PreStartupCommand succeeded");
                    return output;
                }
                Ok(output) => format!(
                    "it printed {} bytes, which are too long for backend data (at most {LONGEST_DATA} as JSON); let it \
                     print what peers need, and the rest to stderr",
                    output.len()
                ),
                Err(error) => {
                    error.log_output("PreStartupCommand");
                    error.to_string()
                }
            };
            retry.failed(&reason).await;
        }
    }

    /// Runs the other commands as the plans ask for them, as long as the daemon runs.
    pub(crate) async fn run(&self, wanted: watch::Receiver<Option<Arc<Wanted>>>) -> Infallible {
        *lock(&self.wanted) = Some(wanted.clone());
        let record = lock(&self.record).take();
        let record = record.unwrap_or_else(|| Record::load(&self.file));
        self.runner(record).run(wanted).await
    }

    fn runner(&self, record: Record) -> Runner {
        let (keys, progress) = (self.keys.clone(), self.progress.clone());
        Runner::new(keys, self.file.clone(), record, progress)
    }

    /// True unless nothing that ran is left to take back.
    pub(crate) fn has_run(&self) -> bool {
        self.file.exists()
    }

    /// Takes back what ran, for a node that has gone over to another backend: SubnetRemoveCommand
    /// for every peer, then ShutdownCommand.
    pub(crate) async fn leave(&self, config: &NetworkConfig, own: &Lease) {
        info!("the commands of the backend extension are taken back: another backend is used now");
        self.runner(Record::load(&self.file)).leave().await;
        let variables = peer::own_variables(config, own);
        self.run_shutdown(&variables, self.keys.limit()).await;
        if let Err(error) = fs::remove_file(&self.file) {
            warn!(
                "cannot remove {}: {error}; the commands are taken back again at the next start",
                self.file.display()
            );
        }
    }

    /// Follows how far the commands are.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Runs ShutdownCommand. After it everything counts as not done.
    pub(crate) async fn shut_down(&self) {
        if !self.keys.shutdown.is_set() {
            return;
        }
        let mut record = Record::load(&self.file);
        record.forget();
        if let Err(error) = record
            .bytes()
            .and_then(|bytes| Record::write(&self.file, &bytes))
        {
            warn!("cannot write {}: {error}", self.file.display());
        }
        let wanted = lock(&self.wanted).clone();
        let wanted = wanted.and_then(|wanted| wanted.borrow().clone());
        let variables = wanted.map_or_else(Variables::new, |wanted| wanted.own.clone());
        let limit = self.keys.limit().min(SHUTDOWN_LIMIT);
        self.run_shutdown(&variables, limit).await;
    }

    async fn run_shutdown(&self, variables: &Variables, limit: Duration) {
        let command = &self.keys.shutdown;
        if !command.is_set() {
            return;
        }
        match command.run(variables, "\n", limit).await {
            Ok(_) => info!("ShutdownCommand succeeded"),
            Err(error) => {
                warn!("ShutdownCommand failed: {error}");
                error.log_output("ShutdownCommand");
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keys {
    fn read(config: &NetworkConfig) -> Result<Keys, Error> {
        let backend = Value::Object(config.backend.clone());
        let mut keys: Keys = json::from_value(backend).map_err(Error::Extension)?;
        if keys.timeout == 0 {
            keys.timeout = DEFAULT_TIMEOUT;
        }
        if keys.timeout > LONGEST_TIMEOUT {
            return Err(Error::CommandTimeout {
                seconds: keys.timeout,
                longest: LONGEST_TIMEOUT,
            });
        }
        // the commands' own headers are not known
        mtu::check(keys.mtu, 0, config)?;
        Ok(keys)
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout.into())
    }

    fn describe(&self) -> Meaning {
        let commands = [
            ("PreStartupCommand", &self.pre),
            ("PostStartupCommand", &self.post),
            ("SubnetAddCommand", &self.add),
            ("SubnetRemoveCommand", &self.remove),
            ("ShutdownCommand", &self.shutdown),
        ];
        let describe = |(key, command): (&str, &Command)| match command {
            Command::Shell(_) => format!("{key} by sh -c"),
            Command::Program(_) => format!("{key} without a shell"),
        };
        let set = commands.into_iter().filter(|(_, command)| command.is_set());
        let set: Vec<_> = set.map(describe).collect();
        let commands = match set.is_empty() {
            true => "no command".to_owned(),
            false => set.join(", "),
        };
        let limit = self.limit().as_secs();
        Meaning {
            text: format!("extension, {commands}, each killed after {limit} s"),
            devices: Vec::new(),
        }
    }

    /// Runs the commands of a job. Fails with the first that fails, except for those that take an
    /// earlier attempt back.
    async fn run(&self, job: &Job) -> Result<(), RunError> {
        match job {
            Job::Add { key, undo, input } => {
                for earlier in undo {
                    let undone = self.remove.run_for(earlier, self.limit()).await;
                    if let Err(error) = undone {
                        debug!("SubnetRemoveCommand before SubnetAddCommand for {key}: {error}");
                    }
                }
                self.add.run_for(input, self.limit()).await
            }
            Job::Remove { inputs, .. } => {
                for input in inputs {
                    self.remove.run_for(input, self.limit()).await?;
                }
                Ok(())
            }
        }
    }
}

impl Command {
    async fn run_for(&self, peer: &PeerInput, limit: Duration) -> Result<(), RunError> {
        let (variables, stdin) = (peer.variables(), peer.stdin());
        let run = self.run_if_set(&variables, &stdin, limit);
        run.await.map(drop)
    }

    async fn run_if_set(
        &self,
        variables: &Variables,
        stdin: &str,
        limit: Duration,
    ) -> Result<String, RunError> {
        match self.is_set() {
            true => self.run(variables, stdin, limit).await,
            false => Ok(String::new()),
        }
    }
}

impl Backend for Extension {
    fn name(&self) -> &'static str {
        TYPE.name
    }

    fn backend_data(&self, underlay: &Underlay) -> [Option<Value>; 2] {
        let is_reached = [underlay.public_ip.is_some(), underlay.public_ipv6.is_some()];
        let data = || self.published.get().cloned().flatten();
        is_reached.map(|is_reached| data().filter(|_| is_reached))
    }

    fn pod_mtu(&self, underlay: &Underlay) -> u32 {
        mtu::outer(self.keys.mtu, underlay)
    }

    /// A string, or none.
    fn decode(&self, data: Option<&Value>) -> Result<PeerData, PeerError> {
        match data {
            None | Some(Value::Null) => Ok(PeerData::Text(None)),
            Some(Value::String(text)) if text.len() <= LONGEST_DATA => Ok(PeerData::Text(
                (!text.is_empty()).then(|| text.as_str().into()),
            )),
            Some(Value::String(text)) => Err(PeerError::UnreadableData(format!(
                "{} bytes, at most {LONGEST_DATA} are read",
                text.len()
            ))),
            Some(_) => Err(PeerError::UnreadableData("it is not a string".to_owned())),
        }
    }

    fn plan(&self, input: &Input<'_>) -> Plan {
        let mut plan = Plan::default();
        let peers = peer::inputs(input, self.kind(), &mut plan.peers, &mut plan.skipped);
        plan.commands = Some(Wanted {
            own: peer::own_variables(input.config, input.own),
            peers: Some(peers),
        });
        plan
    }

    fn commands(&self) -> Option<&Extension> {
        Some(self)
    }
}

#[cfg(test)]
mod tests;
