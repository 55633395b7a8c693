//! The tables of the documentation are those of the code: each backend's keys with their defaults,
//! and the MTU of pods.

use super::{Backend, fixtures, registry::TYPES, wireguard};
use crate::model::network_config::NetworkConfig;
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, sync::Arc};

const PAGES: [&str; 2] = [
    include_str!("../../../docs/backends.md"),
    include_str!("../../../docs/flanneld.md"),
];

const V4: &str = r#""Network":"10.244.0.0/16""#;
const V6: &str = r#""EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00:10:244::/48""#;
const DUAL: &str =
    r#""Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48""#;

/// The rows of the table with this head, below the heading.
fn rows(heading: &str, head: &str) -> Vec<Vec<&'static str>> {
    let below = |page: &'static str| {
        let mut lines = page.lines();
        lines.find(|line| line.starts_with("##") && line.trim_start_matches(['#', ' ']) == heading);
        let section = lines.take_while(|line| !line.starts_with('#'));
        let table = section.skip_while(|line| *line != head).skip(2);
        let rows = table.take_while(|line| line.starts_with('|'));
        let cells = |line: &'static str| line.split('|').skip(1).map(str::trim).collect();
        rows.map(cells).collect::<Vec<_>>()
    };
    PAGES.into_iter().flat_map(below).collect()
}

/// The value that a table gives as the default: `51820`, "0 (off)", "none", "the interface's".
fn default_value(cell: &str) -> Value {
    let word = cell.split(' ').next().unwrap_or_default();
    match word.trim_matches('`') {
        "none" => "".into(),
        "the" | "that" => 0.into(),
        word => serde_json::from_str(word).unwrap_or_else(|_| word.into()),
    }
}

/// A network configuration with this backend, and what it cannot do without.
fn config(networks: &str, backend: &str, key: Option<(&str, Value)>) -> NetworkConfig {
    let mut object = Map::from_iter([("Type".to_owned(), backend.into())]);
    if backend == "ipsec" {
        object.insert("PSK".to_owned(), "0".repeat(96).into());
    }
    object.extend(key.map(|(key, value)| (key.to_owned(), value)));
    let backend = Value::Object(object);
    NetworkConfig::parse(&format!(r#"{{{networks},"Backend":{backend}}}"#)).unwrap()
}

fn build(config: &NetworkConfig) -> Arc<dyn Backend> {
    match config.backend_type.as_str() {
        "wireguard" => wireguard::tests::without_file(config),
        _ => fixtures::backend(config).unwrap(),
    }
}

#[test]
fn documented_keys_are_those_of_the_code_and_have_the_documented_defaults() {
    for backend in &TYPES {
        let config = |key| config(DUAL, backend.name, key);
        let rows = rows(backend.name, "| key | default | meaning |");
        let names = rows.iter().map(|row| row[0].trim_matches('`'));
        let documented: BTreeSet<_> = names.collect();
        let keys = backend.keys.iter().copied().collect();
        assert_eq!(documented, keys, "{}", backend.name);
        let without = format!("{:?}", build(&config(None)));
        for row in rows {
            let key = row[0].trim_matches('`');
            let unread = config(Some((key, json!({}))));
            assert!((backend.check)(&unread).is_err(), "{key} is not read");
            if (backend.name, key) == ("ipsec", "PSK") {
                continue;
            }
            let value = default_value(row[1]);
            let with = format!("{:?}", build(&config(Some((key, value)))));
            assert_eq!(with, without, "{} {key}", backend.name);
        }
    }
}

#[test]
fn documented_mtus_are_what_pods_get() {
    let head = "| backend | IPv4 alone | IPv6 alone | both | the interface's least MTU with IPv6 |";
    let rows = rows("MTU and offloads", head);
    let mut named = BTreeSet::new();
    for row in rows {
        for name in row[0].split(", ") {
            let (name, key) = match name.split_once(" with ") {
                Some((name, key)) => (name, Some((key.trim_matches('`'), true.into()))),
                None => (name, None),
            };
            named.insert(name);
            let mtus = [V4, V6, DUAL].map(|networks| {
                let backend = build(&config(networks, name, key.clone()));
                backend.pod_mtu(&fixtures::underlay()).to_string()
            });
            assert_eq!(row[1..4], mtus, "{name}");
            let headers = 1500 - mtus[2].parse::<u32>().unwrap();
            assert_eq!(row[4], (1280 + headers).to_string(), "{name}");
        }
    }
    assert_eq!(named, TYPES.iter().map(|backend| backend.name).collect());
}
