//! What this node remembers of itself beyond a reboot: the MAC of each of its devices, so that peers need not learn a new
//! one, and whether it has ever made routes over the underlay, which only that makes ours.
use crate::files::FILE;
use linux_net::Mac;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

/// Where it is unless told otherwise.
pub const DEFAULT_PATH: &str = "/var/lib/flannel/node.json";

/// The file's content.
#[derive(Debug)]
pub struct NodeState {
    path: PathBuf,
    macs: BTreeMap<String, Mac>,
    host_routes: bool,
    changed: bool,
}

impl NodeState {
    /// Reads it. A file that is missing or broken counts as empty: all that is lost is what can be chosen again.
    pub fn load(path: &Path) -> NodeState {
        let value = std::fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let value: Value = value.unwrap_or_default();
        NodeState {
            path: path.to_owned(),
            macs: macs(&value).unwrap_or_default(),
            host_routes: value
                .get("hostRoutes")
                .and_then(Value::as_bool)
                .unwrap_or(false),
            changed: false,
        }
    }

    /// The MAC for a device: that of the device as it is, else the one remembered, else a new one.
    pub fn mac(&mut self, name: &str, on_device: Option<Mac>) -> io::Result<Mac> {
        let usable = |mac: &Mac| mac.0[0] & 1 == 0 && *mac != Mac::default();
        let remembered = self.macs.get(name).copied();
        let mac = match on_device.filter(usable).or(remembered.filter(usable)) {
            Some(mac) => mac,
            None => Mac::random()?,
        };
        self.changed |= remembered != Some(mac);
        self.macs.insert(name.to_owned(), mac);
        Ok(mac)
    }

    /// Writes it if anything is new.
    pub fn save(&mut self) -> io::Result<()> {
        if self.changed {
            let macs: BTreeMap<_, _> = self
                .macs
                .iter()
                .map(|(name, mac)| (name, mac.to_string()))
                .collect();
            let value = json!({ "macs": macs, "hostRoutes": self.host_routes });
            FILE.write(&self.path, format!("{value}\n").as_bytes())?;
            self.changed = false;
        }
        Ok(())
    }

    /// Routes over the underlay were made, now or in an earlier run.
    pub fn host_routes(&self) -> bool {
        self.host_routes
    }

    /// They are about to be.
    pub fn set_host_routes(&mut self) {
        self.changed |= !self.host_routes;
        self.host_routes = true;
    }
}

fn macs(value: &Value) -> Option<BTreeMap<String, Mac>> {
    let macs = value.get("macs")?.as_object()?;
    let entry = |(name, mac): (&String, &Value)| Some((name.clone(), mac.as_str()?.parse().ok()?));
    Some(macs.iter().filter_map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_kept_and_the_device_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.json");
        let mut state = NodeState::load(&path);
        let first = state.mac("flannel.1", None).unwrap();
        state.set_host_routes();
        state.save().unwrap();
        let mut again = NodeState::load(&path);
        assert_eq!(again.mac("flannel.1", None).unwrap(), first);
        assert!(again.host_routes());
        let other: Mac = "02:00:00:00:00:07".parse().unwrap();
        assert_eq!(
            again.mac("flannel.1", Some(other)).unwrap(),
            other,
            "the device's own"
        );
        again.save().unwrap();
        assert_eq!(
            NodeState::load(&path).mac("flannel.1", None).unwrap(),
            other
        );
    }

    #[test]
    fn a_broken_file_counts_as_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.json");
        for content in [
            "",
            "{",
            r#"{"macs":7}"#,
            r#"{"macs":{"flannel.1":"x"}}"#,
            "\0\0\0",
        ] {
            std::fs::write(&path, content).unwrap();
            let mac = NodeState::load(&path).mac("flannel.1", None).unwrap();
            assert_eq!(mac.0[0] & 0x03, 0x02, "local and unicast: {mac}");
        }
    }
}
