//! The etcd of the tests: its members, its TLS and its users.

use nix::sys::signal::Signal;
use tests::{Etcd, Host, Underlay, etcd::without_etcd, scenario, underlay};

#[scenario(unless = without_etcd)]
fn data_survives_sigkill() {
    let host = Host::new("etcd");
    let mut etcd = Etcd::new(&host, "127.0.0.1");
    etcd.put(
        "/coreos.com/network/config",
        r#"{"Network": "10.5.0.0/16"}"#,
    );
    etcd.kill(0);
    etcd.start(0);
    let value = etcd.get("/coreos.com/network/config");
    assert_eq!(value.as_deref(), Some(r#"{"Network": "10.5.0.0/16"}"#));
    etcd.compact();
    assert_eq!(etcd.keys("/coreos.com/"), ["/coreos.com/network/config"]);
    etcd.delete("/coreos.com/network/config");
    assert_eq!(etcd.get("/coreos.com/network/config"), None);
}

#[scenario(unless = without_etcd)]
fn two_of_three_members_suffice() {
    let underlay = Underlay::new(3);
    let ips: Vec<String> = (1..=3).map(underlay::ip).collect();
    let places: Vec<_> = underlay
        .hosts
        .iter()
        .zip(&ips)
        .map(|(host, ip)| (host, &ip[..]))
        .collect();
    let mut etcd = Etcd::cluster(&places);
    let leader = etcd.leader();
    etcd.kill(leader);
    etcd.wait_healthy();
    assert_ne!(etcd.leader(), leader);
    etcd.put("key", "value");
    etcd.start(leader);
    assert_eq!(etcd.get("key").as_deref(), Some("value"));
    for number in 0..3 {
        etcd.signal(number, Signal::SIGSTOP);
    }
    assert!(
        !etcd
            .try_ctl(&["--command-timeout=1s", "get", "key"])
            .status
            .success()
    );
    for number in 0..3 {
        etcd.signal(number, Signal::SIGCONT);
    }
    etcd.wait_healthy();
}

#[scenario(unless = without_etcd)]
fn a_client_needs_a_certificate_and_a_password() {
    let host = Host::new("etcd");
    let mut etcd = Etcd::with_tls(&host, "127.0.0.1");
    let tls = etcd.tls().expect("TLS");
    let health = format!(
        "ETCDCTL_API=3 etcdctl --endpoints {} --cacert {} endpoint health",
        etcd.endpoints(),
        tls.ca.display()
    );
    assert!(
        !host.try_sh(&health).status.success(),
        "without a certificate"
    );
    etcd.enable_auth("flannel", "secret");
    etcd.put("key", "value");
    let get = |user: &str| {
        etcd.try_ctl(&["--user", user, "get", "key"])
            .status
            .success()
    };
    assert!(get("flannel:secret"));
    assert!(!get("flannel:wrong"));
}
