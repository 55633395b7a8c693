//! subnet.env: missing, late, malformed.

use super::node::{DUAL, Node, SUBNET_ENV, conf};
use serde_json::json;
use std::{
    thread::{scope, sleep},
    time::{Duration, Instant},
};
use tests::scenario;

fn load_error(why: &str) -> String {
    format!(
        "failed to load flannel 'subnet.env' file: {why}. Check the flannel pod log for this node."
    )
}

/// ADD waits and then reports "try again" (11); STATUS reports at once that no ADD can work (50).
#[scenario]
fn missing_subnet_env_is_a_transient_error() {
    let node = Node::new();
    node.host.pod("a");
    node.remove(SUBNET_ENV);
    let text = load_error(&format!("open {SUBNET_ENV}: no such file or directory"));
    let conf = conf("1.1.0", json!({}));
    let start = Instant::now();
    assert_eq!(node.call("ADD", "a", &conf).error(), (11, text.clone()));
    let waited = start.elapsed();
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    assert_eq!(node.call("STATUS", "", &conf).error(), (50, text));
    assert_eq!(node.call("DEL", "a", &conf).ok().stdout, "");
    node.assert_clean();
    // an invalid configuration is reported without waiting
    let wrong = json!({ "name": "cbr0", "type": "flannel", "delegate": { "name": "x" } });
    let (_, message) = node.call("ADD", "a", &wrong).error();
    assert_eq!(
        message,
        "'delegate' dictionary must not have 'name' field, it'll be set by flannel"
    );
    node.write(SUBNET_ENV, DUAL);
    assert_eq!(node.call("STATUS", "", &conf).ok().stdout, "");
}

/// The first pod of a node starts in the same second as flanneld.
#[scenario]
fn add_waits_for_subnet_env() {
    let node = Node::new();
    node.host.pod("a");
    node.remove(SUBNET_ENV);
    scope(|threads| {
        let add = threads.spawn(|| node.call("ADD", "a", &conf("0.3.1", json!({}))));
        sleep(Duration::from_millis(300));
        node.write(SUBNET_ENV, &DUAL[..50]);
        sleep(Duration::from_millis(100));
        node.write(SUBNET_ENV, DUAL);
        let result = add.join().expect("ADD").ok().json();
        assert_eq!(result["ips"][0]["address"], "10.244.3.2/24");
    });
}

/// In parallel, because each ADD waits first.
#[scenario]
fn malformed_subnet_env_is_refused() {
    let without = |line: &str| DUAL.replace(line, "");
    let kinds = [
        (
            String::new(),
            format!(
                "{SUBNET_ENV} is missing FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK, FLANNEL_SUBNET, FLANNEL_IPV6_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ"
            ),
        ),
        (
            without("FLANNEL_IPMASQ=true\n"),
            format!("{SUBNET_ENV} is missing FLANNEL_IPMASQ"),
        ),
        (
            DUAL.replace("MTU=1450", "MTU"),
            format!("{SUBNET_ENV}, line 5: FLANNEL_MTU has no value"),
        ),
        (
            DUAL.replace("10.244.3.1/24", "10.244.3.1"),
            "invalid CIDR address: 10.244.3.1".into(),
        ),
        (
            DUAL.replace("10.244.0.0/16", "../../x"),
            "invalid CIDR address: ../../x".into(),
        ),
        (
            DUAL.replace('\n', "\r\n"),
            "invalid CIDR address: 10.244.0.0/16\r".into(),
        ),
        (
            DUAL.replace("1450", "-1"),
            "strconv.ParseUint: parsing \"-1\": invalid syntax".into(),
        ),
        (
            DUAL.replace("1450", "99999999999"),
            "strconv.ParseUint: parsing \"99999999999\": value out of range".into(),
        ),
        (
            "x".repeat(100_000),
            format!("{SUBNET_ENV} is longer than 65536 bytes"),
        ),
    ];
    scope(|threads| {
        for (text, why) in kinds {
            threads.spawn(move || assert_refused(|node| node.write(SUBNET_ENV, &text), &why));
        }
        let folder = |node: &Node| {
            drop(
                node.host
                    .sh(&format!("rm {SUBNET_ENV} && mkdir {SUBNET_ENV}")),
            )
        };
        threads
            .spawn(move || assert_refused(folder, &format!("read {SUBNET_ENV}: is a directory")));
    });
}

fn assert_refused(spoil: impl Fn(&Node), why: &str) {
    let node = Node::new();
    node.host.pod("a");
    let conf = conf("1.1.0", json!({}));
    spoil(&node);
    assert_eq!(
        node.call("STATUS", "", &conf).error(),
        (50, load_error(why))
    );
    assert_eq!(node.call("ADD", "a", &conf).error(), (999, load_error(why)));
    node.assert_clean();
}

#[scenario]
fn paths_of_the_configuration_are_used() {
    let node = Node::new();
    node.host.sh(&format!("mv {SUBNET_ENV} /run/lease"));
    let conf = conf(
        "0.3.1",
        json!({ "subnetFile": "/run/lease", "DATADIR": "/run/states" }),
    );
    node.attach("a", &conf);
    assert_eq!(node.list("/run/states"), ["a", "a@eth0"]);
    node.call("DEL", "a", &conf).ok();
    assert_eq!(node.list("/run/states"), [""; 0]);
    node.assert_clean();
}
