//! charon, strongSwan's daemon for key exchange: found, started with a configuration of its own,
//! told its connections over VICI, watched, and started again if it ends. It outlives flanneld, so
//! that a restart of flanneld loses no packet: the next one finds it by its socket.

mod client;
mod connection;
mod message;
mod program;
mod retire;

pub(super) use program::{Error, folder};
pub(crate) use retire::retire;

use super::Keys;
use crate::{
    backend::Tunnel,
    counted::counted,
    retry::{ExponentialBackoff, Retry},
};
use client::Client;
use message::Writer;
use program::Program;
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, time::sleep};
use tracing::{debug, info, warn};

/// How often charon is asked which connections it has: another program may unload one.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Delays before charon is started again.
const BACKOFF: ExponentialBackoff = ExponentialBackoff {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(10),
};
/// The name of the secret in charon.
const SECRET: &str = "flannel";

/// What charon is told.
#[derive(Debug)]
pub(super) struct Charon<'a> {
    program: Program,
    keys: &'a Keys,
}

impl<'a> Charon<'a> {
    pub(super) fn new(folder: &Path, keys: &'a Keys) -> Charon<'a> {
        Charon {
            program: Program::new(folder),
            keys,
        }
    }

    /// Keeps charon running, with a connection for each tunnel. Fails if there is no charon on this
    /// host at the start.
    pub(super) async fn keep(
        mut self,
        mut tunnels: watch::Receiver<Option<Arc<[Tunnel]>>>,
    ) -> Result<Infallible, Error> {
        self.program.find()?;
        let mut retry = Retry::new("strongSwan's charon", BACKOFF);
        loop {
            let failure = match self.program.connect().await {
                Ok(client) => {
                    retry.succeeded();
                    self.follow(client, &mut tunnels).await.to_string()
                }
                Err(error) => error.to_string(),
            };
            retry.failed(&failure).await;
        }
    }

    /// Keeps the connections of a running charon as the tunnels ask for. Returns why it cannot go
    /// on.
    async fn follow(
        &self,
        client: Client,
        tunnels: &mut watch::Receiver<Option<Arc<[Tunnel]>>>,
    ) -> client::Error {
        let mut session = Session {
            client,
            keys: self.keys,
            told: BTreeMap::new(),
            refused: BTreeSet::new(),
        };
        if let Err(error) = session.load_secret().await {
            return error;
        }
        loop {
            // until the peers are known, the connections that an earlier daemon made stay
            let wanted = tunnels.borrow_and_update().clone();
            if let Some(wanted) = wanted
                && let Err(error) = session.synchronise(&wanted).await
            {
                return error;
            }
            tokio::select! {
                changed = tunnels.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                () = session.client.closed() => return ended(),
                () = sleep(LOOK_INTERVAL) => {}
            }
        }
    }
}

fn ended() -> client::Error {
    std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it ended").into()
}

/// A connection to charon, and what it was told over it.
struct Session<'a> {
    client: Client,
    keys: &'a Keys,
    told: BTreeMap<String, Tunnel>,
    /// Refusals that were logged.
    refused: BTreeSet<String>,
}

impl Session<'_> {
    async fn load_secret(&mut self) -> Result<(), client::Error> {
        let mut message = Writer::default();
        message.value("id", SECRET.as_bytes())?;
        message.value("type", b"IKE")?;
        message.value("data", self.keys.psk.0.as_bytes())?;
        self.client.command("load-shared", message).await?;
        Ok(())
    }

    /// Unloads what no tunnel asks for, and loads what is missing. Charon begins to negotiate the
    /// keys of a connection when it is loaded; one that it has already, it leaves as it is.
    async fn synchronise(&mut self, tunnels: &[Tunnel]) -> Result<(), client::Error> {
        let answer = self.client.command("get-conns", Writer::default()).await?;
        let present: BTreeSet<String> = answer
            .list("conns")
            .unwrap_or_default()
            .iter()
            .cloned()
            .collect();
        let wanted: BTreeMap<String, &Tunnel> = tunnels
            .iter()
            .map(|tunnel| (connection::name(tunnel), tunnel))
            .collect();
        let stale = present.iter().filter(|name| !wanted.contains_key(*name));
        let stale: Vec<_> = stale.cloned().collect();
        for name in &stale {
            self.unload(name).await?;
        }
        let mut loaded = 0;
        for (name, tunnel) in wanted {
            let is_told = self.told.get(&name) == Some(tunnel);
            if !is_told || !present.contains(&name) {
                loaded += usize::from(self.load(&name, tunnel).await?);
            }
        }
        self.told.retain(|name, _| !stale.contains(name));
        if loaded + stale.len() > 0 {
            info!(
                "charon has {}; {} removed",
                counted(self.told.len(), "connection", "connections"),
                stale.len()
            );
        }
        Ok(())
    }

    /// False if charon refuses it.
    async fn load(&mut self, name: &str, tunnel: &Tunnel) -> Result<bool, client::Error> {
        let message = connection::message(name, tunnel, self.keys)?;
        match self.client.command("load-conn", message).await {
            Ok(_) => {
                self.told.insert(name.to_owned(), *tunnel);
                Ok(true)
            }
            Err(error @ client::Error::Refused { .. }) => {
                let text = error.to_string();
                if self.refused.insert(text.clone()) {
                    warn!(
                        "no packet passes to and from {}: {text}",
                        tunnel.peer_subnet
                    );
                }
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a connection's keys and the connection away.
    async fn unload(&mut self, name: &str) -> Result<(), client::Error> {
        let mut message = Writer::default();
        message.value("name", name.as_bytes())?;
        self.ignore_refusal("unload-conn", message).await?;
        let mut message = Writer::default();
        message.value("ike", name.as_bytes())?;
        // no wait for the peer, which may be gone
        message.value("timeout", b"-1")?;
        self.ignore_refusal("terminate", message).await
    }

    /// What is not there any more is refused.
    async fn ignore_refusal(
        &mut self,
        command: &'static str,
        message: Writer,
    ) -> Result<(), client::Error> {
        match self.client.command(command, message).await {
            Err(error @ client::Error::Refused { .. }) => {
                debug!("{error}");
                Ok(())
            }
            answer => answer.map(|_| ()),
        }
    }
}

/// Entry point of the fuzz target: a packet of charon.
pub(crate) fn fuzz(packet: &[u8]) {
    if let Ok(message::Packet::Response(section)) = message::read(packet) {
        section.text("errmsg");
        section.list("conns");
    }
}
