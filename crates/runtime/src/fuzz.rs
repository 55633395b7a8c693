//! Entry points of the fuzz targets in tests/fuzz. No program calls them.

use crate::{Versions, cache::Entry, conf_list::ConfList, version};
use serde_json::{Map, Value, json};

/// A file of the configuration folder: every plugin's stdin is an object with the list's name.
pub fn conf_list(bytes: &[u8]) {
    for is_list in [true, false] {
        let Ok(list) = ConfList::parse(bytes, is_list) else {
            continue;
        };
        version(&list).ok();
        let mut args = Map::new();
        args.insert("portMappings".to_owned(), json!([]));
        for index in 0..list.plugins.len() {
            let config = list.plugin_config(index, &args, Some(&json!({"ips": []})));
            let config: Value = serde_json::from_slice(&config).unwrap_or_default();
            assert_eq!(config["name"], list.name.as_str());
            assert_eq!(config["cniVersion"], list.cni_version.as_str());
            assert!(config["prevResult"]["ips"].is_array());
        }
    }
}

/// What a plugin answers to VERSION.
pub fn versions(bytes: &[u8]) {
    drop(go_compat::json::from_slice::<Versions>(bytes));
}

/// A file of the cache of results.
pub fn cached(bytes: &[u8]) {
    if let Ok(entry) = go_compat::json::from_slice::<Entry>(bytes) {
        entry.attachment();
        entry.runtime_conf();
    }
}
