//! Rules in iptables: ours are the Go flanneld's, and each daemon takes over from the other.

use super::cluster::{Cluster, DUAL, TIMEOUT};
use tests::{Host, go_flanneld::without_etcd_and_go_flanneld, process::eventually, scenario};

/// Flannel's rules of both families as `iptables-save` lists them.
fn rules(host: &Host) -> String {
    host.sh(
        "for f in iptables ip6tables; do $f-save | grep FLANNEL | sed 's/ \\[[0-9:]*\\]//'; done",
    )
}

/// Every rule with its handle, by which one that is made anew differs.
fn handles(host: &Host) -> String {
    host.sh("nft -a list ruleset | sed 's/packets [0-9]* bytes [0-9]*//'")
}

/// Both keep the lease, so that the rules name the same subnet.
#[scenario(unless = without_etcd_and_go_flanneld)]
fn iptables_rules_of_the_go_flanneld_are_adopted_and_equal_ours() {
    let in_iptables = DUAL.replace(r#""EnableNFTables":true,"#, "");
    let mut cluster = Cluster::new(2, &in_iptables);
    cluster.start_go(1);
    cluster.start(2, &[]);
    for node in [1, 2] {
        cluster.wait_ready(node);
        cluster.make_pod(node);
    }
    // a jump and six rules, a jump and two rules, and two chains, of each family
    let of_go = eventually("the rules of the Go flanneld", TIMEOUT, || {
        let rules = rules(cluster.host(1));
        (rules.lines().count() == 24).then_some(rules)
    });
    cluster.all_ping(&[1, 2]);
    let before = handles(cluster.host(1));
    let pings = cluster.ping(1, 2);
    cluster.stop(1);
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    assert_eq!(handles(cluster.host(1)), before, "nothing is made anew");
    cluster.host(1).sh("nft flush ruleset");
    eventually("the rules are restored", TIMEOUT, || {
        (rules(cluster.host(1)) == of_go).then_some(())
    });
    cluster.stop(1);
    cluster.start_go(1);
    cluster.wait_ready(1);
    eventually("the Go flanneld has its rules again", TIMEOUT, || {
        (rules(cluster.host(1)) == of_go).then_some(())
    });
    // and to nftables
    cluster.stop(1);
    cluster.etcd.put("/coreos.com/network/config", DUAL);
    cluster.start(1, &[]);
    cluster.wait_ready(1);
    let ruleset = cluster.host(1).sh("nft list ruleset");
    assert!(
        ruleset.contains("table ip flannel-ipv4") && !ruleset.contains("FLANNEL"),
        "{ruleset}"
    );
    cluster.all_ping(&[1, 2]);
    pings.lose_nothing();
}
