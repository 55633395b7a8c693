//! What this node publishes about itself, in upstream's bytes.

use super::{
    Keys, NodeError,
    read::{data, ipv4, ipv6},
};
use crate::{
    model::{
        lease::{BackendData, LeaseAttrs},
        node_record::NodeRecord,
    },
    subnet::kube::Node,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::Ipv4Addr};

/// An annotation of this node that is left out, with the reason.
pub(in crate::subnet::kube) type Ignored = Vec<NodeError>;

impl Keys {
    /// `attrs` with the addresses that an administrator overwrites.
    pub(in crate::subnet::kube) fn overwritten(
        &self,
        attrs: &LeaseAttrs,
        node: &Node,
    ) -> (LeaseAttrs, Ignored) {
        let mut ignored = Vec::new();
        let mut attrs = attrs.clone();
        if let Some(public_ip) = &mut attrs.public_ip
            && let Some(ip) = optional(&self.public_ip_overwrite, node, ipv4, &mut ignored)
        {
            *public_ip = ip;
        }
        if let Some(public_ip) = &mut attrs.public_ipv6
            && let Some(ip) = optional(&self.public_ipv6_overwrite, node, ipv6, &mut ignored)
        {
            *public_ip = ip;
        }
        (attrs, ignored)
    }

    /// The annotations that a node with these attributes has. Upstream leaves out what its vxlan
    /// backend has no device for, and writes `null` and 0.0.0.0 for the other types; extension's
    /// data is empty without PreStartupCommand.
    pub(in crate::subnet::kube) fn published(
        &self,
        attrs: &LeaseAttrs,
    ) -> BTreeMap<String, String> {
        let backend = attrs.backend_type.as_str();
        let no_data = match backend {
            "extension" => "",
            _ => NO_DATA,
        };
        let (data, v6_data) = (
            text(&attrs.backend_data, no_data),
            text(&attrs.backend_v6_data, no_data),
        );
        let mut annotations = BTreeMap::from([
            (self.managed.clone(), "true".to_owned()),
            (self.backend_type.clone(), backend.to_owned()),
        ]);
        if backend != "vxlan" || data != NO_DATA {
            let public_ip = attrs.public_ip.unwrap_or(Ipv4Addr::UNSPECIFIED);
            annotations.insert(self.backend_data.clone(), data);
            annotations.insert(self.public_ip.clone(), public_ip.to_string());
        }
        let has_ipv6 = match backend {
            "vxlan" | "wireguard" => v6_data != NO_DATA,
            "" | "host-gw" | "extension" | "ipip" => true,
            _ => false,
        };
        if let Some(public_ip) = attrs.public_ipv6.filter(|_| has_ipv6) {
            annotations.insert(self.backend_v6_data.clone(), v6_data);
            annotations.insert(self.public_ipv6.clone(), public_ip.to_string());
        }
        annotations
    }

    /// What the annotations say of this node before it has a lease.
    pub(in crate::subnet::kube) fn record(&self, node: &Node) -> (NodeRecord, Ignored) {
        let mut ignored = Vec::new();
        let record = NodeRecord {
            public_ip: optional(&self.node_public_ip, node, ipv4, &mut ignored),
            public_ipv6: optional(&self.node_public_ipv6, node, ipv6, &mut ignored),
            backend_data: optional(&self.backend_data, node, data, &mut ignored),
            backend_v6_data: optional(&self.backend_v6_data, node, data, &mut ignored),
        };
        (record, ignored)
    }
}

/// The body of the patch that makes the node's annotations what they should be, as upstream's
/// library writes it: keys in order, only what differs. None if nothing does.
pub(in crate::subnet::kube) fn patch(
    wanted: &BTreeMap<String, String>,
    node: &Node,
) -> Option<String> {
    let differing: BTreeMap<&String, &String> = wanted
        .iter()
        .filter(|(key, value)| node.annotations.get(*key) != Some(*value))
        .collect();
    let body = || json!({"metadata": {"annotations": differing}}).to_string();
    (!differing.is_empty()).then(body)
}

const NO_DATA: &str = "null";

fn text(data: &Option<Value>, no_data: &str) -> String {
    let Some(data) = data else {
        return no_data.to_owned();
    };
    // a value of JSON has no part that JSON cannot express
    serde_json::to_string(&BackendData(data)).unwrap_or_else(|_| data.to_string())
}

/// The value of an annotation that may be missing; one that cannot be used goes to `ignored`.
fn optional<T>(
    key: &str,
    node: &Node,
    read: fn(&str, &str) -> Result<T, NodeError>,
    ignored: &mut Ignored,
) -> Option<T> {
    let value = node.annotation(key);
    if value.is_empty() {
        return None;
    }
    match read(key, value) {
        Ok(value) => Some(value),
        Err(error) => {
            ignored.push(error);
            None
        }
    }
}
