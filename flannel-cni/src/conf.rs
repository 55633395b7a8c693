//! The plugin's own keys. What stands in `delegate` and `ipam` is the delegate's business and kept
//! as it is.
use crate::Error;
use plugin::Call;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::Path;

/// The configuration, as upstream reads it. An explicit "" for a path is kept, and fails later with
/// the name of what is missing.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Conf {
    /// handed on to the delegate unless it is empty
    #[serde(rename = "cniVersion")]
    pub cni_version: String,
    /// handed on to the delegate
    pub name: String,
    /// what flanneld writes
    #[serde(rename = "subnetFile")]
    pub subnet_file: String,
    /// the folder of the state files
    #[serde(rename = "dataDir")]
    pub data_dir: String,
    /// the delegate's configuration, to be completed
    pub delegate: Option<Map<String, Value>>,
    /// the delegate's `ipam`, to be completed
    pub ipam: Option<Map<String, Value>>,
    /// handed on to the delegate
    #[serde(rename = "runtimeConfig")]
    pub runtime_config: Option<Map<String, Value>>,
    /// as the runtime gave it
    #[serde(rename = "prevResult")]
    pub prev_result: Option<Value>,
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
    /// Of a call.
    pub fn of(call: &Call) -> Result<Conf, Error> {
        call.conf().map_err(Error::NetConf)
    }

    /// `dataDir` as a path.
    pub fn data_dir(&self) -> &Path {
        Path::new(&self.data_dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use go_compat::json;

    #[test]
    fn defaults_and_explicit_paths() {
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
