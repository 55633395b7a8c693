//! `flanneld lease export` for Kubernetes, which is read-only: a controller assigns podCIDRs.

use super::{Client, Keys, OpenError, Options, OwnNode, config_file::ConfigFile, own_lease, watch};
use crate::{
    model::lease::{Lease, Leases},
    subnet::{
        BoxFuture, Error, TTL, Waiting,
        transfer::{Export, Held, LeaseArchive, Outcome},
    },
};
use std::time::{Duration, SystemTime};
use tokio::{sync::watch as channel, time::timeout};

/// How long the API server has for the list of all nodes.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);

/// Why the nodes are not read or written.
#[derive(Debug, thiserror::Error)]
enum ArchiveError {
    /// An import.
    #[error(
        "Kubernetes assigns each node its podCIDR: a lease cannot be imported. Create the Node object with the \
         subnet as podCIDR instead"
    )]
    ReadOnly,
    /// The API server does not answer, or refuses.
    #[error(
        "no list of all nodes within {} s; still waiting: {waiting}",
        LIST_TIMEOUT.as_secs()
    )]
    NoList { waiting: String },
}

/// The nodes of an API server.
pub(crate) struct Archive {
    client: Client,
    keys: Keys,
    config: ConfigFile,
}

impl Archive {
    /// Reads the options' files; connects later.
    pub(crate) fn open(options: &Options) -> Result<Archive, OpenError> {
        Ok(Archive {
            keys: Keys::new(&options.annotation_prefix)?,
            config: ConfigFile::read(&options.net_config_path)?,
            client: Client::new(&options.api_url, &options.kubeconfig)?,
        })
    }

    /// The first whole snapshot of the watch.
    async fn leases(&self) -> Result<Leases, ArchiveError> {
        let waiting = Waiting::default();
        let (sender, mut leases) = channel::channel(None);
        let watched = watch::Watched {
            keys: self.keys.clone(),
            families: own_lease::families(&self.config.config),
            // no node has this name: all are peers
            own_name: String::new(),
            published: watch::Published {
                own: channel::Sender::new(OwnNode::Unknown),
                leases: sender,
                waiting: waiting.clone(),
            },
        };
        let watch = watch::run(self.client.inner(), watched);
        let first = async {
            tokio::select! {
                never = watch => match never {},
                known = leases.wait_for(Option::is_some) => {
                    known.ok().and_then(|leases| leases.clone()).unwrap_or_default()
                }
            }
        };
        timeout(LIST_TIMEOUT, first).await.map_err(|_| {
            let waiting = waiting.subscribe().borrow().clone();
            ArchiveError::NoList {
                waiting: waiting.as_deref().unwrap_or("for an answer").to_owned(),
            }
        })
    }
}

impl LeaseArchive for Archive {
    fn describe(&self) -> String {
        format!("Kubernetes API server {}", self.client.server())
    }

    fn export(&self) -> BoxFuture<'_, Result<Export, Error>> {
        Box::pin(async {
            let leases = self.leases().await;
            let leases = leases.map_err(|error| Error::Transient(Box::new(error)))?;
            let end = SystemTime::now() + TTL;
            let leases = leases.iter().map(|lease| Lease {
                expiration: Some(end),
                ..Lease::clone(lease)
            });
            Export::of(&self.config.config, leases.collect())
        })
    }

    fn held<'a>(&'a self, _: &'a Export) -> BoxFuture<'a, Result<Held, Error>> {
        Box::pin(async { Err(read_only()) })
    }

    fn add<'a>(&'a self, _: &'a Lease) -> BoxFuture<'a, Result<Outcome, Error>> {
        Box::pin(async { Err(read_only()) })
    }
}

fn read_only() -> Error {
    Error::Permanent(Box::new(ArchiveError::ReadOnly))
}
