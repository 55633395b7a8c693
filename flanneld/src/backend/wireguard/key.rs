//! This node's private key. Peers know the node by it, so it outlives a reboot: one file is
//! upstream's, in a folder that a reboot empties, the other beside the node's state.

use super::{Error, V4_NAME, V6_NAME};
use crate::{backend::NodeIdentity, best_effort::best_effort};
use linux_net::{
    link::Kind,
    wireguard::{KEY_LEN, PrivateKey, PublicKey, Wireguard},
};
use std::{
    env, io,
    path::{Path, PathBuf},
};
use tracing::{info, warn};
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};

/// Upstream's file, unless the variable names another.
const UPSTREAM_FILE: &str = "/run/flannel/wgkey";
const UPSTREAM_VARIABLE: &str = "WIREGUARD_KEY_FILE";
/// The name of the file beside the node's state.
const KEPT_NAME: &str = "wgkey";
/// Bytes that are read: more than a key has.
const MAX_SIZE: u64 = 4096;

/// Nobody but root reads it, and it survives a power loss.
const FILE: atomic_file::Options = atomic_file::Options {
    folder_mode: Some(0o755),
    durable: true,
    concurrent: true,
    ..atomic_file::Options::new(0o400)
};

/// The files of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    /// Go flannel's: its key is adopted, and ours is there for a return to it.
    pub(super) upstream: PathBuf,
    /// Outlives a reboot.
    pub(super) kept: PathBuf,
}

impl Files {
    /// Those of the daemon with this file of the node's state.
    pub(super) fn of(state_file: &Path) -> Files {
        let named = env::var_os(UPSTREAM_VARIABLE).filter(|path| !path.is_empty());
        Files {
            upstream: named.map_or_else(|| UPSTREAM_FILE.into(), PathBuf::from),
            kept: state_file.with_file_name(KEPT_NAME),
        }
    }

    /// The key in upstream's file, else the one that was kept.
    fn read(&self) -> Result<Option<PrivateKey>, Error> {
        Ok(match read(&self.upstream)? {
            Some(key) => Some(key),
            None => read(&self.kept)?,
        })
    }

    /// Writes the key where it is missing or another one. One file is enough to find it again.
    fn write(&self, key: &PrivateKey) -> Result<(), Error> {
        let write = |path: &Path| match read(path) {
            Ok(Some(found)) if found == *key => Ok(()),
            _ => FILE.write(path, key.text().as_bytes()).map_err(|source| {
                let path = path.to_owned();
                Error::WriteKey { path, source }
            }),
        };
        match (write(&self.kept), write(&self.upstream)) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(error), Ok(())) => {
                warn!("{error}: after a reboot peers see a new key");
                Ok(())
            }
            (Ok(()), Err(error)) => {
                warn!("{error}: Go flannel would not find this node's key");
                Ok(())
            }
            (Err(error), Err(_)) => Err(error),
        }
    }
}

/// This node's key: the one in upstream's file, else the kept one, else that of its device, else a
/// new one; a new one if another node has the key. Both files have it then.
pub(super) fn of_node(node: &NodeIdentity<'_>, files: &Files) -> Result<PrivateKey, Error> {
    let known = match node.state.is_renewed() {
        true => None,
        false => match files.read()? {
            Some(key) => Some(key),
            None => of_device(node),
        },
    };
    let key = match known {
        Some(key) => key,
        None => {
            let mut bytes = [0; KEY_LEN];
            getrandom::fill(&mut bytes).map_err(|error| Error::NewKey(io::Error::from(error)))?;
            let key = PrivateKey::new(bytes);
            info!("this node has a new WireGuard key, {}", public(&key));
            key
        }
    };
    files.write(&key)?;
    Ok(key)
}

/// The public key of a private one.
pub(super) fn public(key: &PrivateKey) -> PublicKey {
    PublicKey(x25519(*key.bytes(), X25519_BASEPOINT_BYTES))
}

/// The key of a device of ours: peers know it even if every file is gone.
fn of_device(node: &NodeIdentity<'_>) -> Option<PrivateKey> {
    let is_ours = |name: &str| [V4_NAME, V6_NAME].contains(&name);
    let mut links = node.links.iter();
    let link = links.find(|link| {
        is_ours(&link.name) && matches!(&link.kind, Kind::Other(kind) if kind == "wireguard")
    })?;
    let device = Wireguard::open().and_then(|mut socket| socket.device(link.index));
    best_effort(device, "another key is as good")?.private_key
}

/// None if there is no file.
fn read(path: &Path) -> Result<Option<PrivateKey>, Error> {
    let bytes = match atomic_file::read(path, MAX_SIZE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            let path = path.to_owned();
            return Err(Error::ReadKey { path, source });
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    // Go ignores the newline that an editor adds
    match text.trim_end().parse() {
        Ok(key) => Ok(Some(key)),
        Err(source) => {
            let path = path.to_owned();
            Err(Error::InvalidKeyFile { path, source })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{files::node_state::NodeState, model::node_record::NodeRecord};
    use std::{fs, os::unix::fs::PermissionsExt};

    struct Node {
        dir: tempfile::TempDir,
        files: Files,
    }

    impl Node {
        fn new() -> Node {
            let dir = tempfile::tempdir().unwrap();
            let files = Files {
                upstream: dir.path().join("run/flannel/wgkey"),
                kept: dir.path().join("var/wgkey"),
            };
            Node { dir, files }
        }

        fn start(&self, renewed: bool) -> Result<PrivateKey, Error> {
            let mut state = NodeState::load(&self.dir.path().join("var/node.json"));
            if renewed {
                state.renew_macs();
            }
            let node = NodeIdentity {
                state: &mut state,
                links: &[],
                record: &NodeRecord::default(),
                run_folder: self.dir.path(),
            };
            of_node(&node, &self.files)
        }

        fn texts(&self) -> [String; 2] {
            [&self.files.upstream, &self.files.kept].map(|path| fs::read_to_string(path).unwrap())
        }
    }

    #[test]
    fn public_key_is_that_of_wg_pubkey() {
        let key = "KBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Nnc=";
        let expected = "Hkjg9hOmba+Emavh2ezk+DKczh+aqEk5qgmwPCDQTTI=";
        assert_eq!(public(&key.parse().unwrap()).to_string(), expected);
    }

    #[test]
    fn new_key_is_in_both_files_and_outlives_a_reboot() {
        let node = Node::new();
        let key = node.start(false).unwrap();
        assert_eq!(node.texts(), [key.text(), key.text()]);
        assert_eq!(key.text().len(), 44);
        for path in [&node.files.upstream, &node.files.kept] {
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o400, "{path:?}");
            let folder = fs::metadata(path.parent().unwrap()).unwrap();
            assert_eq!(folder.permissions().mode() & 0o005, 0o005, "{path:?}");
        }
        fs::remove_dir_all(node.files.upstream.parent().unwrap()).unwrap();
        assert_eq!(node.start(false).unwrap(), key);
        assert_eq!(node.texts(), [key.text(), key.text()]);
    }

    #[test]
    fn key_of_go_flannel_wins_and_is_kept() {
        let node = Node::new();
        let first = node.start(false).unwrap();
        let other = PrivateKey::new([7; KEY_LEN]);
        fs::remove_file(&node.files.upstream).unwrap();
        fs::write(&node.files.upstream, format!("{}\n", other.text())).unwrap();
        assert_eq!(node.start(false).unwrap(), other);
        assert_ne!(first, other);
        assert_eq!(fs::read_to_string(&node.files.kept).unwrap(), other.text());
    }

    #[test]
    fn cloned_node_takes_a_new_key() {
        let node = Node::new();
        let first = node.start(false).unwrap();
        let second = node.start(true).unwrap();
        assert_ne!(first, second);
        assert_eq!(node.texts(), [second.text(), second.text()]);
    }

    #[test]
    fn broken_file_is_named_without_its_content() {
        let node = Node::new();
        node.start(false).unwrap();
        fs::remove_file(&node.files.upstream).unwrap();
        fs::write(&node.files.upstream, "c2VjcmV0").unwrap();
        let error = node.start(false).unwrap_err().to_string();
        assert!(error.contains("run/flannel/wgkey"), "{error}");
        assert!(error.contains("delete"), "{error}");
        assert!(!error.contains("c2Vj"), "{error}");
    }

    #[test]
    fn one_writable_file_is_enough() {
        let mut node = Node::new();
        fs::write(node.dir.path().join("run"), "a file, no folder").unwrap();
        let error = node.start(false).unwrap_err();
        assert!(matches!(error, Error::ReadKey { .. }), "{error}");
        node.files.upstream = "/proc/no-folder/wgkey".into();
        let key = node.start(false).unwrap();
        assert_eq!(fs::read_to_string(&node.files.kept).unwrap(), key.text());
        node.files.kept = "/proc/no-folder/kept".into();
        let error = node.start(false).unwrap_err();
        assert!(matches!(error, Error::WriteKey { .. }), "{error}");
    }
}
