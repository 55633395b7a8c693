//! A certificate of this node that the other side would refuse: flanneld does not start with it.

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};
use std::{fs, process::Command};
use tests::{
    Underlay,
    binaries::program,
    pki::{Authority, Identity},
    sandbox, scenario,
};

/// `openssl x509 -req -signkey` without extensions: X.509 version 1.
const VERSION_1: &str = include_str!("../../../flanneld/src/subnet/version-1.crt");

/// Nothing listens at these addresses: flanneld would wait for them.
const MANAGERS: [(&str, &str, &str); 3] = [
    ("remote", "-remote=127.0.0.1:9", "flanneld pki issue NAME"),
    (
        "remote",
        "-listen=127.0.0.1:8888",
        "flanneld pki issue NAME 127.0.0.1",
    ),
    (
        "etcd",
        "-etcd-endpoints=https://127.0.0.1:9",
        "the authority of etcd's clients makes a right one",
    ),
];

/// The exit code is 2 where a later start fails, too: systemd does not try again then. A clock that
/// is set, or a copy of files that ends, makes another one good.
#[scenario]
fn own_certificate_that_cannot_be_used_is_refused_at_the_start() {
    let folder = sandbox::shared_folder("certificates");
    let authority = Authority::new(folder.path());
    type Alter = fn(&mut CertificateParams);
    let expired: Alter = |params| params.not_after = date_time_ymd(2001, 2, 3);
    let future: Alter = |params| params.not_before = date_time_ymd(2090, 2, 3);
    let neither: Alter =
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    let issue = |name: &str, alter: Alter| authority.issue_with(name, &["127.0.0.1"], alter);
    let old = issue("old", |_| {});
    fs::write(&old.cert, VERSION_1).expect("certificate");
    let (one, other) = (issue("one", |_| {}), issue("other", |_| {}));
    let mixed = Identity {
        key: other.key,
        ..one
    };
    for (identity, code, text) in [
        (issue("expired", expired), 2, "it has expired on 2001-02-03"),
        (old, 2, "it is of X.509 version 1"),
        (
            issue("neither", neither),
            2,
            "its extended key usage has no ",
        ),
        (
            issue("future", future),
            1,
            "it is not valid before 2090-02-03",
        ),
        (mixed, 1, "is not that of certificate"),
    ] {
        refused(&identity, &authority, code, text);
    }
}

/// By each manager, in words, and before it makes anything.
#[track_caller]
fn refused(identity: &Identity, authority: &Authority, code: i32, text: &str) {
    let underlay = Underlay::new(1);
    let host = &underlay.hosts[0];
    host.write(
        "/run/net-conf.json",
        r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#,
    );
    for (flags, manager, remedy) in MANAGERS {
        let mut command = Command::new("timeout");
        command.arg("20").arg(program("flanneld")).args([
            manager,
            "-net-config-path=/run/net-conf.json",
            &format!("-{flags}-keyfile={}", identity.key.display()),
            &format!("-{flags}-certfile={}", identity.cert.display()),
            &format!("-{flags}-cafile={}", authority.ca().display()),
        ]);
        let output = host.run(|| command.output().expect("flanneld"));
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{manager}: {log}");
        let file = identity.cert.display().to_string();
        let remedy = text == "is not that of certificate" || log.contains(remedy);
        assert!(
            log.contains(text) && log.contains(&file) && remedy,
            "{manager}: expected {text}:\n{log}"
        );
    }
    assert!(!host.sh("ip -o link").contains("flannel"));
}
