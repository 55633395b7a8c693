//! Entry points of the fuzz targets in tests/fuzz: each takes what an outside party writes, as the
//! daemon does. No program calls them.

mod plan;

use crate::{
    backend, cli, command, data_path, files,
    model::network_config::NetworkConfig,
    pki,
    subnet::{embedded, etcd, kube, transfer::Export},
};
use hyper::StatusCode;

pub use plan::peers;

/// What a lease server sends to a watch.
pub fn lease_watch(bytes: &[u8]) {
    embedded::fuzz_watch(bytes);
}

/// An answer of a lease store to a request about one object: its status, a line feed, and its body.
pub fn store_answer(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (status, body) = bytes.split_at(end.unwrap_or(bytes.len()));
    let body = body.get(1..).unwrap_or_default();
    if let Ok(status) = StatusCode::from_bytes(status) {
        embedded::fuzz_answer(status, body);
        kube::fuzz_answer(status, body);
        // codes of gRPC begin at 0
        etcd::fuzz_answer(status.as_u16() - 100, &String::from_utf8_lossy(body));
    }
}

/// What the process that moves packets is told.
pub fn data_path(bytes: &[u8]) {
    data_path::fuzz(bytes);
}

/// What clients of the lease server ask the store for.
pub fn lease_request(bytes: &[u8]) {
    embedded::fuzz_request(bytes);
}

/// A request to the lease server: method and path, a line feed, and the body.
pub fn lease_api(bytes: &[u8]) {
    embedded::fuzz_api(bytes);
}

/// The file of the lease server.
pub fn lease_store(bytes: &[u8]) {
    embedded::fuzz_store(bytes);
}

/// The entries of that file: a line each, of table, key and value, with tabs between them.
pub fn lease_store_entries(bytes: &[u8]) {
    embedded::fuzz_store_entries(bytes);
}

/// The document of `flanneld lease import`. What is exported again is the same.
pub fn lease_document(bytes: &[u8]) {
    let Ok(export) = Export::parse(bytes) else {
        return;
    };
    let text = export.to_text().unwrap_or_default();
    let again = Export::parse(text.as_bytes());
    assert_eq!(again.ok(), Some(export), "{text}");
}

/// net-conf.json: of two configurations with a line of `---` between them, what each means and how
/// they differ.
pub fn net_conf(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (one, other) = text.split_once("\n---\n").unwrap_or((&text, "{}"));
    let Ok(config) = NetworkConfig::parse(one) else {
        return;
    };
    backend::check(&config).ok();
    config.unknown_keys(backend::keys(&config));
    assert!(config.changes(&config).is_empty(), "{one}");
    if let Ok(other) = NetworkConfig::parse(other) {
        let (there, back) = (config.changes(&other), other.changes(&config));
        assert_eq!(there.len(), back.len(), "{one}\n{}", other.raw);
    }
    let mut checked = config.clone();
    if checked.check_subnets().is_err() {
        return;
    }
    let (min, max) = (checked.subnet_min, checked.subnet_max);
    assert!(!checked.enable_ipv4 || min <= max, "{checked:?}");
    let (min, max) = (checked.ipv6_subnet_min, checked.ipv6_subnet_max);
    assert!(!checked.enable_ipv6 || min <= max, "{checked:?}");
    for (key, network) in checked.networks() {
        let (length, longest) = match key {
            "Network" => (checked.subnet_len, 30),
            _ => (checked.ipv6_subnet_len, 126),
        };
        assert!((network.prefix() + 2..=longest).contains(&length), "{key}");
    }
    // the defaults are values that can be given
    let mut again = checked.clone();
    assert!(again.check_subnets().is_ok() && again == checked, "{one}");
}

/// A packet of strongSwan's charon, without its length.
pub fn vici(bytes: &[u8]) {
    backend::fuzz_vici(bytes);
}

/// Keys of etcd and their values, a line each, with a tab between them.
pub fn etcd_leases(bytes: &[u8]) {
    etcd::fuzz_leases(bytes);
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

/// A kubeconfig, or the URL of an API server.
pub fn kubeconfig(bytes: &[u8]) {
    kube::fuzz_source(&String::from_utf8_lossy(bytes));
}

/// What the daemon keeps on the disk: node.json, the last leases, and the record of commands.
pub fn node_files(bytes: &[u8]) {
    files::fuzz(bytes);
    backend::fuzz_record(bytes);
}

/// A certificate, as DER and as PEM.
pub fn certificate(bytes: &[u8]) {
    pki::fuzz(bytes);
}

/// The command line, a line each argument; `FLANNELD_X=value` is a variable.
pub fn command_line(bytes: &[u8]) {
    cli::fuzz(&String::from_utf8_lossy(bytes));
}

/// What the install commands read: an executable, a configuration, and their record.
pub fn installed_files(bytes: &[u8]) {
    command::fuzz(bytes);
}
