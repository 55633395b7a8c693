//! The network configuration of one plugin: the keys that are common to all plugins (CNI spec
//! section 1).

use crate::{AddResult, Code, Dns, Error, Version, ids, version};
use go_compat::json::{self, Document};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// An entry of `cni.dev/valid-attachments` (types.GCAttachment in Go).
#[derive(
    Debug,
    Clone,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(default)]
pub struct GcAttachment {
    /// CNI_CONTAINERID
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// CNI_IFNAME
    pub ifname: String,
}

/// The keys that are common to all plugins.
#[derive(Debug, Clone)]
pub struct NetConf {
    /// `cniVersion`, which the plugin supports.
    pub version: Version,
    /// `name` of the network.
    pub name: String,
    /// `type`
    pub plugin_type: String,
    /// `ipam.type`, "" if there is none.
    pub ipam_type: String,
    /// `dns`
    pub dns: Dns,
    /// `capabilities`
    pub capabilities: BTreeMap<String, bool>,
    /// `prevResult`
    pub prev_result: Option<AddResult>,
    /// `cni.dev/valid-attachments` (or the older `cni.dev/attachments`); None if the key is absent.
    pub valid_attachments: Option<Vec<GcAttachment>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Raw {
    #[serde(rename = "cniVersion")]
    cni_version: String,
    name: String,
    #[serde(rename = "type")]
    plugin_type: String,
    ipam: RawIpam,
    dns: Dns,
    capabilities: BTreeMap<String, bool>,
    #[serde(rename = "prevResult")]
    prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<GcAttachment>>,
    #[serde(rename = "cni.dev/attachments")]
    attachments: Option<Vec<GcAttachment>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
#[allow(dead_code, reason = "only whether it can be read matters")]
struct Named {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Versioned {
    #[serde(rename = "cniVersion")]
    cni_version: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawIpam {
    #[serde(rename = "type")]
    plugin_type: String,
}

impl NetConf {
    /// Reads the common keys with skel's codes and messages: 6 `error unmarshall network config:`,
    /// 7 for the name, 1 for the version. A malformed prevResult is an error only if the verb needs
    /// it (ADD, CHECK): DEL never fails on it.
    pub fn read(
        document: &Document,
        supported: &[Version],
        prev_result_needed: bool,
    ) -> Result<NetConf, Error> {
        let raw: Raw = document.decode().map_err(malformed)?;
        ids::check_network_name(&raw.name)?;
        let version = version::negotiate(&raw.cni_version, supported)?;
        NetConf::of(raw, version, prev_result_needed)
    }

    /// As [`read`](Self::read), for DEL: a key with a value of the wrong type counts as absent. A
    /// version of the wrong type counts as the newest supported one.
    pub fn read_for_del(document: &Document, supported: &[Version]) -> Result<NetConf, Error> {
        let raw: Raw = document.decode_what_fits().map_err(malformed)?;
        // the one key that DEL needs
        document.decode::<Named>().map_err(malformed)?;
        ids::check_network_name(&raw.name)?;
        let version = match document.decode::<Versioned>() {
            Ok(Versioned { cni_version }) => version::negotiate(&cni_version, supported)?,
            Err(_) => supported.last().copied().unwrap_or(Version::CURRENT),
        };
        NetConf::of(raw, version, false)
    }

    fn of(raw: Raw, version: Version, prev_result_needed: bool) -> Result<NetConf, Error> {
        let prev_result = match raw.prev_result.map(|value| prev_result(value, version)) {
            Some(Err(error)) if prev_result_needed => {
                return Err(Error::internal(format!(
                    "could not parse prevResult: {error}"
                )));
            }
            Some(result) => result.ok(),
            None => None,
        };
        Ok(NetConf {
            version,
            name: raw.name,
            plugin_type: raw.plugin_type,
            ipam_type: raw.ipam.plugin_type,
            dns: raw.dns,
            capabilities: raw.capabilities,
            prev_result,
            valid_attachments: raw.valid_attachments.or(raw.attachments),
        })
    }
}

/// Parses a plugin's stdin, for [`NetConf::read`] and for the keys of the plugin itself.
pub fn parse(config: &[u8]) -> Result<Document, Error> {
    Document::parse(config).map_err(malformed)
}

fn malformed(error: json::Error) -> Error {
    Error::new(
        Code::Decode,
        format!("error unmarshall network config: {error}"),
    )
}

/// A prevResult has the shape of the configuration's version. As upstream, refuses one that names a
/// version of another shape.
fn prev_result(value: Value, config: Version) -> Result<AddResult, Error> {
    let document = Document::from(value);
    let Versioned { cni_version } = document.decode().map_err(Error::internal)?;
    let family = config.family();
    if !cni_version.is_empty() && !family.iter().any(|v| v.as_str() == cni_version) {
        let family: Vec<_> = family.iter().map(|v| v.as_str()).collect();
        return Err(Error::internal(format!(
            "result type supports [{}] but unmarshalled CNIVersion is {cni_version:?}",
            family.join(" ")
        )));
    }
    AddResult::read(&document, config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(config: &[u8], prev_result_needed: bool) -> Result<NetConf, Error> {
        NetConf::read(&super::parse(config)?, Version::ALL, prev_result_needed)
    }

    fn parse(config: Value) -> Result<NetConf, (u32, String)> {
        read(config.to_string().as_bytes(), true).map_err(|error| (error.code, error.msg))
    }

    #[test]
    fn common_keys_are_read() {
        let conf = parse(json!({
            "cniVersion": "0.4.0", "name": "cbr0", "TYPE": "bridge", "ipam": {"type": "host-local", "ranges": 5},
            "capabilities": {"portMappings": true}, "dns": {"nameservers": ["1.1.1.1"]}, "own": [],
            "prevResult": {"ips": [{"version": "4", "address": "10.0.0.2/8"}], "dns": {}},
        }))
        .unwrap();
        assert_eq!(
            (conf.version, conf.name.as_str()),
            (Version::V0_4_0, "cbr0")
        );
        assert_eq!(
            (conf.plugin_type.as_str(), conf.ipam_type.as_str()),
            ("bridge", "host-local")
        );
        assert_eq!(conf.dns.nameservers, ["1.1.1.1"]);
        assert!(conf.capabilities["portMappings"]);
        assert_eq!(conf.prev_result.unwrap().ips.len(), 1);
        assert_eq!(conf.valid_attachments, None);
    }

    #[test]
    fn del_reads_what_fits() {
        let config = json!({
            "cniVersion": 5, "name": "n", "type": [], "ipam": {"type": "host-local", "ranges": 5},
            "dns": "x", "capabilities": {"a": 1}, "prevResult": 7, "cni.dev/attachments": {},
        });
        let document = super::parse(config.to_string().as_bytes()).unwrap();
        assert!(NetConf::read(&document, Version::ALL, false).is_err());
        let conf = NetConf::read_for_del(&document, Version::ALL).unwrap();
        assert_eq!(
            (conf.version, conf.name.as_str(), conf.ipam_type.as_str()),
            (Version::CURRENT, "n", "host-local")
        );
        for (config, code) in [
            (json!({"name": 5}), 6),
            (json!({}), 7),
            (json!({"name": "n", "cniVersion": "9.9.9"}), 1),
            (json!([]), 6),
        ] {
            let document = super::parse(config.to_string().as_bytes()).unwrap();
            let refused = NetConf::read_for_del(&document, Version::ALL).unwrap_err();
            assert_eq!(refused.code, code, "{config}");
        }
    }

    #[test]
    fn valid_attachments_have_two_names() {
        let list = json!([{"containerID": "c", "ifname": "eth0"}]);
        let only = |key: &str| {
            let conf = parse(json!({"name": "n", key: list})).unwrap();
            conf.valid_attachments.unwrap()
        };
        let attachment = GcAttachment {
            container_id: "c".into(),
            ifname: "eth0".into(),
        };
        assert_eq!(
            only("cni.dev/valid-attachments"),
            only("cni.dev/attachments")
        );
        assert_eq!(only("cni.dev/attachments"), [attachment]);
        let both = parse(
            json!({"name": "n", "cni.dev/valid-attachments": [], "cni.dev/attachments": list}),
        );
        assert_eq!(both.unwrap().valid_attachments, Some(vec![]));
    }

    #[test]
    fn errors_come_in_skels_order() {
        let error = |config: &[u8]| read(config, true).unwrap_err();
        let broken = error(b"{");
        assert_eq!(broken.code, 6);
        assert!(broken.msg.starts_with("error unmarshall network config: "));
        assert_eq!(error(b"{\"name\":1}").code, 6);
        assert_eq!(error(b"{\"cniVersion\":\"9\"}").msg, "missing network name");
        assert_eq!(error(b"{\"cniVersion\":\"9\",\"name\":\"a/b\"}").code, 7);
        assert_eq!(error(b"{\"cniVersion\":\"9\",\"name\":\"a\"}").code, 1);
    }

    #[test]
    fn prev_result_of_another_shape_is_refused() {
        let config =
            json!({"name": "n", "cniVersion": "1.0.0", "prevResult": {"cniVersion": "0.2.0"}});
        assert_eq!(
            parse(config.clone()).unwrap_err(),
            (999, "could not parse prevResult: result type supports [1.0.0 1.1.0] but unmarshalled CNIVersion is \"0.2.0\"".into())
        );
        let del = read(config.to_string().as_bytes(), false).unwrap();
        assert_eq!(del.prev_result, None);
        let null = parse(json!({"name": "n", "prevResult": null})).unwrap();
        assert_eq!(null.prev_result, None);
    }

    proptest! {
        #[test]
        fn no_value_panics(text in any::<String>(), key in "name|cniVersion|ipam|dns|prevResult|cni.dev/attachments") {
            for value in [json!(text), json!([text]), json!({"type": text, "ips": [text]}), json!(null)] {
                let mut config = json!({"name": "n"});
                config[&key] = value;
                parse(config).ok();
            }
        }
    }
}
