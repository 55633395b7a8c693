//! Rules that are already there: Go flanneld's, those of an earlier network, of a second daemon;
//! and what `flanneld cleanup` removes.

use super::{LEGACY, NFT, RESYNC, TIMEOUT, V4, cluster, lines, saved, use_flavour};
use std::process::Command;
use tests::{Host, binaries::program, process::eventually, scenario};

/// The report of `flanneld cleanup -all`.
pub(super) fn clean_up(host: &Host) -> String {
    host.sh(&format!("{} cleanup -all", program("flanneld").display()))
}

/// The rules that Go flanneld makes, with the commands that it runs.
fn as_go_flanneld(host: &Host, flavour: &str, subnet: &str) {
    let masq = "-m comment --comment 'flanneld masq'";
    let forward = "-m comment --comment 'flanneld forward'";
    let nat = format!("iptables-{flavour} -t nat");
    let filter = format!("iptables-{flavour}");
    let c = "10.244.0.0/16";
    let p = "FLANNEL-POSTRTG";
    for rule in [
        format!("{nat} -N {p}"),
        format!("{nat} -A POSTROUTING {masq} -j {p}"),
        format!("{nat} -A {p} -m mark --mark 0x4000/0x4000 {masq} -j RETURN"),
        format!("{nat} -A {p} -s {subnet} -d {c} {masq} -j RETURN"),
        format!("{nat} -A {p} -s {c} -d {subnet} {masq} -j RETURN"),
        format!("{nat} -A {p} ! -s {c} -d {subnet} {masq} -j RETURN"),
        format!("{nat} -A {p} -s {c} ! -d 224.0.0.0/4 {masq} -j MASQUERADE --random-fully"),
        format!("{nat} -A {p} ! -s {c} -d {c} {masq} -j MASQUERADE --random-fully"),
        format!("{filter} -N FLANNEL-FWD"),
        format!("{filter} -A FORWARD {forward} -j FLANNEL-FWD"),
        format!("{filter} -A FLANNEL-FWD -s {c} {forward} -j ACCEPT"),
        format!("{filter} -A FLANNEL-FWD -d {c} {forward} -j ACCEPT"),
    ] {
        host.sh(&rule);
    }
}

/// Each rule keeps its handle.
#[scenario]
fn equal_rules_of_go_flanneld_are_adopted() {
    let mut cluster = cluster(1, V4, NFT);
    let subnet = cluster.subnet(1);
    cluster.stop(1);
    let host = cluster.host(1);
    host.sh("nft flush ruleset");
    as_go_flanneld(host, NFT, &subnet);
    host.sh("iptables-nft -t nat -A POSTROUTING -s 192.0.2.7 -j ACCEPT");
    let look = "nft -a list ruleset | sed 's/packets [0-9]* bytes [0-9]*//'";
    let before = host.sh(look);
    assert!(before.matches("FLANNEL").count() >= 4, "{before}");
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    assert_eq!(cluster.host(1).sh(look), before);
    // nor are they made anew by a restart
    cluster.stop(1);
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    assert_eq!(cluster.host(1).sh(look), before);
}

#[scenario]
fn rules_of_an_earlier_network_or_subnet_go() {
    for flavour in [NFT, LEGACY] {
        let mut cluster = super::Cluster::idle(1, V4);
        use_flavour(cluster.host(1), flavour);
        as_go_flanneld(cluster.host(1), flavour, "10.244.177.0/24");
        cluster.start(1, &[RESYNC]);
        cluster.wait_ready(1);
        let rules = saved(cluster.host(1), flavour);
        assert!(!rules.contains("10.244.177."), "{rules}");
        assert!(rules.contains(&cluster.subnet(1)), "{rules}");
        let jumps = rules.matches("-j FLANNEL-POSTRTG").count();
        assert_eq!(jumps, 1, "{rules}");
        cluster.stop(1);
        let other = V4.replace("10.244.0.0/16", "10.245.0.0/16");
        cluster.host(1).sh(&format!(
            "rm /var/lib/flannel/leases.redb; echo '{other}' > /run/net-conf.json"
        ));
        cluster.start(1, &[RESYNC]);
        cluster.wait_ready(1);
        let rules = saved(cluster.host(1), flavour);
        assert!(!rules.contains("10.244."), "{rules}");
        assert!(rules.contains("10.245.0.0/16"), "{rules}");
    }
}

/// In both flavours, whichever was in use.
#[scenario]
fn cleanup_removes_iptables_rules_of_both_flavours() {
    let mut cluster = cluster(1, super::DUAL, NFT);
    cluster.stop(1);
    let host = cluster.host(1);
    as_go_flanneld(host, LEGACY, "10.244.177.0/24");
    host.sh("iptables-legacy -A FORWARD -s 192.0.2.7 -j DROP");
    let report = clean_up(host);
    for line in [
        "removed iptables masquerade rules of an earlier flanneld",
        "removed iptables masquerade rules of an earlier flanneld (IPv6)",
        "removed iptables forward rules of an earlier flanneld",
    ] {
        assert!(report.contains(line), "{line} in\n{report}");
    }
    for flavour in [NFT, LEGACY] {
        let rules = saved(host, flavour);
        assert!(lines(&rules, true).is_empty(), "{rules}");
    }
    assert!(saved(host, LEGACY).contains("-A FORWARD -s 192.0.2.7/32 -j DROP"));
    assert!(saved(host, NFT).contains("-A INPUT -s 192.0.2.9/32 -j ACCEPT"));
    let again = clean_up(host);
    assert!(!again.contains("removed"), "{again}");
}

/// Two daemons of one host share no chain. The one in nftables leaves the other's chains.
#[scenario]
fn second_daemon_has_chains_of_its_own() {
    let mut cluster = cluster(1, V4, NFT);
    let first = saved(cluster.host(1), NFT);
    for (flavour, on) in [("iptables", false), ("nftables", true)] {
        let net_conf = format!(
            r#"{{"Network":"10.245.0.0/16","EnableNFTables":{on},"Backend":{{"Type":"vxlan","VNI":7}}}}"#
        );
        let host = cluster.host(1);
        host.write("/run/second.json", &net_conf);
        let mut command = Command::new(program("flanneld"));
        command.args([
            "-listen=127.0.0.1:9999",
            "-store=/run/second/leases.redb",
            "-net-config-path=/run/second.json",
            "-subnet-file=/run/second/subnet.env",
            "-state-file=/run/second/node.json",
            "-ip-masq",
        ]);
        let second = host.spawn(command);
        eventually(
            &format!("the second has rules in {flavour}"),
            TIMEOUT,
            || {
                let rules = host.sh("nft list ruleset");
                let has = |text: &str| rules.contains(text);
                let own = (
                    has("FLANNEL-MASQ-flannel.7"),
                    has("table ip flannel-ipv4-flannel.7"),
                );
                (own == (!on, on) && has("10.245.0.0/16")).then_some(())
            },
        );
        let rules = saved(host, NFT);
        for line in first.lines().filter(|line| line.contains("FLANNEL")) {
            assert!(
                rules.lines().any(|found| found == line),
                "{line} in\n{rules}"
            );
        }
        drop(second);
    }
    let host = cluster.host(1);
    assert!(!saved(host, NFT).contains("FLANNEL-MASQ"));
    cluster.stop(1);
    let host = cluster.host(1);
    clean_up(host);
    let rules = host.sh("nft list ruleset");
    assert!(!rules.to_lowercase().contains("flannel"), "{rules}");
}
