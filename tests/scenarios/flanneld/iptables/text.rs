//! The text of the rules, line for line, and which flavour they are in.

use super::{super::cluster::Cluster, DUAL, LEGACY, NFT, RESYNC, V4, cluster, lines, saved};
use tests::{binaries::program, scenario};

#[scenario]
fn iptables_rules_equal_those_of_go_flannel() {
    for flavour in [NFT, LEGACY] {
        let cluster = cluster(1, DUAL, flavour);
        let (p, p6) = (cluster.subnet(1), cluster.subnet6(1));
        let expected: String = [
            ("10.244.0.0/16", p.as_str(), "224.0.0.0/4"),
            ("fd00:10:244::/48", p6.as_str(), "ff00::/8"),
        ]
        .map(|(c, p, multicast)| {
            let masq = "-m comment --comment \"flanneld masq\"";
            let forward = "-m comment --comment \"flanneld forward\"";
            let nat = format!(
                ":FLANNEL-POSTRTG -\n\
                 -A POSTROUTING {masq} -j FLANNEL-POSTRTG\n\
                 -A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 {masq} -j RETURN\n\
                 -A FLANNEL-POSTRTG -s {p} -d {c} {masq} -j RETURN\n\
                 -A FLANNEL-POSTRTG -s {c} -d {p} {masq} -j RETURN\n\
                 -A FLANNEL-POSTRTG ! -s {c} -d {p} {masq} -j RETURN\n\
                 -A FLANNEL-POSTRTG -s {c} ! -d {multicast} {masq} -j MASQUERADE --random-fully\n\
                 -A FLANNEL-POSTRTG ! -s {c} -d {c} {masq} -j MASQUERADE --random-fully\n"
            );
            let filter = format!(
                ":FLANNEL-FWD -\n\
                 -A FORWARD {forward} -j FLANNEL-FWD\n\
                 -A FLANNEL-FWD -s {c} {forward} -j ACCEPT\n\
                 -A FLANNEL-FWD -d {c} {forward} -j ACCEPT\n"
            );
            // the order in which the flavours list the tables differs
            [nat, filter]
        })
        .concat()
        .into_iter()
        .collect();
        let host = cluster.host(1);
        let saved = saved(host, flavour);
        let mut found = lines(&saved, true);
        let mut expected: Vec<_> = expected.lines().collect();
        let by_table = |line: &&str| !line.contains("masq") && !line.contains("POSTRTG");
        found.sort_by_key(by_table);
        expected.sort_by_key(by_table);
        assert_eq!(found, expected, "{flavour}");
        let other = if flavour == NFT { LEGACY } else { NFT };
        assert!(lines(&super::saved(host, other), true).is_empty());
        let tables = host.sh("nft list tables");
        assert!(!tables.contains("flannel"), "{tables}");
    }
}

#[scenario]
fn options_decide_which_rules_there_are_in_iptables() {
    let mut cluster = Cluster::idle(1, V4);
    for (more, in_it, not_in_it) in [
        (
            &["-ip-masq-fully-random-disable"][..],
            &["-j MASQUERADE\n", "FLANNEL-FWD"][..],
            &["random-fully"][..],
        ),
        (&["-ip-masq=false"], &["FLANNEL-FWD"], &["FLANNEL-POSTRTG"]),
        (
            &["-iptables-forward-rules=false"],
            &["--random-fully"],
            &["FLANNEL-FWD"],
        ),
    ] {
        cluster.start(1, more);
        cluster.wait_ready(1);
        let rules = saved(cluster.host(1), NFT);
        for text in in_it {
            assert!(rules.contains(text), "{more:?}: {rules}");
        }
        for text in not_in_it {
            assert!(!rules.contains(text), "{more:?}: {rules}");
        }
        cluster.stop(1);
    }
}

/// Chains of Kubernetes decide before the number of rules, and the choice holds while the daemon
/// runs. At the next start the rules move, and none is left behind.
#[scenario]
fn flavour_of_the_other_programs_is_used_and_kept() {
    let mut cluster = cluster(1, V4, LEGACY);
    let host = cluster.host(1);
    host.sh(
        "iptables-nft -t mangle -N KUBE-KUBELET-CANARY && iptables-nft -t nat -N KUBE-SERVICES",
    );
    host.sh("iptables-legacy -t nat -F POSTROUTING");
    super::eventually("the jump is restored", super::TIMEOUT, || {
        saved(host, LEGACY)
            .contains("-j FLANNEL-POSTRTG")
            .then_some(())
    });
    assert!(lines(&saved(host, NFT), true).is_empty());
    let log = cluster.stop(1);
    assert!(
        log.contains("the rules are in iptables-legacy v1."),
        "{log}"
    );
    cluster.start(1, &[RESYNC]);
    cluster.wait_ready(1);
    let host = cluster.host(1);
    assert!(saved(host, NFT).contains("-j FLANNEL-POSTRTG"));
    let legacy = saved(host, LEGACY);
    assert!(lines(&legacy, true).is_empty(), "{legacy}");
    assert!(legacy.contains("-A INPUT -s 192.0.2.9/32 -j ACCEPT"));
}

/// A node without rules has no network: they are in nftables, and the log names the key.
#[scenario]
fn without_iptables_the_rules_are_in_nftables_and_the_log_names_the_key() {
    let mut cluster = Cluster::idle(1, V4);
    let nft = cluster.host(1).sh("command -v nft").trim().to_owned();
    cluster.host(1).sh(&format!(
        "cp {nft} /run/nft && mount -t tmpfs tmpfs /usr/sbin && cp /run/nft /usr/sbin/nft"
    ));
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    let rules = cluster.host(1).sh("nft list ruleset");
    assert!(
        rules.contains("table ip flannel-ipv4") && !rules.contains("FLANNEL"),
        "{rules}"
    );
    let log = cluster.stop(1);
    assert!(
        log.contains("ERROR") && log.contains("Set \"EnableNFTables\": true, or install iptables"),
        "{log}"
    );
    let report = cluster
        .host(1)
        .sh(&format!("{} cleanup -all", program("flanneld").display()));
    assert!(
        report.contains("removed nftables table ip flannel-ipv4"),
        "{report}"
    );
}

/// With EnableNFTables nothing of iptables is run, and none of its tables is made.
#[scenario]
fn rules_in_nftables_need_no_iptables() {
    let net_conf = V4.replace(r#""Backend""#, r#""EnableNFTables":true,"Backend""#);
    let mut cluster = Cluster::idle(1, &net_conf);
    cluster.host(1).sh(
        "mkdir /run/bin && for name in iptables ip6tables; do for what in save restore; do \
         for f in $name-$what $name-nft-$what $name-legacy-$what; do \
         printf '#!/bin/sh\\ntouch /run/ran\\nexit 1\\n' > /run/bin/$f; chmod +x /run/bin/$f; done; done; done",
    );
    let path = format!("/run/bin:{}", std::env::var("PATH").expect("PATH"));
    cluster.start_with(1, &[], &[("PATH", &path)]);
    cluster.wait_ready(1);
    let host = cluster.host(1);
    host.sh("test ! -e /run/ran");
    let tables = host.sh("nft list tables");
    assert_eq!(tables, "table ip flannel-ipv4\ntable ip6 flannel-ipv6\n");
}
