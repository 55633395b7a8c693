//! What a subnet manager's store says of this node before the node holds a lease.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Every field may be absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NodeRecord {
    /// In place of `-public-ip` (Kubernetes: the annotation node-public-ip).
    pub(crate) public_ip: Option<Ipv4Addr>,
    /// In place of `-public-ipv6`.
    pub(crate) public_ipv6: Option<Ipv6Addr>,
    /// What this node published last; the backend keeps the MAC in it.
    pub(crate) backend_data: Option<Value>,
    pub(crate) backend_v6_data: Option<Value>,
}
