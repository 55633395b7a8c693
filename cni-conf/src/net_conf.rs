//! One plugin's network configuration: the part that is common to all plugins (CNI spec section 1).
use crate::{AddResult, Dns, Error, Version};
use std::collections::BTreeMap;

/// Who is attached, as GC is told (`cni.dev/valid-attachments`).
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Attachment {
    /// container id
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// interface name
    pub ifname: String,
}

/// The common keys. Plugins read their own keys from the same bytes with `go_json::from_slice`.
#[derive(Debug, Clone)]
pub struct NetConf {
    /// The config's version, already negotiated.
    pub version: Version,
    /// `name`
    pub name: String,
    /// `type`
    pub plugin_type: String,
    /// `ipam.type`, "" if there is none
    pub ipam_type: String,
    /// `dns`
    pub dns: Dns,
    /// `capabilities`
    pub capabilities: BTreeMap<String, bool>,
    /// `prevResult`, converted to the newest shape
    pub prev_result: Option<AddResult>,
    /// `cni.dev/valid-attachments` (or the older `cni.dev/attachments`); None if the key is absent
    pub valid_attachments: Option<Vec<Attachment>>,
}

impl NetConf {
    /// Reads the common keys; codes and messages as skel's (6 `error unmarshall network config: ...`, 7 ..., 1 ...).
    /// A prevResult that does not parse is an error only for `prev_result_needed` (ADD, CHECK): DEL must never fail on it.
    pub fn parse(
        _bytes: &[u8],
        _supported: &[Version],
        _prev_result_needed: bool,
    ) -> Result<NetConf, Error> {
        todo!()
    }
}
