//! Rules that somebody deletes, doubles or reorders are restored; those of others are left alone.

use super::{DUAL, LEGACY, NFT, TIMEOUT, V4, cluster, is_restored, lines, saved};
use packet_filter::{Family, Nft};
use std::time::{Duration, Instant};
use tests::{Host, process::eventually, scenario};

/// The documented limit of the nftables flavour.
const RESTORE_TIMEOUT: Duration = Duration::from_millis(100);

const JUMP: &str = "-m comment --comment 'flanneld masq' -j FLANNEL-POSTRTG";
const FORWARD: &str = "-m comment --comment 'flanneld forward' -j FLANNEL-FWD";

/// What people and programs do; `IPT` and `IP6T` stand for the programs.
const CHANGES: [&str; 15] = [
    "IPT -F; IPT -t nat -F",
    // -X fails where flanneld has been quicker
    "IPT -F; IPT -X; IPT -t nat -F; IPT -t nat -X; IP6T -F; IP6T -X; IP6T -t nat -F; IP6T -t nat -X; true",
    "IP6T -t nat -F FLANNEL-POSTRTG",
    "IPT -F FLANNEL-FWD",
    "IPT -t nat -D POSTROUTING JUMP",
    "IPT -D FORWARD FORWARDJUMP",
    // twice, and a third time with another match
    "IPT -t nat -A POSTROUTING JUMP",
    "IPT -t nat -I POSTROUTING JUMP; IPT -t nat -I POSTROUTING JUMP; IPT -I FORWARD -s 192.0.2.3 -j FLANNEL-FWD",
    // order and number
    "IPT -t nat -D FLANNEL-POSTRTG 1; IPT -t nat -A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment 'flanneld masq' -j RETURN",
    "IPT -t nat -A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment 'flanneld masq' -j RETURN",
    "IPT -t nat -I FLANNEL-POSTRTG -j RETURN",
    "IPT -I FLANNEL-FWD -j DROP",
    "IPT -R FLANNEL-FWD 1 -s 10.245.0.0/16 -m comment --comment 'flanneld forward' -j ACCEPT",
    // firewalld with its backend iptables, at a reload
    "for t in filter nat mangle raw; do IPT-restore <<END\n*$t\nCOMMIT\nEND\nIP6T-restore <<END\n*$t\nCOMMIT\nEND\ndone; IPT -P FORWARD ACCEPT",
    // kube-proxy's start
    "IPT -t nat -N KUBE-POSTROUTING; IPT -t nat -I POSTROUTING -m comment --comment 'kubernetes postrouting rules' -j KUBE-POSTROUTING; \
     IPT -N KUBE-FORWARD; IPT -I FORWARD -j KUBE-FORWARD; IPT -t nat -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
];

fn command(change: &str, flavour: &str) -> String {
    change
        .replace("FORWARDJUMP", FORWARD)
        .replace("JUMP", JUMP)
        .replace("IPT-restore", &format!("iptables-{flavour}-restore"))
        .replace("IP6T-restore", &format!("ip6tables-{flavour}-restore"))
        .replace("IPT", &format!("iptables-{flavour}"))
        .replace("IP6T", &format!("ip6tables-{flavour}"))
}

#[scenario]
fn rules_in_nft_iptables_are_restored() {
    let cluster = cluster(1, DUAL, NFT);
    let host = cluster.host(1);
    let before = saved(host, NFT);
    for change in CHANGES.map(|change| command(change, NFT)) {
        host.sh(&change);
        is_restored(host, NFT, &before, &change);
    }
    for change in [
        "nft flush ruleset",
        "nft delete table ip nat",
        "nft flush table ip6 filter",
    ] {
        host.sh(change);
        is_restored(host, NFT, &before, change);
    }
}

#[scenario]
fn rules_in_legacy_iptables_are_restored_at_the_next_look() {
    let cluster = cluster(1, DUAL, LEGACY);
    let host = cluster.host(1);
    let before = saved(host, LEGACY);
    for change in CHANGES.map(|change| command(change, LEGACY)) {
        host.sh(&change);
        is_restored(host, LEGACY, &before, &change);
    }
}

/// Measured by netlink, without the cost of commands: of ten flushes, half are undone in time.
#[scenario]
fn nft_iptables_rule_is_restored_within_100_ms() {
    let cluster = cluster(1, V4, NFT);
    let host = cluster.host(1);
    let mut times: Vec<Duration> = host.run(|| {
        let mut nft = Nft::open().expect("open");
        let rules = |nft: &mut Nft| {
            nft.rules(Family::Ip, "nat", Some("FLANNEL-POSTRTG"))
                .expect("rules")
                .len()
        };
        let mut flush = || {
            let mut transaction = packet_filter::Transaction::new();
            transaction.flush_chain(Family::Ip, "nat", "FLANNEL-POSTRTG");
            nft.commit(&transaction).expect("commit");
            let start = Instant::now();
            while rules(&mut nft) != 6 {
                assert!(start.elapsed() < TIMEOUT, "the rules were never restored");
                std::thread::sleep(Duration::from_millis(1));
            }
            start.elapsed()
        };
        (0..10).map(|_| flush()).collect()
    });
    times.sort();
    println!("{times:?}");
    assert!(times[5] < RESTORE_TIMEOUT, "{times:?}");
}

/// Of both flavours: every rule of another program is byte for byte as it was, in its order.
#[scenario]
fn rules_of_others_stay_as_they_are() {
    for flavour in [NFT, LEGACY] {
        let mut cluster = super::Cluster::idle(1, V4);
        let host = cluster.host(1);
        host.sh(&command(
            "IPT -t nat -A POSTROUTING -s 192.0.2.7 -j ACCEPT; IPT -A FORWARD -s 192.0.2.7 -j DROP; \
             IPT -P FORWARD DROP; IPT -t nat -N MINE; IPT -t nat -A MINE -m comment --comment '-j FLANNEL-POSTRTG' -j RETURN; \
             IPT -t nat -A POSTROUTING -m comment --comment 'a \"quoted\" -j X' -j MINE; IPT -t mangle -A PREROUTING -j MARK --set-mark 7",
            flavour,
        ));
        let others = |host: &Host| {
            let saved = saved(host, flavour);
            let is_ours = |line: &&str| line.contains("flanneld ") || line.starts_with(":FLANNEL");
            let others: Vec<_> = saved.lines().filter(|line| !is_ours(line)).collect();
            others.join("\n")
        };
        let before = others(host);
        cluster.start(1, &[super::RESYNC]);
        cluster.wait_ready(1);
        let host = cluster.host(1);
        assert_eq!(others(host), before);
        let all = saved(host, flavour);
        host.sh(&command("IPT -t nat -D POSTROUTING JUMP", flavour));
        is_restored(host, flavour, &all, "the jump is deleted");
        assert_eq!(others(host), before);
        cluster.stop(1);
        super::leftovers::clean_up(cluster.host(1));
        assert_eq!(others(cluster.host(1)), before);
        assert!(!saved(cluster.host(1), flavour).contains("flanneld "));
    }
}

/// While the daemon heals, another program writes its own rules as kube-proxy does: it never waits
/// long, and all of its rules are there.
#[scenario]
fn concurrent_writers_are_not_kept_waiting() {
    for flavour in [NFT, LEGACY] {
        let cluster = cluster(1, V4, flavour);
        let host = cluster.host(1);
        let before = saved(host, flavour);
        host.sh(&format!("iptables-{flavour} -t nat -N MINE"));
        let mut longest = Duration::ZERO;
        for number in 0..60 {
            if number % 3 == 0 {
                host.sh(&command("IPT -w -t nat -F FLANNEL-POSTRTG", flavour));
            }
            let start = Instant::now();
            host.sh(&format!(
                "printf '*nat\\n-A MINE -p tcp --dport {} -j RETURN\\nCOMMIT\\n' | iptables-{flavour}-restore --noflush -w 5",
                1000 + number
            ));
            longest = longest.max(start.elapsed());
        }
        println!("{flavour}: {longest:?}");
        assert!(longest < Duration::from_secs(2), "{flavour}: {longest:?}");
        is_restored(host, flavour, &before, "the last flush");
        let saved = saved(host, flavour);
        let mine = saved.lines().filter(|line| line.starts_with("-A MINE "));
        assert_eq!(mine.count(), 60);
        assert!(!lines(&saved, true).is_empty());
    }
}

/// A daemon whose rules are in place starts a process only when its own chains change: other
/// programs change theirs all the time.
#[scenario]
fn rules_of_others_cost_no_process() {
    let mut cluster = super::Cluster::idle(1, V4);
    cluster.host(1).sh(
        "mkdir /run/bin && for f in iptables-nft-save iptables-nft-restore ip6tables-nft-save ip6tables-nft-restore; do \
         printf '#!/bin/sh\\necho $0 >> /run/ran\\nexec '$(command -v $f)' \"$@\"\\n' > /run/bin/$f; chmod +x /run/bin/$f; done",
    );
    let path = format!("/run/bin:{}", std::env::var("PATH").expect("PATH"));
    cluster.start_with(1, &[], &[("PATH", &path)]);
    cluster.wait_ready(1);
    let host = cluster.host(1);
    let settled = || {
        let ran = host.sh("cat /run/ran");
        std::thread::sleep(Duration::from_millis(500));
        (host.sh("cat /run/ran") == ran).then_some(ran)
    };
    let ran = eventually("it has settled", TIMEOUT, settled);
    assert!(!ran.contains("ip6tables-nft-restore"), "{ran}");
    host.sh(
        "iptables-nft -t nat -N KUBE-SERVICES && for port in $(seq 1000 1030); do \
         iptables-nft -t nat -A KUBE-SERVICES -p tcp --dport $port -j RETURN; done; iptables-nft -t nat -F KUBE-SERVICES",
    );
    host.sh("ip link set flannel.1 mtu 1300");
    eventually("a pass is over", TIMEOUT, || {
        host.sh("ip link show flannel.1")
            .contains("mtu 1450")
            .then_some(())
    });
    let after = eventually("it has settled again", TIMEOUT, settled);
    // the pass reads the rules, as there is a new generation
    let further = after.lines().count() - ran.lines().count();
    assert!(further <= 4, "{further} processes:\n{after}");
}
