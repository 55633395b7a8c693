//! Configuration lists, which a runtime reads from /etc/cni/net.d (CNI spec section 1), and the
//! configuration of each plugin derived from them. Keys match exactly, as in libcni; plugins match
//! theirs by the rules of [`go_compat::json`].

use cni_conf::{Code, Error, Version};
use go_compat::json;
use serde_json::{Map, Value};

/// A configuration list.
#[derive(Debug, Clone)]
pub struct ConfList {
    /// `cniVersion`, "" is 0.1.0; with `cniVersions` the newest that we support.
    pub cni_version: String,
    /// Of the network.
    pub name: String,
    pub(crate) disable_check: bool,
    pub(crate) disable_gc: bool,
    /// In the order of ADD, with all keys.
    pub(crate) plugins: Vec<Map<String, Value>>,
}

impl ConfList {
    /// Reads a `.conflist` file, or a single `.conf`/`.json` configuration as a list of one.
    /// Code 6 if it is not a JSON object, 7 if a key is missing or has a wrong type.
    pub(crate) fn parse(bytes: &[u8], is_list: bool) -> Result<ConfList, Error> {
        let what = match is_list {
            true => "error parsing configuration list",
            false => "error parsing configuration",
        };
        let object: Map<String, Value> = serde_json::from_slice(bytes)
            .map_err(|error| Error::new(Code::Decode, format!("{what}: {error}")))?;
        let list = match is_list {
            true => list(&object),
            false => single(object),
        };
        list.map_err(|error| Error::new(Code::InvalidNetworkConfig, format!("{what}: {error}")))
    }

    /// The stdin of plugin `index`, with name and cniVersion of the list, `prevResult` and, from
    /// `capability_args`, `runtimeConfig` with the capabilities that the plugin declares. An index
    /// beyond the chain gives a configuration without a type.
    pub(crate) fn plugin_config(
        &self,
        index: usize,
        capability_args: &Map<String, Value>,
        prev_result: Option<&Value>,
    ) -> Vec<u8> {
        let mut config = self.plugins.get(index).cloned().unwrap_or_default();
        let runtime_config = runtime_config(&config, capability_args);
        config.insert("name".into(), self.name.clone().into());
        config.insert("cniVersion".into(), self.cni_version.clone().into());
        if let Some(result) = prev_result {
            config.insert("prevResult".into(), result.clone());
        }
        if !runtime_config.is_empty() {
            config.insert("runtimeConfig".into(), runtime_config.into());
        }
        json::marshal(&config).into_bytes()
    }
}

/// Why a JSON object is not a configuration, in upstream's wording.
#[derive(Debug, thiserror::Error)]
enum Invalid {
    #[error("no name")]
    NoName,
    #[error("no 'plugins' key")]
    NoPlugins,
    #[error("no plugins in list")]
    EmptyPlugins,
    #[error("invalid 'plugins' type {0}")]
    PluginsType(&'static str),
    #[error("missing 'type'")]
    NoType,
    #[error("invalid type {0}, a plugin is an object")]
    NotAnObject(&'static str),
    #[error("invalid {0} type {1}")]
    TextType(&'static str, &'static str),
    #[error("invalid type for {0}: {1}")]
    KeyType(&'static str, &'static str),
    #[error("invalid value for {0}: {1:?}")]
    SwitchValue(&'static str, String),
    #[error("failed to parse plugin config {index}: {source}")]
    Plugin { index: usize, source: Box<Invalid> },
}

fn list(object: &Map<String, Value>) -> Result<ConfList, Invalid> {
    let name = text(object, "name")?.ok_or(Invalid::NoName)?;
    let plugins = match object.get("plugins") {
        None => return Err(Invalid::NoPlugins),
        Some(Value::Array(plugins)) if plugins.is_empty() => return Err(Invalid::EmptyPlugins),
        Some(Value::Array(plugins)) => plugins,
        Some(other) => return Err(Invalid::PluginsType(type_name(other))),
    };
    let plugin = |(index, plugin)| {
        plugin_object(plugin).map_err(|source| Invalid::Plugin {
            index,
            source: Box::new(source),
        })
    };
    Ok(ConfList {
        cni_version: cni_version(object)?,
        name,
        disable_check: switch(object, "disableCheck")?,
        disable_gc: switch(object, "disableGC")?,
        plugins: plugins
            .iter()
            .enumerate()
            .map(plugin)
            .collect::<Result<_, _>>()?,
    })
}

fn single(object: Map<String, Value>) -> Result<ConfList, Invalid> {
    Ok(ConfList {
        cni_version: text(&object, "cniVersion")?.unwrap_or_default(),
        name: text(&object, "name")?.unwrap_or_default(),
        disable_check: false,
        disable_gc: false,
        plugins: vec![plugin_object(&Value::Object(object))?],
    })
}

fn plugin_object(plugin: &Value) -> Result<Map<String, Value>, Invalid> {
    let Value::Object(plugin) = plugin else {
        return Err(Invalid::NotAnObject(type_name(plugin)));
    };
    match text(plugin, "type")? {
        Some(plugin_type) if !plugin_type.is_empty() => Ok(plugin.clone()),
        _ => Err(Invalid::NoType),
    }
}

/// `cniVersion`; with `cniVersions`, the newest of both that we support.
fn cni_version(object: &Map<String, Value>) -> Result<String, Invalid> {
    let version = text(object, "cniVersion")?.unwrap_or_default();
    let listed = match object.get("cniVersions") {
        None | Some(Value::Null) => return Ok(version),
        Some(Value::Array(versions)) => versions,
        Some(other) => return Err(Invalid::KeyType("cniVersions", type_name(other))),
    };
    let mut newest = Version::parse(&version).filter(|_| !version.is_empty());
    for item in listed {
        let Value::String(item) = item else {
            return Err(Invalid::KeyType("cniVersions item", type_name(item)));
        };
        newest = newest.max(Version::parse(item));
    }
    Ok(newest.map_or(version, |version| version.to_string()))
}

fn text(object: &Map<String, Value>, key: &'static str) -> Result<Option<String>, Invalid> {
    match object.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(Invalid::TextType(key, type_name(other))),
    }
}

/// A boolean, also as a text of Go's strconv.ParseBool.
fn switch(object: &Map<String, Value>, key: &'static str) -> Result<bool, Invalid> {
    match object.get(key) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(text)) => match text.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
            _ => Err(Invalid::SwitchValue(key, text.clone())),
        },
        Some(other) => Err(Invalid::KeyType(key, type_name(other))),
    }
}

/// The capability arguments that the plugin declares and the runtime has.
fn runtime_config(
    plugin: &Map<String, Value>,
    capability_args: &Map<String, Value>,
) -> Map<String, Value> {
    let Some(Value::Object(capabilities)) = plugin.get("capabilities") else {
        return Map::new();
    };
    capabilities
        .iter()
        .filter(|(_, supported)| **supported == Value::Bool(true))
        .filter_map(|(name, _)| capability_args.get_key_value(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const STOCK: &str = include_str!("../../../cni-conf/net.d/10-flannel.conflist");
    const NEWER: &str = include_str!("../../../cni-conf/net.d/10-flannel-1.1.conflist");

    fn parse(list: Value) -> Result<ConfList, String> {
        ConfList::parse(list.to_string().as_bytes(), true).map_err(|error| error.msg)
    }

    #[test]
    fn shipped_lists_are_read() {
        let stock = ConfList::parse(STOCK.as_bytes(), true).unwrap();
        assert_eq!(
            (stock.name.as_str(), stock.cni_version.as_str()),
            ("cbr0", "0.3.1")
        );
        let none = Map::new();
        let stdin = |list: &ConfList, index| {
            String::from_utf8(list.plugin_config(index, &none, None)).unwrap()
        };
        assert_eq!(
            stdin(&stock, 0),
            r#"{"cniVersion":"0.3.1","delegate":{"hairpinMode":true,"isDefaultGateway":true},"name":"cbr0","type":"flannel"}"#
        );
        assert_eq!(
            stdin(&stock, 1),
            r#"{"capabilities":{"portMappings":true},"cniVersion":"0.3.1","name":"cbr0","type":"portmap"}"#
        );
        let newer = ConfList::parse(NEWER.as_bytes(), true).unwrap();
        assert_eq!(newer.cni_version, "1.1.0");
        assert_eq!((newer.name, newer.plugins), (stock.name, stock.plugins));
    }

    #[test]
    fn runtime_config_holds_capabilities_both_declared_and_given() {
        let list = parse(json!({"name": "n", "cniVersion": "1.0.0", "plugins": [
            {"type": "a", "capabilities": {"mac": true, "ips": false, "bandwidth": true}, "name": "other", "x": [1]},
            {"type": "b"},
        ]}))
        .unwrap();
        let args = json!({"mac": "00:11:22:33:44:55", "ips": ["10.0.0.1"], "portMappings": []});
        let config = |index, prev: Option<&Value>| -> Value {
            serde_json::from_slice(&list.plugin_config(index, args.as_object().unwrap(), prev))
                .unwrap()
        };
        let first = config(0, None);
        assert_eq!(first["runtimeConfig"], json!({"mac": "00:11:22:33:44:55"}));
        assert_eq!((&first["name"], &first["x"]), (&json!("n"), &json!([1])));
        let second = config(1, Some(&json!({"ips": []})));
        assert_eq!(
            second,
            json!({"type": "b", "name": "n", "cniVersion": "1.0.0", "prevResult": {"ips": []}})
        );
        assert_eq!(config(7, None)["type"], Value::Null);
    }

    #[test]
    fn newest_supported_version_is_chosen_and_switches_are_read() {
        let list = |extra: Value| {
            let mut list = json!({"name": "n", "cniVersion": "0.4.0", "plugins": [{"type": "a"}]});
            list.as_object_mut()
                .unwrap()
                .extend(extra.as_object().unwrap().clone());
            parse(list)
        };
        let version = |versions: Value| list(json!({"cniVersions": versions})).unwrap().cni_version;
        assert_eq!(version(json!(["0.3.1", "1.0.0", "7.0.0"])), "1.0.0");
        assert_eq!(version(json!(["0.3.1"])), "0.4.0");
        assert_eq!(version(json!([])), "0.4.0");
        assert!(list(json!({"disableCheck": "true"})).unwrap().disable_check);
        assert!(list(json!({"disableGC": true})).unwrap().disable_gc);
        assert!(
            list(json!({"disableCheck": "yes"}))
                .unwrap_err()
                .contains("disableCheck")
        );
    }

    #[test]
    fn errors_have_upstreams_wording() {
        let prefix = "error parsing configuration list: ";
        for (list, message) in [
            (json!({}), "no name"),
            (json!({"name": 1}), "invalid name type number"),
            (json!({"name": "n"}), "no 'plugins' key"),
            (
                json!({"name": "n", "plugins": {}}),
                "invalid 'plugins' type object",
            ),
            (json!({"name": "n", "plugins": []}), "no plugins in list"),
            (
                json!({"name": "n", "plugins": [{"type": "a"}, {}]}),
                "failed to parse plugin config 1: missing 'type'",
            ),
        ] {
            assert_eq!(parse(list).unwrap_err(), format!("{prefix}{message}"));
        }
        let error = |text: &str| ConfList::parse(text.as_bytes(), false).unwrap_err();
        assert_eq!(
            error("{}").msg,
            "error parsing configuration: missing 'type'"
        );
        assert_eq!((error("[]").code, error("").code), (6, 6));
    }

    #[test]
    fn a_single_configuration_is_a_list_of_one() {
        let list = ConfList::parse(
            br#"{"cniVersion":"0.2.0","name":"n","type":"bridge","mtu":9}"#,
            false,
        )
        .unwrap();
        assert_eq!(
            (list.name.as_str(), list.cni_version.as_str()),
            ("n", "0.2.0")
        );
        assert_eq!(list.plugins[0]["mtu"], json!(9));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>(), is_list: bool) {
            ConfList::parse(text.as_bytes(), is_list).ok();
        }
    }
}
