//! Keys and values in etcd that are no leases.

use super::cluster::{Cluster, PREFIX, TIMEOUT, V4};
use crate::flanneld::cluster::post;
use tests::{Etcd, Underlay, etcd::without_etcd, process::eventually, scenario, underlay};

#[scenario(unless = without_etcd)]
fn bad_keys_and_values_withdraw_nobody() {
    let underlay = Underlay::new(3);
    let mut etcd = Etcd::new(&underlay.switch, underlay::GATEWAY);
    etcd.restart_with(0, |arguments| {
        arguments.push("--max-request-bytes=16000000".to_owned());
    });
    let mut cluster = Cluster::with(underlay, etcd, V4);
    cluster.start_nodes(&[1, 2]);
    [1, 2].iter().for_each(|node| cluster.make_pod(*node));
    cluster.all_ping(&[1, 2]);
    let pings = cluster.ping(1, 2);
    let subnets = format!("{PREFIX}/subnets");
    let lease = cluster
        .lease_of(&underlay::ip(2))
        .0
        .replace(&format!("{subnets}/"), "");
    cluster.etcd.put(&format!("{subnets}/hello"), "world");
    cluster
        .etcd
        .put(&format!("{subnets}/10.244.300.0-24"), "{}");
    cluster
        .etcd
        .put(&format!("{subnets}/10.244.200.0-24"), "[]");
    let put_bytes = |key: &str, base64: &str| {
        let key = cluster
            .host(1)
            .sh(&format!("printf %s '{subnets}/{key}' | base64 -w0"));
        let body = format!(r#"{{"key":"{key}","value":"{base64}"}}"#);
        let address = format!("{}:2379", underlay::GATEWAY);
        let answer = post(cluster.host(1), &address, "/v3/kv/put", &body);
        assert!(answer.contains("200 OK"), "{answer}");
    };
    // 0xff 0xfe, and 10 MB of "["
    let long = "W1tb".repeat(3_400_000);
    put_bytes("10.244.201.0-24", "//4=");
    put_bytes("10.244.202.0-24", &long);
    // the lease of a running node, whose daemon writes it again
    put_bytes(&lease, &long);
    eventually("the lease is written again", TIMEOUT, || {
        let key = format!("{subnets}/{lease}");
        let value = cluster.etcd.ctl(&["get", "--print-value-only", &key]);
        value.contains("VtepMAC").then_some(())
    });
    for (node, text) in [
        (1, "10.244.200.0-24 cannot be read"),
        (1, "the other leases are not affected"),
        (2, "another party wrote other data into the lease"),
    ] {
        cluster.eventually_logs(node, text);
    }
    // one that starts now lists what is there
    cluster.start(3, &[]);
    cluster.wait_ready(3);
    cluster.make_pod(3);
    cluster.all_ping(&[1, 2, 3]);
    pings.lose_nothing();
    let log = cluster.stop(3);
    let reports = log
        .lines()
        .filter(|line| line.contains("cannot be read"))
        .count();
    assert_eq!(reports, 5, "each once:\n{log}");
    assert!(!log.contains("panicked"), "{log}");
}
