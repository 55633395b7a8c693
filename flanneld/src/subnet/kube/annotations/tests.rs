use super::*;
use crate::{model::lease::LeaseAttrs, subnet::kube::Node};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const V4: Families = Families {
    ipv4: true,
    ipv6: false,
};
const BOTH: Families = Families {
    ipv4: true,
    ipv6: true,
};
const V6: Families = Families {
    ipv4: false,
    ipv6: true,
};
const PREFIX: &str = "flannel.alpha.coreos.com/";

fn keys() -> Keys {
    Keys::new("flannel.alpha.coreos.com").unwrap()
}

/// A dual-stack node as Go flanneld leaves it.
fn node() -> Node {
    let annotations = [
        ("kube-subnet-manager", "true"),
        ("backend-type", "vxlan"),
        ("backend-data", r#"{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"}"#),
        (
            "backend-v6-data",
            r#"{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e4"}"#,
        ),
        ("public-ip", "192.168.1.2"),
        ("public-ipv6", "fd00:1::2"),
    ];
    Node {
        name: "n1".into(),
        annotations: annotations
            .map(|(key, value)| (format!("{PREFIX}{key}"), value.to_owned()))
            .into(),
        pod_cidrs: vec!["10.244.1.0/24".into(), "fd00:10:244:1::/64".into()],
        ..Node::default()
    }
}

fn with(name: &str, value: &str) -> Node {
    let mut node = node();
    node.annotations
        .insert(format!("{PREFIX}{name}"), value.to_owned());
    node
}

fn attrs(node: &Node) -> LeaseAttrs {
    let lease = keys().lease_of(node, BOTH).unwrap().unwrap();
    assert_eq!(lease.skipped, None);
    lease.lease.attrs
}

#[test]
fn prefixes_follow_upstreams_table() {
    for (prefix, backend_type) in [
        (
            "flannel.alpha.coreos.com",
            Some("flannel.alpha.coreos.com/backend-type"),
        ),
        (
            "flannel.alpha.coreos.com/",
            Some("flannel.alpha.coreos.com/backend-type"),
        ),
        (
            "flannel.alpha.coreos.com/prefix",
            Some("flannel.alpha.coreos.com/prefix-backend-type"),
        ),
        (
            "flannel.alpha.coreos.com/prefix-",
            Some("flannel.alpha.coreos.com/prefix-backend-type"),
        ),
        ("org.com", Some("org.com/backend-type")),
        ("org9.com", Some("org9.com/backend-type")),
        ("org.com/9", Some("org.com/9-backend-type")),
        ("org", None),
        ("org/", None),
        ("org/prefix", None),
        ("org.COM", None),
        ("org.com/PREFIX", None),
    ] {
        let keys = Keys::new(prefix);
        assert_eq!(
            keys.as_ref().ok().map(|keys| keys.backend_type.as_str()),
            backend_type,
            "{prefix}: {keys:?}"
        );
    }
}

#[test]
fn errors_of_a_prefix_have_upstreams_words() {
    let text = |prefix: &str| Keys::new(prefix).unwrap_err().to_string();
    assert!(text("a.b/c/d").contains("subnet/kube: prefix can contain at most single slash"));
    for bad in [
        "",
        "/",
        "org",
        "org.com/-",
        "org.com/A-",
        ".com/",
        "org.com/é-",
    ] {
        let expected = "subnet/kube: prefix must be in a format: fqdn/[0-9a-z-_]*";
        assert!(text(bad).contains(expected), "{bad}");
    }
    assert!(Keys::new("org.com/a_b-").is_ok());
    assert!(keys().has_prefix("flannel.alpha.coreos.com/public-ip"));
    assert!(!keys().has_prefix("node.alpha.kubernetes.io/ttl"));
}

#[test]
fn node_has_the_lease_of_its_families() {
    let keys = keys();
    let lease = |families| keys.lease_of(&node(), families).unwrap().unwrap().lease;
    let both = lease(BOTH);
    assert_eq!(both.subnets.cidrs(), "10.244.1.0/24 and fd00:10:244:1::/64");
    assert_eq!(both.expiration, None);
    assert_eq!(both.attrs.node(), "192.168.1.2");
    assert_eq!(
        both.attrs.backend_v6_data,
        Some(json!({"VNI": 1, "VtepMAC": "12:c6:65:89:b4:e4"}))
    );
    let v4 = lease(V4);
    assert_eq!(v4.subnets.cidrs(), "10.244.1.0/24");
    assert_eq!(
        (v4.attrs.public_ipv6, v4.attrs.backend_v6_data),
        (None, None)
    );
    let v6 = lease(V6);
    assert_eq!(v6.subnets.cidrs(), "fd00:10:244:1::/64");
    assert_eq!((v6.attrs.public_ip, v6.attrs.backend_data), (None, None));
}

#[test]
fn node_without_flanneld_has_no_lease() {
    for node in [Node::default(), with("kube-subnet-manager", "false")] {
        assert_eq!(keys().lease_of(&node, BOTH), Ok(None));
    }
}

#[test]
fn broken_family_leaves_the_other_one() {
    for (name, value) in [
        ("public-ipv6", ""),
        ("public-ipv6", "192.168.1.2"),
        ("public-ipv6", "::"),
        ("backend-v6-data", "{"),
        ("backend-v6-data", "[[[[[[[[["),
    ] {
        let lease = keys().lease_of(&with(name, value), BOTH).unwrap().unwrap();
        assert_eq!(lease.lease.subnets.cidrs(), "10.244.1.0/24");
        let skipped = lease.skipped.unwrap().to_string();
        assert!(skipped.contains(&format!("{PREFIX}{name}")), "{skipped}");
    }
    let mut node = node();
    node.pod_cidrs = vec!["10.244.1.7/24".into()];
    let lease = keys().lease_of(&node, BOTH).unwrap().unwrap();
    assert_eq!(lease.lease.subnets.cidrs(), "10.244.1.0/24");
    assert_eq!(
        lease.skipped.unwrap().to_string(),
        "spec.podCIDRs has no IPv6 subnet: 10.244.1.0/24"
    );
}

#[test]
fn unusable_node_is_an_error_that_names_the_field() {
    let error = |node: &Node| keys().lease_of(node, V4).unwrap_err().to_string();
    for (name, value) in [
        ("public-ip", "192.168.1"),
        ("public-ip", "0.0.0.0"),
        ("public-ip", "fd00::1"),
        ("backend-data", "VtepMAC"),
    ] {
        let text = error(&with(name, value));
        assert!(text.contains(&format!("{PREFIX}{name}")), "{text}");
    }
    let long = "1".repeat(100_000);
    for name in ["public-ip", "backend-data", "backend-type"] {
        let text = error(&with(name, &long));
        assert!(text.contains(name) && text.len() < 300, "{text}");
    }
    for cidrs in [
        &["10.244.1.0/24", "10.244.2.0/24", "fd00::/64"][..],
        &["10.244.1.0"],
        &["0.0.0.0/0"],
        &["fd00::/64"],
        &[],
    ] {
        let mut node = node();
        node.pod_cidrs = cidrs.iter().map(|net| net.to_string()).collect();
        let text = error(&node);
        assert!(text.contains("spec.podCIDRs"), "{text}");
    }
}

#[test]
fn node_without_backend_data_has_none() {
    assert_eq!(attrs(&with("backend-data", "")).backend_data, None);
    assert_eq!(
        attrs(&with("backend-data", "null")).backend_data,
        Some(json!(null))
    );
}

#[test]
fn published_annotations_are_read_back() {
    let (keys, node) = (keys(), node());
    assert_eq!(keys.published(&attrs(&node)), node.annotations);
    assert_eq!(patch(&keys.published(&attrs(&node)), &node), None);
}

/// What a node with these attributes publishes, without the prefix of the keys.
fn published(attrs: LeaseAttrs) -> BTreeMap<String, String> {
    let annotations = keys().published(&attrs).into_iter();
    annotations
        .map(|(key, value)| (key[PREFIX.len()..].to_owned(), value))
        .collect()
}

fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn annotations_of_other_types_and_families_are_upstreams() {
    let v6_only = |backend: &str, data| LeaseAttrs {
        public_ipv6: Some("fd00:1::2".parse().unwrap()),
        backend_type: backend.into(),
        backend_v6_data: data,
        ..LeaseAttrs::default()
    };
    let data = json!({"VNI": 1, "VtepMAC": "12:c6:65:89:b4:e4"});
    assert_eq!(
        published(v6_only("vxlan", Some(data))),
        strings(&[
            ("kube-subnet-manager", "true"),
            ("backend-type", "vxlan"),
            (
                "backend-v6-data",
                r#"{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e4"}"#
            ),
            ("public-ipv6", "fd00:1::2"),
        ])
    );
    assert_eq!(
        published(v6_only("host-gw", None)),
        strings(&[
            ("kube-subnet-manager", "true"),
            ("backend-type", "host-gw"),
            ("backend-data", "null"),
            ("public-ip", "0.0.0.0"),
            ("backend-v6-data", "null"),
            ("public-ipv6", "fd00:1::2"),
        ])
    );
    let alloc = LeaseAttrs {
        public_ip: Some([192, 168, 1, 2].into()),
        public_ipv6: Some("fd00:1::2".parse().unwrap()),
        ..LeaseAttrs::default()
    };
    assert_eq!(
        published(alloc),
        strings(&[
            ("kube-subnet-manager", "true"),
            ("backend-type", ""),
            ("backend-data", "null"),
            ("public-ip", "192.168.1.2"),
            ("backend-v6-data", "null"),
            ("public-ipv6", "fd00:1::2"),
        ])
    );
}

/// Upstream's annotation is empty without PreStartupCommand.
#[test]
fn data_of_extension_is_a_string_or_empty() {
    let extension = |data: Option<Value>| LeaseAttrs {
        public_ip: Some([192, 168, 1, 2].into()),
        backend_type: "extension".to_owned(),
        backend_data: data,
        ..LeaseAttrs::default()
    };
    for (data, text) in [
        (None, ""),
        (Some(json!("96:59:b2:3f:04:ee")), r#""96:59:b2:3f:04:ee""#),
    ] {
        assert_eq!(
            published(extension(data)),
            strings(&[
                ("kube-subnet-manager", "true"),
                ("backend-type", "extension"),
                ("backend-data", text),
                ("public-ip", "192.168.1.2"),
            ])
        );
    }
}

#[test]
fn patch_has_only_what_differs_in_the_order_of_the_keys() {
    let keys = keys();
    let mut node = node();
    let wanted = keys.published(&attrs(&node));
    node.annotations.remove(&keys.managed);
    node.annotations
        .insert(keys.backend_data.clone(), "null".into());
    assert_eq!(
        patch(&wanted, &node).unwrap(),
        r#"{"metadata":{"annotations":{"flannel.alpha.coreos.com/backend-data":"{\"VNI\":1,\"VtepMAC\":\"12:c6:65:89:b4:e3\"}","flannel.alpha.coreos.com/kube-subnet-manager":"true"}}}"#
    );
}

#[test]
fn overwrite_replaces_the_address_of_its_family() {
    let keys = keys();
    let mut node = with("public-ip-overwrite", "203.0.113.9");
    let own = attrs(&node);
    let (overwritten, ignored) = keys.overwritten(&own, &node);
    assert!(ignored.is_empty());
    assert_eq!(overwritten.public_ip, Some([203, 0, 113, 9].into()));
    assert_eq!(overwritten.public_ipv6, own.public_ipv6);
    node.annotations
        .insert(keys.public_ip_overwrite.clone(), "nat.example.com".into());
    let (overwritten, ignored) = keys.overwritten(&own, &node);
    assert_eq!(overwritten, own);
    let text = ignored[0].to_string();
    assert!(text.contains(&keys.public_ip_overwrite), "{text}");
}

#[test]
fn record_has_what_the_node_published_last() {
    let keys = Keys::new("flannel.alpha.coreos.com/prefix").unwrap();
    let mut node = Node::default();
    let data = r#"{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"}"#;
    node.annotations
        .insert(keys.backend_data.clone(), data.into());
    node.annotations
        .insert(keys.node_public_ip.clone(), "192.168.1.9".into());
    node.annotations
        .insert(keys.node_public_ipv6.clone(), "x".into());
    let (record, ignored) = keys.record(&node);
    assert_eq!(
        keys.backend_data,
        "flannel.alpha.coreos.com/prefix-backend-data"
    );
    assert_eq!(record.backend_data.unwrap()["VtepMAC"], "12:c6:65:89:b4:e3");
    assert_eq!(record.public_ip, Some([192, 168, 1, 9].into()));
    assert_eq!(record.public_ipv6, None);
    assert!(ignored[0].to_string().contains("prefix-node-public-ipv6"));
}

/// What an administrator or a program may leave in an annotation.
fn garbage() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,60}",
        r#"[\[{"':,}\]0-9a-fx.]{0,80}"#,
        (0usize..9000).prop_map(|length| "[".repeat(length)),
        Just("true".to_owned()),
        Just("192.168.1.2".to_owned()),
        Just(r#"{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"}"#.to_owned()),
    ]
}

proptest! {
    #[test]
    fn garbage_in_a_field_never_panics_and_is_named(
        name in prop::sample::select(vec![
            "backend-data", "backend-v6-data", "public-ip", "public-ipv6",
        ]),
        value in garbage(),
    ) {
        let node = with(name, &value);
        match keys().lease_of(&node, BOTH) {
            Ok(Some(NodeLease { skipped: Some(error), .. })) => {
                let key = format!("{PREFIX}{name}");
                prop_assert!(error.to_string().contains(&key), "{}", error);
            }
            Ok(Some(_)) => {}
            other => prop_assert!(false, "the other family is lost: {:?}", other),
        }
    }

    #[test]
    fn garbage_in_every_field_never_panics(
        values in prop::collection::vec(garbage(), 10),
        cidrs in prop::collection::vec("[0-9a-f:./]{0,30}", 0..5),
    ) {
        let names = [
            "backend-type", "backend-data", "backend-v6-data", "public-ip", "public-ipv6",
            "public-ip-overwrite", "public-ipv6-overwrite", "node-public-ip", "node-public-ipv6",
            "kube-subnet-manager",
        ];
        let annotations = names.iter().zip(values);
        let node = Node {
            annotations: annotations
                .map(|(name, value)| (format!("{PREFIX}{name}"), value))
                .collect(),
            pod_cidrs: cidrs,
            ..Node::default()
        };
        let keys = keys();
        for families in [V4, V6, BOTH] {
            drop(keys.lease_of(&node, families));
            drop(keys.subnets_of(&node, families));
        }
        keys.record(&node);
        keys.overwritten(&LeaseAttrs::default(), &node);
    }

    #[test]
    fn no_prefix_panics(prefix in ".{0,40}") {
        drop(Keys::new(&prefix));
    }
}
