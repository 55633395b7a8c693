//! What this node keeps across reboots: the MAC of each of its devices, so that peers need not
//! learn a new one; whether it ever made routes over the underlay, because only then are such
//! routes ours; and what each daemon made under its configurations, because that goes when they
//! change, and their backends, which other nodes may use a while longer. Those may have keys: only
//! root reads the file.

use crate::{
    best_effort::best_effort,
    files::SECRET,
    model::{Family, host_state::DeviceName},
};
use ipnetwork::IpNetwork;
use linux_net::Mac;
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::{Path, PathBuf},
};
use tracing::{info, warn};

pub(crate) const DEFAULT_PATH: &str = "/var/lib/flannel/node.json";

/// Bytes that are read of the file: more than it ever has.
const MAX_SIZE: u64 = 1 << 20;

/// Why a state that cannot be read does no harm.
const REPLACEABLE: &str = "MAC addresses are chosen again";

/// Backends of a daemon that are kept. The oldest is forgotten first.
const MAX_BACKENDS: usize = 4;

/// Earlier networks of a daemon that are kept. The oldest is forgotten first.
const MAX_FAMILIES: usize = 16;

/// The content of the file: `{"macs":{"flannel.1":"02:..."},"hostRoutes":false,"daemons":{...}}`.
#[derive(Debug)]
pub(crate) struct NodeState {
    path: PathBuf,
    /// By the path of each daemon's subnet.env: a host may run several.
    daemons: BTreeMap<String, Made>,
    macs: BTreeMap<String, Mac>,
    host_routes: bool,
    changed: bool,
    /// Those of the devices, too, are replaced.
    renewed: bool,
    /// Why the last write failed.
    failure: Option<String>,
}

/// What a daemon made, by now or under an earlier configuration.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Made {
    /// Names of devices.
    pub(crate) devices: BTreeSet<String>,
    /// Networks with its subnets, the latest last.
    pub(crate) families: Vec<Family>,
    /// The values of `Backend`, the latest last. They may have keys.
    pub(crate) backends: Vec<Map<String, Value>>,
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Made {
            devices,
            families,
            backends,
        } = self;
        let backends = backends.len();
        write!(f, "{devices:?} {families:?} {backends} backends")
    }
}

impl Made {
    fn read(value: &Value) -> Made {
        let texts = |key: &str| {
            let values = value.get(key).and_then(Value::as_array).into_iter();
            values.flatten().filter_map(Value::as_str)
        };
        let family = |text: &str| {
            let (network, subnet) = text.split_once(' ')?;
            let parse = |text: &str| best_effort(text.parse::<IpNetwork>(), REPLACEABLE);
            Some(Family {
                network: parse(network)?,
                subnet: parse(subnet)?,
            })
        };
        Made {
            devices: texts("devices").map(str::to_owned).collect(),
            families: texts("networks").filter_map(family).collect(),
            backends: {
                let values = value.get("backends").and_then(Value::as_array);
                let objects = values.into_iter().flatten().filter_map(Value::as_object);
                objects.cloned().collect()
            },
        }
    }

    fn json(&self) -> Value {
        let text = |family: &Family| format!("{} {}", family.network, family.subnet);
        let networks: Vec<_> = self.families.iter().map(text).collect();
        json!({ "devices": self.devices, "networks": networks, "backends": self.backends })
    }
}

impl NodeState {
    /// Reads the file. A missing or broken file counts as empty.
    pub(crate) fn load(path: &Path) -> NodeState {
        let bytes = best_effort(atomic_file::read(path, MAX_SIZE), REPLACEABLE);
        NodeState::read(path, bytes.as_deref().unwrap_or(b"{}"))
    }

    fn read(path: &Path, bytes: &[u8]) -> NodeState {
        let value: Value =
            best_effort(serde_json::from_slice(bytes), REPLACEABLE).unwrap_or_default();
        let host_routes = value.get("hostRoutes").and_then(Value::as_bool);
        NodeState {
            path: path.to_owned(),
            daemons: daemons(&value),
            macs: macs(&value).unwrap_or_default(),
            host_routes: host_routes.unwrap_or(false),
            changed: false,
            renewed: false,
            failure: None,
        }
    }

    /// The file.
    pub(crate) fn file(&self) -> &Path {
        &self.path
    }

    /// True if another node has what identified this one.
    pub(crate) fn is_renewed(&self) -> bool {
        self.renewed
    }

    /// Forgets every MAC: another node has them.
    pub(crate) fn renew_macs(&mut self) {
        self.macs.clear();
        self.renewed = true;
    }

    /// The MAC for a device: the first usable one of `current`, else the one in the file, else a
    /// new one.
    pub(crate) fn mac(&mut self, name: &str, current: [Option<Mac>; 2]) -> io::Result<Mac> {
        let kept = self.macs.get(name).copied();
        let current = current.into_iter().filter(|_| !self.renewed);
        let mut known = current.chain([kept]).flatten();
        let mac = match known.find(is_usable) {
            Some(mac) => mac,
            None => Mac::random()?,
        };
        self.changed |= kept != Some(mac);
        self.macs.insert(name.to_owned(), mac);
        Ok(mac)
    }

    /// What the daemon with this subnet.env made.
    pub(crate) fn made(&self, subnet_file: &Path) -> Made {
        let made = self.daemons.get(&*subnet_file.to_string_lossy());
        made.cloned().unwrap_or_default()
    }

    /// To be called, and saved, before the daemon with this subnet.env makes any of it.
    pub(crate) fn set_made(&mut self, subnet_file: &Path, mut made: Made) {
        let surplus = made.families.len().saturating_sub(MAX_FAMILIES);
        made.families.drain(..surplus);
        let surplus = made.backends.len().saturating_sub(MAX_BACKENDS);
        made.backends.drain(..surplus);
        let key = subnet_file.to_string_lossy().into_owned();
        let before = self.daemons.insert(key, made.clone());
        self.changed |= before != Some(made);
    }

    /// Adds devices to what the daemon with this subnet.env made. To be called, and saved, before
    /// it makes one.
    pub(crate) fn add_devices(&mut self, subnet_file: &Path, names: &[DeviceName]) {
        let mut made = self.made(subnet_file);
        made.devices
            .extend(names.iter().map(|name| name.to_string()));
        self.set_made(subnet_file, made);
    }

    /// Forgets the backends of earlier configurations.
    pub(crate) fn forget_backends(&mut self, subnet_file: &Path) {
        let mut made = self.made(subnet_file);
        made.backends.drain(..made.backends.len().saturating_sub(1));
        self.set_made(subnet_file, made);
    }

    /// Writes the file if anything changed. What fails is logged once, and tried again at the next
    /// call.
    pub(crate) fn keep(&mut self) {
        let failure = self.save().err().map(|error| error.to_string());
        let path = self.path.display();
        match &failure {
            Some(error) if failure != self.failure => warn!(
                "cannot write {path}: {error}; trying again: a reboot before that gives this node new MAC addresses"
            ),
            None if self.failure.is_some() => info!("wrote {path}"),
            Some(_) | None => {}
        }
        self.failure = failure;
    }

    /// Writes the file if anything changed.
    fn save(&mut self) -> io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        SECRET.write(&self.path, self.text().as_bytes())?;
        self.changed = false;
        Ok(())
    }

    fn text(&self) -> String {
        let texts = self.macs.iter().map(|(name, mac)| (name, mac.to_string()));
        let macs: BTreeMap<_, _> = texts.collect();
        let daemons = self.daemons.iter().map(|(file, made)| (file, made.json()));
        let daemons: BTreeMap<_, _> = daemons.collect();
        let value = json!({ "macs": macs, "hostRoutes": self.host_routes, "daemons": daemons });
        format!("{value}\n")
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

/// The fuzz target of the file. A MAC that is used is one that a device can have.
pub(super) fn fuzz(bytes: &[u8]) {
    let path = Path::new("/nonexistent/node.json");
    let mut state = NodeState::read(path, bytes);
    let again = NodeState::read(path, state.text().as_bytes());
    assert_eq!(again.macs, state.macs);
    assert_eq!(again.daemons, state.daemons);
    assert_eq!(again.host_routes, state.host_routes);
    for name in state.macs.clone().into_keys() {
        assert!(
            state
                .mac(&name, [None, None])
                .is_ok_and(|mac| is_usable(&mac))
        );
    }
}

/// True for a unicast address that is not zero.
fn is_usable(mac: &Mac) -> bool {
    mac.0[0] & 1 == 0 && *mac != Mac::default()
}

fn daemons(value: &Value) -> BTreeMap<String, Made> {
    let daemons = value.get("daemons").and_then(Value::as_object).into_iter();
    let made = |(file, made): (&String, &Value)| (file.clone(), Made::read(made));
    daemons.flatten().map(made).collect()
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
    use std::{fs, os::unix::fs::PermissionsExt};

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
    fn what_each_daemon_made_is_kept_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.json");
        let (first, second) = (
            Path::new("/run/a/subnet.env"),
            Path::new("/run/b/subnet.env"),
        );
        let made = |device: &str, count: u8| Made {
            devices: [device.to_owned()].into(),
            families: (0..count)
                .map(|n| Family {
                    network: format!("10.{n}.0.0/16").parse().unwrap(),
                    subnet: format!("10.{n}.7.0/24").parse().unwrap(),
                })
                .collect(),
            backends: (0..count)
                .map(|n| Map::from_iter([("VNI".to_owned(), n.into())]))
                .collect(),
        };
        let mut state = NodeState::load(&path);
        state.set_made(first, made("flannel.1", 1));
        state.set_made(second, made("flannel.2", 20));
        state.save().unwrap();
        let again = NodeState::load(&path);
        assert_eq!(again.made(first), made("flannel.1", 1));
        let latest = again.made(second).families;
        assert_eq!(latest.len(), MAX_FAMILIES);
        assert_eq!(latest.last(), made("flannel.2", 20).families.last());
        let latest = again.made(second).backends;
        assert_eq!(latest.len(), MAX_BACKENDS);
        assert_eq!(latest.last(), made("flannel.2", 20).backends.last());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(again.made(Path::new("/run/c")), Made::default());
    }

    #[test]
    fn renewed_mac_is_neither_the_devices_nor_the_kept_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.json");
        let mut state = NodeState::load(&path);
        let old = state.mac("flannel.1", [None, None]).unwrap();
        state.renew_macs();
        let new = state.mac("flannel.1", [Some(old), Some(old)]).unwrap();
        assert_ne!(new, old);
        state.save().unwrap();
        let mut again = NodeState::load(&path);
        assert_eq!(again.mac("flannel.1", [None, None]).unwrap(), new);
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
            r#"{"daemons":{"/run/flannel/subnet.env":{"devices":7,"networks":["x","10.0.0.0/8 y",7]}}}"#,
            r#"{"daemons":[]}"#,
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
