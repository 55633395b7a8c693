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
    backend::{KeyExchange, Tunnel},
    counted::counted,
    retry::{ExponentialBackoff, Retry},
};
use client::Client;
use ipnetwork::IpNetwork;
use message::Writer;
use program::Program;
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    path::Path,
    time::Duration,
};
use tokio::time::sleep;
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
    pub(super) async fn keep(mut self, mut exchange: KeyExchange) -> Result<Infallible, Error> {
        self.program.find()?;
        let mut retry = Retry::new("strongSwan's charon", BACKOFF);
        loop {
            let failure = match self.program.connect().await {
                Ok(client) => {
                    retry.succeeded();
                    self.follow(client, &mut exchange).await.to_string()
                }
                Err(error) => error.to_string(),
            };
            let text = format!("IPsec has no new keys: {failure}");
            exchange.fault.send_replace(Some(text));
            retry.failed(&failure).await;
        }
    }

    /// Keeps the connections of a running charon as the tunnels ask for. Returns why it cannot go
    /// on.
    async fn follow(&self, client: Client, exchange: &mut KeyExchange) -> client::Error {
        let mut session = Session {
            client,
            keys: self.keys,
            told: BTreeMap::new(),
            refused: BTreeMap::new(),
        };
        if let Err(error) = session.load_secret().await {
            return error;
        }
        loop {
            // until the peers are known, the connections that an earlier daemon made stay
            let wanted = exchange.tunnels.borrow_and_update().clone();
            if let Some(wanted) = wanted
                && let Err(error) = session.synchronise(&wanted).await
            {
                return error;
            }
            exchange.fault.send_replace(session.fault());
            tokio::select! {
                changed = exchange.tunnels.changed() => if changed.is_err() {
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
    /// Connections that charon refuses: the peer's subnet, and why.
    refused: BTreeMap<String, (IpNetwork, String)>,
}

impl Session<'_> {
    /// Why some tunnel gets no keys.
    fn fault(&self) -> Option<String> {
        let (subnet, reason) = self.refused.values().next()?;
        let others = match self.refused.len() - 1 {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        Some(format!(
            "no packet passes to and from {subnet}{others}: {reason}"
        ))
    }

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
        let is_wanted = |name: &String| wanted.contains_key(name);
        let stale = present.iter().filter(|name| !is_wanted(name));
        let stale: Vec<_> = stale.cloned().collect();
        for name in &stale {
            self.unload(name).await?;
        }
        let mut loaded = 0;
        for (name, tunnel) in &wanted {
            let is_told = self.told.get(name) == Some(*tunnel);
            if !is_told || !present.contains(name) {
                loaded += usize::from(self.load(name, tunnel).await?);
            }
        }
        self.told.retain(|name, _| !stale.contains(name));
        self.refused.retain(|name, _| is_wanted(name));
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
                self.refused.remove(name);
                Ok(true)
            }
            Err(error @ client::Error::Refused { .. }) => {
                let reason = format!(
                    "{error}; Backend.ESPProposal is one that its plugins do not have, or no proposal (Debian: apt \
                     install libstrongswan-standard-plugins)"
                );
                if !self.refused.values().any(|(_, known)| *known == reason) {
                    warn!(
                        "no packet passes to and from {}: {reason}",
                        tunnel.peer_subnet
                    );
                }
                let refusal = (tunnel.peer_subnet, reason);
                self.refused.insert(name.to_owned(), refusal);
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
