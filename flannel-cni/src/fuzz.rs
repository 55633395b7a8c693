//! Entry points of the fuzz targets in tests/fuzz. No program calls them.

use crate::{
    conf::Conf,
    derive::{Delegate, derive},
};
use plugin::Call;
use serde_json::Value;
use subnet_env::SubnetEnv;

/// A call: the delegate's configuration is an object with a type, which DEL reads again from the
/// state file, and which is never flannel itself.
pub fn call(call: &Call, env: &SubnetEnv) {
    let Ok(conf) = Conf::of(call) else { return };
    for env in [None, Some(env)] {
        let Ok(delegate) = derive(&conf, env) else {
            continue;
        };
        let text = String::from_utf8_lossy(&delegate.config);
        assert!(!delegate.is_itself(), "{text}");
        let saved = Delegate::from_saved(delegate.config.clone());
        assert_eq!(saved.as_ref(), Some(&delegate), "{text}");
        let config: Value = serde_json::from_str(&text).unwrap_or_default();
        assert_eq!(config["name"], conf.name.as_str(), "{text}");
        assert!(config["ipam"].is_object(), "{text}");
        let ranges = config["ipam"]["ranges"].as_array().map(Vec::len);
        assert!(env.is_none() || ranges.is_some(), "{text}");
    }
}

/// A state file.
pub fn state(bytes: &[u8]) {
    if let Some(saved) = Delegate::from_saved(bytes.to_vec()) {
        saved.is_of_network("cbr0");
        saved.ipam();
        let changed = saved.clone().with([("prevResult", Value::Null)]);
        let again = Delegate::from_saved(changed.without("prevResult").config);
        assert_eq!(
            again.map(|one| one.plugin_type),
            Some(saved.plugin_type),
            "the type stays"
        );
    }
}
