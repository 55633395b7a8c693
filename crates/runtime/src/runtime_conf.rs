//! The parameters of a call that concern one attachment.

use serde_json::{Map, Value};

/// The parameters of an attachment (CNI spec section 2).
#[derive(Debug, Clone, Default)]
pub struct RuntimeConf {
    /// CNI_CONTAINERID
    pub container_id: String,
    /// CNI_NETNS, "" for a DEL without a namespace.
    pub netns: String,
    /// CNI_IFNAME
    pub ifname: String,
    /// The pairs of CNI_ARGS.
    pub args: Vec<(String, String)>,
    /// Capability arguments, for plugins that declare them.
    pub capability_args: Map<String, Value>,
}
