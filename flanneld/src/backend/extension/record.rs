//! What ran, kept on disk: a restart of the daemon runs nothing that ran with the same input, and
//! runs SubnetRemoveCommand for peers that went while it was away.
//!
//! A peer is written down before its first SubnetAddCommand starts, and that it was added after the
//! command succeeded: where the daemon is killed at any moment, a command may run twice, and none
//! is missed. A reboot empties the kernel: everything runs again, and what is no longer a peer is
//! removed.

use super::{
    command::{Command, Variables},
    peer::{Key, PeerInput},
};
use crate::best_effort::best_effort;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};
use tracing::warn;

/// Largest file that is read, in bytes.
const LONGEST_FILE: u64 = 64 << 20;
/// Changes of a peer that its commands have not caught up with. The oldest is forgotten first.
const MAX_EARLIER: usize = 8;

/// Only root reads the file: backend data may be a secret.
const FILE: atomic_file::Options = atomic_file::Options {
    folder_mode: Some(0o755),
    durable: true,
    concurrent: true,
    ..atomic_file::Options::new(0o600)
};

/// The record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Record {
    /// The boot of the host that all but `peers` is of.
    boot: String,
    /// PreStartupCommand by its text, and what it printed.
    prepared: Option<Prepared>,
    /// The text and the variables of the PostStartupCommand that succeeded.
    started: Option<String>,
    /// The text of the SubnetAddCommand.
    add_command: String,
    #[serde(with = "list")]
    pub(super) peers: BTreeMap<Key, Peer>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Prepared {
    by: String,
    output: String,
}

/// A peer for which SubnetAddCommand ran, or is about to run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Peer {
    pub(super) input: PeerInput,
    /// It was added for these before, and not removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) earlier: Vec<PeerInput>,
    pub(super) added: bool,
}

mod list {
    use super::{BTreeMap, Key, Peer};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        peers: &BTreeMap<Key, Peer>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        out.collect_seq(peers.values())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        json: D,
    ) -> Result<BTreeMap<Key, Peer>, D::Error> {
        let peers = Vec::<Peer>::deserialize(json)?.into_iter();
        Ok(peers
            .filter_map(|peer| Some((peer.input.key()?, peer)))
            .collect())
    }
}

impl Record {
    /// Reads the file. An absent or broken one counts as empty.
    pub(super) fn load(path: &Path) -> Record {
        if !path.exists() {
            return Record::default();
        }
        let bytes = atomic_file::read(path, LONGEST_FILE);
        let read = bytes.and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        read.unwrap_or_else(|error: io::Error| {
            warn!(
                "{} is not used: {error}; the commands run again, and SubnetRemoveCommand does not run for peers that \
                 went meanwhile",
                path.display()
            );
            Record::default()
        })
    }

    /// The content of the file.
    pub(super) fn bytes(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Writes the file.
    pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
        FILE.write(path, bytes)
    }

    /// After a reboot nothing counts as done.
    pub(super) fn follow_boot(&mut self, boot: &str) {
        if self.boot != boot {
            self.forget();
            self.boot = boot.to_owned();
        }
    }

    /// Everything runs again. What is no longer a peer is still removed.
    pub(super) fn forget(&mut self) {
        self.prepared = None;
        self.started = None;
        for peer in self.peers.values_mut() {
            peer.added = false;
        }
    }

    /// What this PreStartupCommand printed, if it ran.
    pub(super) fn output_of(&self, command: &Command) -> Option<&str> {
        let prepared = self.prepared.as_ref()?;
        (prepared.by == fingerprint(command, &[])).then_some(&*prepared.output)
    }

    /// PreStartupCommand ran: it may have made what the others fill anew.
    pub(super) fn prepared(&mut self, command: &Command, output: &str) {
        self.forget();
        self.prepared = Some(Prepared {
            by: fingerprint(command, &[]),
            output: output.to_owned(),
        });
    }

    /// True if a PostStartupCommand succeeded.
    pub(super) fn is_started(&self) -> bool {
        self.started.is_some()
    }

    /// True if this one succeeded.
    pub(super) fn is_started_by(&self, command: &Command, variables: &Variables) -> bool {
        self.started.as_ref() == Some(&fingerprint(command, variables))
    }

    /// PostStartupCommand succeeded.
    pub(super) fn started(&mut self, command: &Command, variables: &Variables) {
        self.started = Some(fingerprint(command, variables));
    }

    /// Returns true if peers were added by another SubnetAddCommand: none counts as added then.
    pub(super) fn follow_add_command(&mut self, command: &Command) -> bool {
        let fingerprint = fingerprint(command, &[]);
        let changed = self.add_command != fingerprint;
        if changed {
            self.add_command = fingerprint;
            for peer in self.peers.values_mut() {
                peer.added = false;
            }
        }
        changed
    }

    /// Takes over what a peer's commands are to be given. Returns true if that changed.
    pub(super) fn follow_peer(&mut self, key: Key, input: &PeerInput) -> bool {
        let Some(peer) = self.peers.get_mut(&key) else {
            let peer = Peer {
                input: input.clone(),
                ..Peer::default()
            };
            self.peers.insert(key, peer);
            return true;
        };
        if peer.input == *input {
            return false;
        }
        let before = std::mem::replace(&mut peer.input, input.clone());
        peer.earlier.retain(|earlier| *earlier != before);
        peer.earlier.push(before);
        let surplus = peer.earlier.len().saturating_sub(MAX_EARLIER);
        peer.earlier.drain(..surplus);
        peer.added = false;
        true
    }
}

/// The text of a command may have a password in it: the record has a digest.
fn fingerprint(command: &Command, variables: &[(&'static str, String)]) -> String {
    let mut text = String::new();
    let mut add = |part: &str| {
        text.push_str(part);
        text.push('\0');
    };
    match command {
        Command::Shell(shell) => add(shell),
        Command::Program(words) => {
            add("");
            words.iter().for_each(|word| add(word));
        }
    }
    add("");
    for (name, value) in variables {
        add(name);
        add(value);
    }
    let digest = digest(&SHA256, text.as_bytes());
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The present boot of the host; empty where the kernel does not tell.
pub(super) fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let id = best_effort(id, "a reboot is not noticed");
    id.unwrap_or_default().trim().to_owned()
}

/// The file beside that of the node's state.
pub(crate) fn path(state_file: &Path) -> PathBuf {
    state_file.with_extension("commands.json")
}

/// The fuzz target of the file: what is read is written so that it is read again.
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Ok(record) = serde_json::from_slice::<Record>(bytes) {
        let text = serde_json::to_vec(&record);
        let again = text.and_then(|text| serde_json::from_slice::<Record>(&text));
        assert!(again.is_ok_and(|again| again == record));
    }
}
