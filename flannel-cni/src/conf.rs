//! The plugin's own keys. Those of `delegate` and `ipam` are passed on as they are.

use crate::Error;
use plugin::Call;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::Path;

/// The configuration, as upstream reads it. An explicit "" for a path replaces the default and
/// fails when the path is used.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct Conf {
    #[serde(rename = "cniVersion")]
    pub(crate) cni_version: String,
    pub(crate) name: String,
    #[serde(rename = "subnetFile")]
    pub(crate) subnet_file: String,
    #[serde(rename = "dataDir")]
    pub(crate) data_dir: String,
    pub(crate) delegate: Option<Map<String, Value>>,
    pub(crate) ipam: Option<Map<String, Value>>,
    #[serde(rename = "runtimeConfig")]
    pub(crate) runtime_config: Option<Map<String, Value>>,
    #[serde(rename = "prevResult")]
    pub(crate) prev_result: Option<Value>,
}

impl Default for Conf {
    fn default() -> Self {
        Conf {
            cni_version: String::new(),
            name: String::new(),
            subnet_file: "/run/flannel/subnet.env".to_owned(),
            data_dir: "/var/lib/cni/flannel".to_owned(),
            delegate: None,
            ipam: None,
            runtime_config: None,
            prev_result: None,
        }
    }
}

impl Conf {
    pub(crate) fn of(call: &Call) -> Result<Conf, Error> {
        call.conf().map_err(Error::NetConf)
    }

    /// The folder of the state files.
    pub(crate) fn data_dir(&self) -> &Path {
        Path::new(&self.data_dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use go_compat::json;

    #[test]
    fn null_leaves_the_default_and_an_empty_path_replaces_it() {
        let read = |text: &str| json::from_slice::<Conf>(text.as_bytes()).unwrap();
        let conf = read(r#"{"name":"n","subnetFile":null,"delegate":null}"#);
        assert_eq!(conf.subnet_file, "/run/flannel/subnet.env");
        assert_eq!(conf.data_dir(), Path::new("/var/lib/cni/flannel"));
        assert_eq!(conf.delegate, None);
        let conf = read(r#"{"SubnetFile":"","datadir":"/d"}"#);
        assert_eq!(
            (conf.subnet_file.as_str(), conf.data_dir.as_str()),
            ("", "/d")
        );
    }

    #[test]
    fn wrong_types_name_the_key() {
        for key in ["subnetFile", "dataDir", "delegate", "ipam", "runtimeConfig"] {
            let text = format!("{{\"{key}\":5}}");
            let error = json::from_slice::<Conf>(text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
    }
}
