//! What this node keeps across reboots: the MAC of each of its devices, so that peers need not
//! learn a new one, and whether it ever made routes over the underlay, because only then are such
//! routes ours.

use crate::{best_effort::best_effort, files::FILE};
use linux_net::Mac;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

pub(crate) const DEFAULT_PATH: &str = "/var/lib/flannel/node.json";

/// Why a state that cannot be read does no harm.
const REPLACEABLE: &str = "MAC addresses are chosen again";

/// The content of the file: `{"macs":{"flannel.1":"02:..."},"hostRoutes":false}`.
#[derive(Debug)]
pub(crate) struct NodeState {
    path: PathBuf,
    macs: BTreeMap<String, Mac>,
    host_routes: bool,
    changed: bool,
}

impl NodeState {
    /// Reads the file. A missing or broken file counts as empty.
    pub(crate) fn load(path: &Path) -> NodeState {
        let bytes = best_effort(fs::read(path), REPLACEABLE).unwrap_or_else(|| b"{}".to_vec());
        let value: Value =
            best_effort(serde_json::from_slice(&bytes), REPLACEABLE).unwrap_or_default();
        let host_routes = value.get("hostRoutes").and_then(Value::as_bool);
        NodeState {
            path: path.to_owned(),
            macs: macs(&value).unwrap_or_default(),
            host_routes: host_routes.unwrap_or(false),
            changed: false,
        }
    }

    /// The MAC for a device: the first usable one of `current`, else the one in the file, else a
    /// new one.
    pub(crate) fn mac(&mut self, name: &str, current: [Option<Mac>; 2]) -> io::Result<Mac> {
        let kept = self.macs.get(name).copied();
        let mut known = current.into_iter().chain([kept]).flatten();
        let mac = match known.find(is_usable) {
            Some(mac) => mac,
            None => Mac::random()?,
        };
        self.changed |= kept != Some(mac);
        self.macs.insert(name.to_owned(), mac);
        Ok(mac)
    }

    /// Writes the file if anything changed.
    pub(crate) fn save(&mut self) -> io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        let texts = self.macs.iter().map(|(name, mac)| (name, mac.to_string()));
        let macs: BTreeMap<_, _> = texts.collect();
        let value = json!({ "macs": macs, "hostRoutes": self.host_routes });
        FILE.write(&self.path, format!("{value}\n").as_bytes())?;
        self.changed = false;
        Ok(())
    }

    /// True if this or an earlier run made routes over the underlay.
    pub(crate) fn host_routes(&self) -> bool {
        self.host_routes
    }

    /// To be called, and saved, before the first route over the underlay is made.
    pub(crate) fn set_host_routes(&mut self) {
        self.changed |= !self.host_routes;
        self.host_routes = true;
    }
}

/// True for a unicast address that is not zero.
fn is_usable(mac: &Mac) -> bool {
    mac.0[0] & 1 == 0 && *mac != Mac::default()
}

fn macs(value: &Value) -> Option<BTreeMap<String, Mac>> {
    let macs = value.get("macs")?.as_object()?;
    let entry = |(name, mac): (&String, &Value)| {
        let mac = best_effort(mac.as_str()?.parse(), REPLACEABLE)?;
        Some((name.clone(), mac))
    };
    Some(macs.iter().filter_map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_mac_overrides_the_kept_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.json");
        let mut state = NodeState::load(&path);
        let first = state.mac("flannel.1", [None, None]).unwrap();
        state.set_host_routes();
        state.save().unwrap();
        let mut again = NodeState::load(&path);
        assert_eq!(again.mac("flannel.1", [None, None]).unwrap(), first);
        assert!(again.host_routes());
        let other: Mac = "02:00:00:00:00:07".parse().unwrap();
        assert_eq!(
            again.mac("flannel.1", [Some(other), None]).unwrap(),
            other,
            "the device's own"
        );
        again.save().unwrap();
        assert_eq!(
            NodeState::load(&path)
                .mac("flannel.1", [None, None])
                .unwrap(),
            other
        );
    }

    #[test]
    fn broken_file_counts_as_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.json");
        for content in [
            "",
            "{",
            r#"{"macs":7}"#,
            r#"{"macs":{"flannel.1":"x"}}"#,
            "\0\0\0",
        ] {
            fs::write(&path, content).unwrap();
            let mac = NodeState::load(&path)
                .mac("flannel.1", [None, None])
                .unwrap();
            assert_eq!(mac.0[0] & 0x03, 0x02, "local and unicast: {mac}");
        }
    }
}
