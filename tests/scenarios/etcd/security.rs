//! TLS, users and passwords.

use super::cluster::{Cluster, TIMEOUT, V4};
use tests::{Etcd, Underlay, etcd::without_etcd, process::eventually, scenario, underlay};

const PASSWORD: &str = "hunter2";

/// etcd demands certificates and a password.
#[scenario(unless = without_etcd)]
fn certificates_user_and_password_are_used_and_not_shown() {
    let underlay = Underlay::new(2);
    let mut etcd = Etcd::with_tls(&underlay.switch, underlay::GATEWAY);
    etcd.enable_auth("flannel", PASSWORD);
    let mut cluster = Cluster::with(underlay, etcd, V4);
    let tls = cluster.etcd.tls().expect("TLS");
    let (ca, cert, key) = (
        tls.ca.display(),
        tls.client.cert.display(),
        tls.client.key.display(),
    );
    let files = [
        format!("-etcd-cafile={ca}"),
        format!("-etcd-certfile={cert}"),
        format!("-etcd-keyfile={key}"),
    ];
    let user = [
        "-etcd-username=flannel".to_owned(),
        format!("-etcd-password={PASSWORD}"),
    ];
    let wrong = [
        "-etcd-username=flannel".to_owned(),
        "-etcd-password=wrong".to_owned(),
    ];
    let options = |parts: &[&[String]]| parts.concat();
    // refusals name what is missing, and are waited out
    for (given, text) in [
        (
            options(&[&files[..1], &user]),
            "-etcd-certfile and -etcd-keyfile",
        ),
        (options(&[&files]), "permission denied"),
        (options(&[&files, &wrong]), "authentication failed"),
    ] {
        let given: Vec<&str> = given.iter().map(String::as_str).collect();
        cluster.start(1, &given);
        cluster.eventually_logs(1, text);
        assert!(cluster.daemon(1).is_running());
        cluster.stop(1);
    }
    let given = options(&[&files, &user]);
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    for node in [1, 2] {
        cluster.start(node, &given);
    }
    for node in [1, 2] {
        cluster.wait_ready(node);
        cluster.make_pod(node);
    }
    cluster.all_ping(&[1, 2]);
    for node in [1, 2] {
        let log = cluster.stop(node);
        assert!(!log.contains(PASSWORD), "{log}");
    }
}

/// An authority alone makes https:// work where etcd asks for no client certificate; upstream
/// ignores it. With http:// it is reported that it has no effect.
#[scenario(unless = without_etcd)]
fn authority_alone_is_enough_for_https() {
    let underlay = Underlay::new(1);
    let mut etcd = Etcd::with_tls(&underlay.switch, underlay::GATEWAY);
    etcd.restart_with(0, |arguments| {
        // either of the two makes etcd demand a certificate
        let demands = |argument: &str| {
            ["--client-cert-auth", "--trusted-ca-file"]
                .iter()
                .any(|name| argument.starts_with(name))
        };
        arguments.retain(|argument| !demands(argument));
    });
    let mut cluster = Cluster::with(underlay, etcd, V4);
    cluster.start(1, &[]);
    cluster.eventually_logs(
        1,
        "etcd's certificate is not from an authority that this system trusts",
    );
    cluster.stop(1);
    let ca = format!(
        "-etcd-cafile={}",
        cluster.etcd.tls().expect("TLS").ca.display()
    );
    cluster.start(1, &[&ca]);
    cluster.wait_ready(1);
    cluster.stop(1);
    cluster.endpoints = cluster.endpoints.replace("https://", "http://");
    cluster.start(1, &[&ca]);
    cluster.eventually_logs(1, "connecting to etcd without TLS");
}

/// The client's certificate is replaced, as a rotation does it, and etcd restarts with another
/// authority.
#[scenario(unless = without_etcd)]
fn certificates_are_read_again_for_a_new_connection() {
    let underlay = Underlay::new(1);
    let etcd = Etcd::with_tls(&underlay.switch, underlay::GATEWAY);
    let mut cluster = Cluster::with(underlay, etcd, V4);
    let tls = cluster.etcd.tls().expect("TLS");
    let folder = "/run/etcd-files";
    let host = cluster.host(1);
    let copy = format!(
        "mkdir {folder} && cp {} {folder}/ca && cp {} {folder}/cert && cp {} {folder}/key",
        tls.ca.display(),
        tls.client.cert.display(),
        tls.client.key.display()
    );
    // missing at first: waited for
    let files = ["ca", "cert", "key"].map(|name| format!("-etcd-{name}file={folder}/{name}"));
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let host = host.handle();
    cluster.start(1, &files);
    cluster.eventually_logs(1, "No such file");
    host.sh(&copy);
    cluster.wait_ready(1);
    host.sh(&format!("echo broken > {folder}/cert"));
    cluster.etcd.kill(0);
    cluster.etcd.start(0);
    cluster.eventually_logs(1, "waiting for etcd at");
    eventually("the broken certificate is reported", TIMEOUT, || {
        let log = cluster.daemon(1).output();
        log.to_lowercase().contains("certificate").then_some(())
    });
    host.sh(&format!("rm -r {folder}; {copy}"));
    cluster.eventually_logs(1, "is back after");
}
