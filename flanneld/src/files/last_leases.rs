//! The last snapshot of the leases, kept across reboots: with it a node that starts while its store
//! is away has its subnet and its peers. The file is written whole or not at all; one that cannot
//! be used counts as absent.

use crate::{
    best_effort::best_effort,
    files::SECRET,
    model::{
        lease::{Lease, LeaseAttrs, Leases},
        node_record::NodeRecord,
        rfc3339,
    },
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};
use tracing::warn;

/// Largest file that is read, bytes: several times what the most leases of a network need.
const MAX_SIZE: u64 = 256 << 20;

/// What a store last said, and whose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LastLeases {
    /// The store, as its subnet manager describes it.
    pub(crate) store: String,
    #[serde(with = "rfc3339")]
    pub(crate) written: Option<SystemTime>,
    /// The network configuration.
    pub(crate) config: String,
    /// What the store said of this node.
    pub(crate) record: NodeRecord,
    /// What this node asked a lease for.
    pub(crate) asked: LeaseAttrs,
    /// This node's lease.
    pub(crate) own: Lease,
    /// Every lease of the network.
    #[serde(serialize_with = "as_list", deserialize_with = "list")]
    pub(crate) leases: Leases,
}

/// The file beside that of the node's state.
pub(crate) fn path(state_file: &Path) -> PathBuf {
    state_file.with_extension("leases.json")
}

impl LastLeases {
    /// The content of the file, if it is of that store.
    pub(crate) fn load(path: &Path, store: &str) -> Option<LastLeases> {
        if !path.exists() {
            return None;
        }
        let read = read(path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        let last: LastLeases = read
            .inspect_err(|error| warn!("{} is not used: {error}", path.display()))
            .ok()?;
        let is_same = last.store == store;
        if !is_same {
            warn!("{} is not used: it is of {}", path.display(), last.store);
        }
        is_same.then_some(last)
    }

    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        // the text of thousands of leases is never whole in memory
        let staged = SECRET.stage_with(path, |file| {
            let mut file = BufWriter::new(file);
            serde_json::to_writer(&mut file, self)?;
            file.flush()
        });
        staged?.commit()
    }

    /// True if the other says the same, times aside.
    pub(crate) fn same_content(&self, other: &LastLeases) -> bool {
        let same = |(a, b): (&Arc<Lease>, &Arc<Lease>)| {
            Arc::ptr_eq(a, b) || (a.subnets == b.subnets && a.attrs == b.attrs)
        };
        self.store == other.store
            && self.config == other.config
            && self.record == other.record
            && self.asked == other.asked
            && self.own.subnets == other.own.subnets
            && self.own.attrs == other.own.attrs
            && self.leases.len() == other.leases.len()
            && self.leases.iter().zip(other.leases.iter()).all(same)
    }

    /// When the store said this, for messages.
    pub(crate) fn age(&self) -> String {
        let written = self.written.unwrap_or(SystemTime::UNIX_EPOCH);
        let time = best_effort(jiff::Timestamp::try_from(written), "the time is unknown");
        let seconds = time.and_then(|time| jiff::Timestamp::from_second(time.as_second()).ok());
        seconds.map_or_else(|| "an unknown time".to_owned(), |time| time.to_string())
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > MAX_SIZE {
        return Err(io::Error::other("it is no file, or too large"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SIZE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn as_list<S: Serializer>(leases: &Leases, out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(leases.iter().map(Arc::as_ref))
}

fn list<'de, D: Deserializer<'de>>(json: D) -> Result<Leases, D::Error> {
    let leases = Vec::<Lease>::deserialize(json)?;
    Ok(Arc::new(leases.into_iter().map(Arc::new).collect()))
}

/// The fuzz target of the file.
pub(super) fn fuzz(bytes: &[u8]) {
    if let Ok(last) = serde_json::from_slice::<LastLeases>(bytes) {
        last.age();
        let text = serde_json::to_vec(&last).unwrap_or_default();
        let again = serde_json::from_slice::<LastLeases>(&text);
        assert_eq!(again.ok(), Some(last), "{}", text.escape_ascii());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    pub(crate) fn lease(n: u8) -> Lease {
        Lease {
            subnets: format!("10.3.{n}.0-24").parse().unwrap(),
            attrs: LeaseAttrs {
                public_ip: Some([192, 0, 2, n].into()),
                backend_type: "vxlan".to_owned(),
                ..LeaseAttrs::default()
            },
            expiration: Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(9)),
        }
    }

    pub(crate) fn last(leases: &[u8]) -> LastLeases {
        LastLeases {
            store: "a store".to_owned(),
            written: Some(SystemTime::UNIX_EPOCH),
            config: r#"{"Network":"10.3.0.0/16"}"#.to_owned(),
            record: NodeRecord {
                public_ip: Some([192, 0, 2, 200].into()),
                ..NodeRecord::default()
            },
            asked: lease(1).attrs,
            own: lease(1),
            leases: Arc::new(leases.iter().map(|n| Arc::new(lease(*n))).collect()),
        }
    }

    #[test]
    fn what_is_saved_is_loaded_for_the_same_store() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(&folder.path().join("node.json"));
        assert!(path.ends_with("node.leases.json"));
        assert_eq!(LastLeases::load(&path, "a store"), None);
        let saved = last(&[1, 2, 3]);
        saved.save(&path).unwrap();
        assert_eq!(LastLeases::load(&path, "a store"), Some(saved.clone()));
        assert_eq!(LastLeases::load(&path, "another store"), None);
        assert!(saved.same_content(&last(&[1, 2, 3])));
        assert!(!saved.same_content(&last(&[1, 2, 4])));
        assert_eq!(saved.age(), "1970-01-01T00:00:00Z");
    }

    /// The configuration may have a PSK, and earlier versions wrote a file that all users can read.
    #[test]
    fn nobody_else_can_read_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.leases.json");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        last(&[1]).save(&path).unwrap();
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        last(&[2]).save(&path).unwrap();
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn part_of_a_file_counts_as_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.leases.json");
        let whole = serde_json::to_vec(&last(&[1, 2])).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(LastLeases::load(&path, "a store"), None, "{length} bytes");
        }
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(LastLeases::load(&path, "a store"), None);
    }
}
