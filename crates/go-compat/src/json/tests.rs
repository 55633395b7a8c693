use super::*;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Conf {
    name: String,
    mtu: u16,
    #[serde(rename = "isGateway")]
    is_gateway: bool,
    ipam: Ipam,
    vlan: Option<u32>,
    capabilities: BTreeMap<String, bool>,
    raw: Option<Value>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Ipam {
    #[serde(rename = "type")]
    kind: String,
    ranges: Vec<Vec<Range>>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Range {
    subnet: String,
}

fn read(text: &str) -> Result<Conf, String> {
    from_slice(text.as_bytes()).map_err(|error| error.to_string())
}

#[test]
fn keys_match_in_any_case_at_any_depth() {
    let conf = read(
        r#"{"NAME":"n","Mtu":9,"isgateway":true,"VLAN":3,"unknown":[{}],"iPam":{"TYPE":"x","Ranges":[[{"SUBNET":"s"}]]}}"#,
    )
    .unwrap();
    assert_eq!(
        (conf.name.as_str(), conf.mtu, conf.is_gateway),
        ("n", 9, true)
    );
    assert_eq!(conf.vlan, Some(3));
    assert_eq!(conf.ipam.kind, "x");
    assert_eq!(conf.ipam.ranges[0][0].subnet, "s");
}

#[test]
fn letters_that_fold_into_ascii_match() {
    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Kiss {
        kiss: u8,
    }
    let kiss: Kiss = from_slice("{\"\u{212a}i\u{17f}S\":1}".as_bytes()).unwrap();
    assert_eq!(kiss.kiss, 1);
}

#[test]
fn last_of_a_repeated_key_wins() {
    assert_eq!(read(r#"{"mtu":1,"MTU":2,"mtu":3}"#).unwrap().mtu, 3);
    assert_eq!(read(r#"{"mtu":1,"MTU":2}"#).unwrap().mtu, 2);
    assert_eq!(read(r#"{"MTU":2,"mtu":null}"#).unwrap().mtu, 2);
    let conf = read(r#"{"capabilities":{"A":true,"a":false,"A":false}}"#).unwrap();
    assert_eq!(
        conf.capabilities,
        [("A".into(), false), ("a".into(), false)].into()
    );
}

#[test]
fn null_leaves_the_default() {
    assert_eq!(read("null"), Ok(Conf::default()));
    let nulls = r#"{"name":null,"mtu":null,"isGateway":null,"ipam":null,"vlan":null,"capabilities":null,"raw":null}"#;
    assert_eq!(read(nulls), Ok(Conf::default()));
    let conf = read(r#"{"ipam":{"ranges":[null,[null,{"subnet":null}]]}}"#).unwrap();
    assert_eq!(
        conf.ipam.ranges,
        [vec![], vec![Range::default(), Range::default()]]
    );
}

#[test]
fn untyped_value_is_unchanged() {
    let raw = json!({"A": [1, -1, 1.5, null, true, "x"], "a": {}});
    assert_eq!(
        read(&json!({"RAW": raw}).to_string()).unwrap().raw,
        Some(raw)
    );
}

#[test]
fn errors_name_the_key() {
    let message = |text| read(text).unwrap_err();
    assert_eq!(
        message(r#"{"MTU":"9"}"#),
        "json: cannot unmarshal string into field mtu of type u16"
    );
    assert_eq!(
        message(r#"{"mtu":70000}"#),
        "json: cannot unmarshal number 70000 into field mtu of type u16"
    );
    for number in ["-1", "1.5", "1e3", "1.0"] {
        assert!(read(&format!("{{\"mtu\":{number}}}")).is_err(), "{number}");
    }
    assert_eq!(
        message(r#"{"ipam":{"ranges":[[{"subnet":[]}]]}}"#),
        "json: cannot unmarshal array into field ipam.ranges.subnet of type string"
    );
    assert!(
        message(r#"{"ipam":"dhcp"}"#).starts_with("json: cannot unmarshal string into field ipam")
    );
    assert!(message("[]").starts_with("json: cannot unmarshal array into a value of type"));
    assert!(message("{\"mtu\":1}x").contains("trailing characters"));
    assert!(message("").contains("EOF"));
}

#[test]
fn one_document_is_decoded_into_several_structs() {
    let document = Document::parse(br#"{"Name":"n","IPAM":{"Type":"t"}}"#).unwrap();
    assert_eq!(document.decode::<Conf>().unwrap().ipam.kind, "t");
    assert_eq!(document.decode::<Conf>().unwrap().name, "n");
    assert!(document.decode::<Vec<u8>>().is_err());
}

#[test]
fn nesting_is_bounded() {
    let deep = |key: &str| {
        let (open, close) = ("[".repeat(10_000), "]".repeat(10_000));
        read(&format!("{{\"{key}\":{open}{close},\"mtu\":9}}"))
    };
    assert!(deep("raw").unwrap_err().contains("raw: a value is nested"));
    assert_eq!(deep("unknown").unwrap().mtu, 9);
}

#[test]
fn what_nobody_reads_may_be_any_json() {
    let text = r#"{"a":1e999,"b":"\ud800","c":[-1e999,{"d":"\udfff"}],"name":"n"}"#;
    let conf = read(text).unwrap();
    assert_eq!(conf.name, "n");
    let invalid: Conf = from_slice(b"{\"name\":\"n\",\"x\":\"\xff\xc0\"}").unwrap();
    assert_eq!(invalid.name, "n");
    assert_eq!(
        read(r#"{"mtu":1e999}"#).unwrap_err(),
        "mtu: the value 1e999 cannot be represented"
    );
}

#[test]
fn wrong_types_count_as_absent_where_only_what_fits_is_read() {
    let read = |text: &str| Document::parse(text.as_bytes()).unwrap().decode_what_fits();
    let conf: Conf = read(
        r#"{"Name":"n","MTU":"9","isGateway":1,"IPAM":{"Type":"t","ranges":[[{"subnet":[]}]]},
            "capabilities":{"a":true,"b":3},"raw":1e999}"#,
    )
    .unwrap();
    assert_eq!((conf.name.as_str(), conf.mtu), ("n", 0));
    assert_eq!(conf.ipam.kind, "t");
    assert_eq!(conf.capabilities, [("a".into(), true)].into());
    assert_eq!((conf.is_gateway, conf.raw), (false, None));
    let wrong: Vec<String> = (0..10_000).map(|n| format!("\"{n}\":3")).collect();
    let many = format!("{{\"capabilities\":{{{}}},\"mtu\":9}}", wrong.join(","));
    assert_eq!(read(&many).unwrap().mtu, 9);
    assert!(
        Document::parse(b"[]")
            .unwrap()
            .decode_what_fits::<Conf>()
            .is_err()
    );
}

#[test]
fn values_are_decoded_like_texts() {
    let conf: Conf = from_value(json!({"Name": "n", "IPAM": {"Type": "t"}})).unwrap();
    assert_eq!((conf.name.as_str(), conf.ipam.kind.as_str()), ("n", "t"));
}

#[test]
fn texts_are_written_as_go_writes_them() {
    let map = json!({"b": "<&>\u{2028}\n\u{1}\u{8}\"é", "a": [1, 1450.0, -0.5, 1e21, 1e20, 1e-6, 1e-7, 0, 9007199254740993u64],
        "B": {}, "c": null});
    assert_eq!(
        marshal(map.as_object().unwrap()),
        r#"{"B":{},"a":[1,1450,-0.5,1e+21,100000000000000000000,0.000001,1e-7,0,9007199254740992],"b":"\u003c\u0026\u003e\u2028\n\u0001\b\"é","c":null}"#
    );
    assert_eq!(
        marshal_indent(&json!({"a": [1, {}], "b": "<"})),
        "{\n    \"a\": [\n        1,\n        {}\n    ],\n    \"b\": \"\\u003c\"\n}"
    );
}

/// Any JSON value of a few levels.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let key = prop_oneof![
            "(?i)name|mtu|ipam|type|ranges|subnet|vlan|raw",
            "[a-z]{0,3}"
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_value_panics(value in value()) {
        let document = Document::parse(value.to_string().as_bytes()).unwrap();
        document.decode::<Conf>().ok();
        let fits = document.decode_what_fits::<Conf>();
        prop_assert_eq!(fits.is_ok(), value.is_object() || value.is_null());
        from_value::<Conf>(value).ok();
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        from_slice::<Conf>(&bytes).ok();
    }

    #[test]
    fn maps_are_read_back(value in value()) {
        if let Value::Object(map) = value {
            let read: Value = serde_json::from_str(&marshal(&map)).unwrap();
            prop_assert_eq!(read, Value::Object(map));
        }
    }
}
