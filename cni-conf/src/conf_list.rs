//! Conf lists: what a runtime reads from /etc/cni/net.d (CNI spec section 1), and one plugin's
//! configuration derived from it. Keys of a list are matched exactly, as upstream's libcni does;
//! the plugins match theirs by the rules of [`go_json`](go_compat::json).
use crate::{Code, Error, Version};
use go_compat::json;
use serde_json::{Map, Value};

/// A conf list; unknown keys are kept in `plugins`.
#[derive(Debug, Clone)]
pub struct ConfList {
    /// `cniVersion`, "" is 0.1.0; with `cniVersions` the newest that we support
    pub cni_version: String,
    /// `name`
    pub name: String,
    /// `disableCheck`
    pub disable_check: bool,
    /// `disableGC`
    pub disable_gc: bool,
    /// the chain, each object whole
    pub plugins: Vec<Map<String, Value>>,
}

impl ConfList {
    /// From a `.conflist` file's bytes, or a single `.conf`/`.json` configuration (then a list of
    /// one). Code 6 for what is no JSON object, 7 for a key that is missing or of a wrong type.
    pub fn parse(bytes: &[u8], is_list: bool) -> Result<ConfList, Error> {
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
        list.map_err(|why| Error::new(Code::InvalidNetworkConfig, format!("{what}: {why}")))
    }

    /// The stdin of plugin `index`: name and cniVersion injected, runtimeConfig by its declared
    /// capabilities from `capability_args` (left out if empty), prevResult if given. An index
    /// beyond the chain gives a configuration without a type.
    pub fn plugin_config(
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

fn list(object: &Map<String, Value>) -> Result<ConfList, String> {
    let name = text(object, "name")?.ok_or("no name")?;
    let plugins = match object.get("plugins") {
        None => return Err("no 'plugins' key".into()),
        Some(Value::Array(plugins)) if plugins.is_empty() => {
            return Err("no plugins in list".into());
        }
        Some(Value::Array(plugins)) => plugins,
        Some(other) => return Err(format!("invalid 'plugins' type {}", kind(other))),
    };
    Ok(ConfList {
        cni_version: cni_version(object)?,
        name,
        disable_check: switch(object, "disableCheck")?,
        disable_gc: switch(object, "disableGC")?,
        plugins: plugins
            .iter()
            .enumerate()
            .map(|(index, plugin)| {
                plugin_object(plugin)
                    .map_err(|why| format!("failed to parse plugin config {index}: {why}"))
            })
            .collect::<Result<_, _>>()?,
    })
}

fn single(object: Map<String, Value>) -> Result<ConfList, String> {
    Ok(ConfList {
        cni_version: text(&object, "cniVersion")?.unwrap_or_default(),
        name: text(&object, "name")?.unwrap_or_default(),
        disable_check: false,
        disable_gc: false,
        plugins: vec![plugin_object(&Value::Object(object))?],
    })
}

fn plugin_object(plugin: &Value) -> Result<Map<String, Value>, String> {
    let Value::Object(plugin) = plugin else {
        return Err(format!(
            "invalid type {}, a plugin is an object",
            kind(plugin)
        ));
    };
    match text(plugin, "type")? {
        Some(plugin_type) if !plugin_type.is_empty() => Ok(plugin.clone()),
        _ => Err("missing 'type'".into()),
    }
}

/// `cniVersion`; where `cniVersions` is given as well, the newest of both that we speak.
fn cni_version(object: &Map<String, Value>) -> Result<String, String> {
    let own = text(object, "cniVersion")?.unwrap_or_default();
    let listed = match object.get("cniVersions") {
        None | Some(Value::Null) => return Ok(own),
        Some(Value::Array(versions)) => versions,
        Some(other) => return Err(format!("invalid type for cniVersions: {}", kind(other))),
    };
    let mut newest = Version::parse(&own).filter(|_| !own.is_empty());
    for version in listed {
        let Value::String(version) = version else {
            return Err(format!(
                "invalid type for cniVersions item: {}",
                kind(version)
            ));
        };
        newest = newest.max(Version::parse(version));
    }
    Ok(newest.map_or(own, |version| version.to_string()))
}

fn text(object: &Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match object.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("invalid {key} type {}", kind(other))),
    }
}

/// A boolean, also written as text in one of the forms of Go's strconv.ParseBool.
fn switch(object: &Map<String, Value>, key: &str) -> Result<bool, String> {
    match object.get(key) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(text)) => match text.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
            _ => Err(format!("invalid value for {key}: {text:?}")),
        },
        Some(other) => Err(format!("invalid type for {key}: {}", kind(other))),
    }
}

/// What the plugin declares it can do and the runtime has something for.
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

fn kind(value: &Value) -> &'static str {
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

    const STOCK: &str = include_str!("../net.d/10-flannel.conflist");
    const NEWER: &str = include_str!("../net.d/10-flannel-1.1.conflist");

    fn parse(list: Value) -> Result<ConfList, String> {
        ConfList::parse(list.to_string().as_bytes(), true).map_err(|error| error.msg)
    }

    #[test]
    fn the_lists_that_ship() {
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
    fn capabilities_that_are_declared_and_given() {
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
    fn versions_and_switches() {
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
    fn messages() {
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
