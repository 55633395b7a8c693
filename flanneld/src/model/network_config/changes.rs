//! How two configurations differ, key by key.

use super::NetworkConfig;
use crate::best_effort::best_effort;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt};

/// A key with another value than before.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    /// As it is written in the file: `Network`, `Backend.Port`.
    pub(crate) key: String,
    /// None if the key was absent.
    before: Option<Value>,
    /// None if the key is absent now.
    after: Option<Value>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // the text of a command may have a password in it
        if self.key.to_ascii_lowercase().ends_with("command") {
            return write!(f, "{}", self.key);
        }
        let text = |value: &Option<Value>| match value {
            Some(_) if is_secret(&self.key) => "a value that is not shown".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => "not set".to_owned(),
        };
        let (before, after) = (text(&self.before), text(&self.after));
        write!(f, "{} from {before} to {after}", self.key)
    }
}

/// Backend.PSK of ipsec and wireguard, under any backend.
fn is_secret(key: &str) -> bool {
    key.to_lowercase().contains("psk")
}

/// The keys of the file besides those of a backend.
const KEYS: [&str; 12] = [
    "EnableIPv4",
    "EnableIPv6",
    "EnableNFTables",
    "Network",
    "IPv6Network",
    "SubnetMin",
    "SubnetMax",
    "SubnetLen",
    "IPv6SubnetMin",
    "IPv6SubnetMax",
    "IPv6SubnetLen",
    "Backend",
];

impl NetworkConfig {
    /// Keys that have no effect: neither of the file nor of this backend.
    pub(crate) fn unknown_keys(&self, backend: &[&str]) -> Vec<String> {
        let is_known = |key: &str| match key.split_once('.') {
            Some((_, name)) => {
                let mut names = backend.iter().chain(&["Type"]);
                names.any(|known| known.eq_ignore_ascii_case(name))
            }
            None => KEYS.iter().any(|known| known.eq_ignore_ascii_case(key)),
        };
        let keys = keys(&self.raw).into_values().map(|(key, _)| key);
        keys.filter(|key| !is_known(key)).collect()
    }

    /// The keys whose values differ in `later`, unknown ones included; none if only the layout of
    /// the text differs.
    pub(crate) fn changes(&self, later: &NetworkConfig) -> Vec<Change> {
        let (mut before, mut after) = (keys(&self.raw), keys(&later.raw));
        before.retain(|key, entry| match after.get(key) {
            Some((_, value)) if *value == entry.1 => after.remove(key).is_none(),
            _ => true,
        });
        let mut changes: Vec<Change> = before
            .into_iter()
            .map(|(lower, (key, value))| Change {
                after: after.remove(&lower).map(|(_, value)| value),
                before: Some(value),
                key,
            })
            .collect();
        changes.extend(after.into_values().map(|(key, value)| Change {
            key,
            before: None,
            after: Some(value),
        }));
        changes
    }
}

/// The keys of a text that has been parsed, by their names in lower case.
fn keys(text: &str) -> BTreeMap<String, (String, Value)> {
    let object = go_compat::json::from_slice::<Map<String, Value>>(text.as_bytes());
    let object = best_effort(object, "a text that was parsed is an object").unwrap_or_default();
    let mut keys = BTreeMap::new();
    for (key, value) in object {
        match value {
            Value::Object(backend) if key.eq_ignore_ascii_case("Backend") => {
                for (name, value) in backend {
                    let key = format!("Backend.{name}");
                    keys.insert(key.to_lowercase(), (key, value));
                }
            }
            value => drop(keys.insert(key.to_lowercase(), (key, value))),
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_found() {
        let text = r#"{"Netwrok":"10.4.0.0/16","network":"10.3.0.0/16",
            "Backend":{"type":"vxlan","Prot":4789,"VNI":1}}"#;
        let config = NetworkConfig::parse(text).unwrap();
        assert_eq!(config.unknown_keys(&["VNI"]), ["Backend.Prot", "Netwrok"]);
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = |psk: &str| {
            NetworkConfig::parse(&format!(
                r#"{{"Backend":{{"Type":"ipsec","psk":"{psk}"}}}}"#
            ))
            .unwrap()
        };
        let (before, after) = (config("first"), config("second"));
        let [change] = &before.changes(&after)[..] else {
            panic!("one change");
        };
        assert_eq!(
            change.to_string(),
            "Backend.psk from a value that is not shown to a value that is not shown"
        );
        assert!(!format!("{after:?}").contains("second"));
    }

    #[test]
    fn keys_that_differ_are_named() {
        let config = |text: &str| NetworkConfig::parse(text).unwrap();
        let before = config(
            r#"{"Network":"10.3.0.0/16","SubnetLen":24,"Backend":{"Type":"vxlan","Port":4789}}"#,
        );
        let same = config(
            r#"{ "backend": {"Type":"vxlan", "PORT":4789}, "SubnetLen": 24, "network": "10.3.0.0/16" }"#,
        );
        assert_eq!(before.changes(&same), []);
        let after = config(
            r#"{"Network":"10.4.0.0/16","SubnetLen":24,"Backend":{"Type":"vxlan","MTU":1400,"XCommand":"y"}}"#,
        );
        let changes: Vec<_> = before
            .changes(&after)
            .iter()
            .map(Change::to_string)
            .collect();
        assert_eq!(
            changes,
            [
                "Backend.Port from 4789 to not set",
                "Network from 10.3.0.0/16 to 10.4.0.0/16",
                "Backend.MTU from not set to 1400",
                "Backend.XCommand",
            ]
        );
    }
}
