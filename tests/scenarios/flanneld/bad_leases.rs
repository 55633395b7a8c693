//! Leases that other nodes wrote wrongly: each is left out with a reason and affects no other
//! lease.

use super::cluster::{Cluster, TIMEOUT, V4, delete, get, post};
use std::time::Duration;
use tests::{process::eventually, scenario};

#[scenario]
fn malformed_leases_are_left_out_with_a_reason() {
    let mut cluster = Cluster::new(2, V4);
    let peer = cluster.subnet(2);
    let own_mac = cluster.mac(1, "flannel.1");
    let attrs = |ip: &str, kind: &str, data: &str| {
        format!(
            r#"{{"PublicIP":"{ip}","PublicIPv6":null,"BackendType":"{kind}","BackendData":{data}}}"#
        )
    };
    let mac = |mac: &str| format!(r#"{{"VNI":1,"VtepMAC":"{mac}"}}"#);
    let mut with_own_mac = String::new();
    for (body, reason) in [
        (
            attrs("172.31.0.50", "vxlan", "null"),
            "no vxlan backend data",
        ),
        (
            attrs("172.31.0.51", "vxlan", "[7]"),
            "no vxlan backend data",
        ),
        (
            attrs("172.31.0.52", "vxlan", &mac("zz")),
            "\"zz\" is not a MAC address",
        ),
        (
            attrs("172.31.0.53", "vxlan", &mac("01:00:5e:00:00:01")),
            "not a device's address",
        ),
        (attrs("172.31.0.54", "vxlan", &mac("")), "no VtepMAC"),
        (
            attrs("172.31.0.55", "vxlan", &mac(&own_mac)),
            "is also that of 172.31.0.1",
        ),
        (
            attrs(
                "172.31.0.57",
                "vxlan",
                r#"{"VNI":2,"VtepMAC":"02:00:00:00:00:0a"}"#,
            ),
            "its Backend.VNI is 2, this node's is 1",
        ),
        (
            attrs(
                "172.31.0.58",
                "vxlan",
                r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:0b","Port":4789}"#,
            ),
            "its Backend.Port is 4789, this node's is 8472",
        ),
        (
            attrs("172.31.0.56", "host-gw", "null"),
            "its backend is \"host-gw\"",
        ),
        (
            attrs("127.0.0.7", "vxlan", &mac("02:00:00:00:00:07")),
            "its public IP 127.0.0.7 cannot be a node's",
        ),
        (
            attrs("10.244.3.3", "vxlan", &mac("02:00:00:00:00:09")),
            "inside the pod network",
        ),
    ] {
        let answer = post(cluster.host(1), "172.31.0.1:8888", "/v1/_/leases", &body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{body}: {answer}");
        let subnet = answer
            .split("\"Subnet\":\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        let subnet = subnet.expect("a subnet").to_owned();
        if body.contains(&own_mac) {
            with_own_mac = subnet.replace('/', "-");
        }
        eventually(reason, Duration::from_secs(5), || {
            let log = cluster.daemon(1).output();
            let names_lease_and_reason = |line: &str| {
                line.contains(&format!("the lease of {subnet}: ")) && line.contains(reason)
            };
            log.lines().any(names_lease_and_reason).then_some(())
        });
    }
    // whose packets another node may get is not ready
    eventually("node 1 is not ready", TIMEOUT, || {
        let status = get(cluster.host(1), "/readyz?verbose");
        let names_the_other = status.contains(&format!(
            "172.31.0.55 with {}",
            with_own_mac.replace('-', "/")
        ));
        (status.contains(" 503 ") && names_the_other).then_some(())
    });
    let path = format!("/v1/_/leases/{with_own_mac}");
    delete(cluster.host(1), "172.31.0.1:8888", &path);
    cluster.wait_ready(1);
    // a good lease among them is used, and the nodes stay ready
    let good = attrs("172.31.0.60", "vxlan", &mac("02:00:00:00:00:60"));
    post(cluster.host(1), "172.31.0.1:8888", "/v1/_/leases", &good);
    for node in [1, 2] {
        eventually("the good lease is used", Duration::from_secs(5), || {
            cluster
                .host(node)
                .sh("bridge fdb show dev flannel.1")
                .contains("02:00:00:00:00:60 dst 172.31.0.60")
                .then_some(())
        });
        assert!(cluster.is_ready(node));
    }
    let routes = cluster.host(1).sh("ip route show dev flannel.1");
    assert_eq!(routes.lines().count(), 2, "{routes}");
    assert!(routes.contains(&peer), "{routes}");
    let log = cluster.stop(1);
    assert_eq!(
        log.matches("\"zz\" is not a MAC address").count(),
        1,
        "logged once:\n{log}"
    );
}
