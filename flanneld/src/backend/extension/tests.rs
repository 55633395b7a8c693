//! The keys, backend data, the plan, and runs that end early.

use super::*;
use crate::{
    backend::{
        PeerLeases,
        fixtures::{self, underlay},
    },
    model::lease::{Lease, LeaseAttrs},
    underlay::UnderlayRoutes,
};
use serde_json::json;
use std::fs;

fn error(backend: &str) -> String {
    let config = fixtures::config(backend);
    fixtures::backend(&config).unwrap_err().to_string()
}

#[test]
fn refused_key_is_named() {
    for (backend, text) in [
        (
            r#"{"Type":"extension","SubnetAddCommand":7}"#,
            "error decoding extension backend config: json: cannot unmarshal number 7 into field SubnetAddCommand of \
             type string or a list of strings",
        ),
        (
            r#"{"Type":"extension","PostStartupCommand":["",7]}"#,
            "into field PostStartupCommand of type string",
        ),
        (
            r#"{"Type":"extension","ShutdownCommand":[]}"#,
            "ShutdownCommand: the list names no program",
        ),
        (
            r#"{"Type":"extension","PreStartupCommand":"a\u0000"}"#,
            "PreStartupCommand: a NUL character",
        ),
        (
            r#"{"Type":"extension","CommandTimeout":"30s"}"#,
            "cannot unmarshal string into field CommandTimeout",
        ),
        (
            r#"{"Type":"extension","CommandTimeout":3601}"#,
            "Backend.CommandTimeout 3601 is too long",
        ),
        (r#"{"Type":"extension","MTU":1279}"#, "Backend.MTU 1279"),
    ] {
        let error = error(backend);
        assert!(error.contains(text), "{backend}: {error}");
    }
}

#[test]
fn check_says_what_is_run_and_never_the_text() {
    let config = fixtures::config(
        r#"{"Type":"extension","preStartupCommand":"login secret","SubnetAddCommand":["a","secret"],"CommandTimeout":5}"#,
    );
    let meaning = crate::backend::check(&config).unwrap();
    assert_eq!(
        meaning.text,
        "extension, PreStartupCommand by sh -c, SubnetAddCommand without a shell, each killed after 5 s"
    );
    let backend = fixtures::backend(&config).unwrap();
    assert!(!format!("{backend:?}").contains("secret"), "{backend:?}");
}

#[test]
fn backend_data_is_a_string_or_nothing() {
    let backend = fixtures::backend(&fixtures::config(r#"{"Type":"extension"}"#)).unwrap();
    let text = |text: &str| Ok(PeerData::Text(Some(text.into())));
    assert_eq!(
        backend.decode(Some(&json!("96:59:b2:3f:04:ee"))),
        text("96:59:b2:3f:04:ee")
    );
    for none in [None, Some(json!(null)), Some(json!(""))] {
        assert_eq!(backend.decode(none.as_ref()), Ok(PeerData::Text(None)));
    }
    for bad in [
        json!({"VNI": 1}),
        json!(7),
        json!(["a"]),
        json!("x".repeat(LONGEST_DATA + 1)),
    ] {
        assert!(backend.decode(Some(&bad)).is_err(), "{bad}");
    }
}

fn lease(n: u8, data: Option<&str>) -> Lease {
    Lease {
        subnets: format!("10.244.{n}.0-24&fd00:10:244:{n}::-64")
            .parse()
            .unwrap(),
        attrs: LeaseAttrs {
            public_ip: Some([172, 31, 0, n].into()),
            public_ipv6: Some(format!("fd31::{n}").parse().unwrap()),
            backend_type: "extension".to_owned(),
            backend_data: data.map(Value::from),
            backend_v6_data: data.map(Value::from),
        },
        expiration: None,
    }
}

fn plan(leases: &PeerLeases, own: &Lease, config: &NetworkConfig, backend: &dyn Backend) -> Plan {
    backend.plan(&Input {
        config,
        underlay: &underlay(),
        own,
        leases,
        routes: &UnderlayRoutes::new(&[], |_| false),
    })
}

#[test]
fn peer_of_two_families_is_one_command() {
    let config = fixtures::config(r#"{"Type":"extension"}"#);
    let backend = fixtures::backend(&config).unwrap();
    let own = lease(1, None);
    let mut v4_only = lease(3, None);
    v4_only.subnets.v6 = None;
    v4_only.attrs.public_ipv6 = None;
    let mut bad = lease(4, None);
    bad.attrs.backend_data = Some(json!(7));
    let leases = [own.clone(), lease(2, Some("key 2")), v4_only, bad];
    let plan = plan(
        &fixtures::decoded(&*backend, &leases),
        &own,
        &config,
        &*backend,
    );
    assert_eq!(plan.state, crate::model::host_state::HostState::default());
    assert_eq!(plan.peers.len(), 4, "{:?}", plan.peers);
    assert_eq!(plan.skipped.len(), 1, "{:?}", plan.skipped);
    let wanted = plan.commands.unwrap();
    let value = |variables: &Variables, name: &str| {
        let found = variables.iter().find(|(found, _)| *found == name);
        found.map(|(_, value)| value.clone()).unwrap()
    };
    let own = [
        "NETWORK",
        "SUBNET",
        "IPV6SUBNET",
        "PUBLIC_IP",
        "PUBLIC_IPV6",
    ];
    assert_eq!(
        own.map(|name| value(&wanted.own, name)),
        [
            "10.244.0.0/16",
            "10.244.1.0/24",
            "fd00:10:244:1::/64",
            "172.31.0.1",
            "fd31::1"
        ]
    );
    let peers: Vec<_> = wanted.peers.unwrap().into_values().collect();
    assert_eq!(peers.len(), 3);
    let names = ["SUBNET", "PUBLIC_IP", "IPV6SUBNET", "PUBLIC_IPV6"];
    let values = |peer: &PeerInput| names.map(|name| value(&peer.variables(), name));
    assert_eq!(
        values(&peers[0]),
        [
            "10.244.2.0/24",
            "172.31.0.2",
            "fd00:10:244:2::/64",
            "fd31::2"
        ]
    );
    assert_eq!(peers[0].stdin(), "key 2\n");
    assert_eq!(values(&peers[1]), ["10.244.3.0/24", "172.31.0.3", "", ""]);
    assert_eq!(peers[1].stdin(), "\n");
    // the family of the fourth that cannot be read does not take the other one along
    assert_eq!(values(&peers[2]), ["", "", "fd00:10:244:4::/64", "fd31::4"]);
}

#[tokio::test]
async fn preparation_is_repeated_until_it_succeeds_and_then_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs");
    let command = format!(
        "echo run >> {0}; test $(wc -l < {0}) -ge 3 && echo ' data '",
        file.display()
    );
    let backend = json!({"Type": "extension", "PreStartupCommand": command});
    let keys = Keys::read(&fixtures::config(&backend.to_string())).unwrap();
    let extension = |keys: &Keys| Extension {
        keys: Arc::new(keys.clone()),
        file: folder.path().join("node.commands.json"),
        record: Mutex::default(),
        published: OnceLock::new(),
        wanted: Mutex::default(),
        progress: watch::Sender::default(),
    };
    for _ in 0..2 {
        let extension = extension(&keys);
        assert_eq!(extension.lease_attrs(&underlay()).backend_data, None);
        extension.prepare().await;
        let attrs = extension.lease_attrs(&underlay());
        assert_eq!(attrs.backend_data, Some(json!("data")));
        assert_eq!(attrs.backend_v6_data, Some(json!("data")));
        assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 3);
    }
    let record = Record::load(&folder.path().join("node.commands.json"));
    assert_eq!(record.output_of(&keys.pre), Some("data"));
    let mut rebooted = record;
    rebooted.follow_boot("another boot");
    assert_eq!(rebooted.output_of(&keys.pre), None);
    // without the command there is no data
    let without = Keys::read(&fixtures::config(r#"{"Type":"extension"}"#)).unwrap();
    let without = extension(&without);
    without.prepare().await;
    assert_eq!(without.lease_attrs(&underlay()).backend_data, None);
}
