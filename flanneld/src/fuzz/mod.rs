//! Entry points of the fuzz targets in tests/fuzz: each takes what an outside party writes, as the
//! daemon does. No program calls them.

use crate::{
    model::network_config::NetworkConfig,
    subnet::{embedded, etcd, kube, transfer::Export},
};

/// What a lease server sends to a watch.
pub fn lease_watch(bytes: &[u8]) {
    embedded::fuzz_watch(bytes);
}

/// What clients of the lease server send.
pub fn lease_request(bytes: &[u8]) {
    embedded::fuzz_request(bytes);
}

/// The document of `flanneld lease import`.
pub fn lease_document(bytes: &[u8]) {
    if let Ok(export) = Export::parse(bytes) {
        drop(export.to_text());
    }
}

/// net-conf.json.
pub fn net_conf(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(mut config) = NetworkConfig::parse(&text) {
        drop(config.check_subnets());
    }
}

/// A key of etcd, a line feed, and its value.
pub fn etcd_lease(bytes: &[u8]) {
    etcd::fuzz_lease(bytes);
}

/// The stream of a watch of nodes.
pub fn kube_watch(bytes: &[u8]) {
    kube::fuzz::events(bytes);
}

/// A page of a list of nodes.
pub fn kube_list(bytes: &[u8]) {
    kube::fuzz::list(bytes);
}

/// A node's annotations and podCIDRs.
pub fn kube_annotations(bytes: &[u8]) {
    kube::fuzz::annotations(bytes);
}
