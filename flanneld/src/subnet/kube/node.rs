//! What this daemon keeps of a Node object.

use std::collections::BTreeMap;

/// A Node object without the many parts that nothing here reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// Another one: the object was deleted and made again.
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    /// The annotations of our prefix ([`super::Keys::has_prefix`]), by their whole key.
    pub(crate) annotations: BTreeMap<String, String>,
    /// `spec.podCIDRs`; where that is empty, `spec.podCIDR` unless it is empty, too.
    pub(crate) pod_cidrs: Vec<String>,
    /// The condition NetworkUnavailable; read for this daemon's own node only.
    pub(crate) network_unavailable: Option<Condition>,
}

/// A condition of a node, without its times and its message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    /// "True", "False" or "Unknown".
    pub(crate) status: String,
    /// A word: "FlannelIsUp".
    pub(crate) reason: String,
}

impl Node {
    /// The annotation's value; empty if there is none, as upstream reads it.
    pub(super) fn annotation(&self, key: &str) -> &str {
        self.annotations.get(key).map_or("", String::as_str)
    }
}
