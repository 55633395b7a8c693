//! From iptables to nftables and back while packets pass: none is lost, no rule is left behind, and
//! at no moment is there none.

use super::{LEGACY, NFT, TIMEOUT, V4, cluster, lines, saved};
use nix::sys::signal::Signal;
use std::process::Command;
use tests::{Pings, process::eventually, scenario, underlay};

fn with_nftables(on: bool) -> String {
    V4.replace(
        r#""Backend""#,
        &format!(r#""EnableNFTables":{on},"Backend""#),
    )
}

#[scenario]
fn switch_under_traffic_loses_no_packet_in_nft_iptables() {
    switch_under_traffic(NFT);
}

#[scenario]
fn switch_under_traffic_loses_no_packet_in_legacy_iptables() {
    switch_under_traffic(LEGACY);
}

/// Pings go to a pod of the other node and, masqueraded, to a host outside of the network, which
/// has no route back to the pod.
fn switch_under_traffic(flavour: &str) {
    let mut cluster = cluster(2, V4, flavour);
    let pods = [(1, cluster.pod(1)), (2, cluster.pod(2))];
    cluster.ping_all(&pods);
    drop(pods);
    let peer = cluster.pod_ips(2).remove(0);
    let pings = Pings::to(cluster.host(1), &[peer.as_str(), underlay::GATEWAY]);
    for on in [true, false, true, false] {
        let watch = watch_rules(&cluster, flavour);
        cluster.host(1).sh(&format!(
            "echo '{}' > /run/net-conf.json",
            with_nftables(on)
        ));
        cluster.daemon(1).signal(Signal::SIGHUP);
        for node in [1, 2] {
            let host = cluster.host(node);
            eventually(
                &format!("node {node} has switched to {on}"),
                TIMEOUT,
                || {
                    let in_iptables = !lines(&saved(host, flavour), true).is_empty();
                    let in_nftables = host.sh("nft list tables").contains("flannel-ipv4");
                    ((in_iptables, in_nftables) == (!on, on)).then_some(())
                },
            );
        }
        drop(watch);
        let gap = cluster.host(1).sh("cat /run/gap 2>/dev/null || true");
        assert_eq!(gap, "", "a moment without rules, to {on}");
    }
    pings.lose_nothing();
}

/// Looks at the rules all the time, and writes /run/gap at a moment without any. The rules of the
/// nftables flavour and those of nftables are in one listing.
fn watch_rules(cluster: &super::Cluster, flavour: &str) -> tests::Process {
    let legacy = match flavour {
        LEGACY => "iptables-legacy-save -t nat; ",
        _ => "",
    };
    // legacy first and last: rules that move from the one to the other are seen in either
    let script = format!(
        "while :; do {{ {legacy} nft list ruleset; {legacy} }} > /run/look; \
         grep -q -e 'jump FLANNEL-POSTRTG' -e '-j FLANNEL-POSTRTG' -e 'masquerade' /run/look || cat /run/look > /run/gap; done"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    cluster.host(1).spawn(command)
}

/// At a restart, too.
#[scenario]
fn restart_under_the_other_packet_filter_leaves_no_stale_rule() {
    for flavour in [NFT, LEGACY] {
        let mut cluster = cluster(1, V4, flavour);
        for on in [true, false, true] {
            cluster.stop(1);
            cluster.host(1).sh(&format!(
                "echo '{}' > /run/net-conf.json",
                with_nftables(on)
            ));
            cluster.start(1, &[]);
            cluster.wait_ready(1);
            let host = cluster.host(1);
            let in_nftables = host.sh("nft list tables").contains("flannel-ipv");
            let in_iptables = [NFT, LEGACY].map(|of| !lines(&saved(host, of), true).is_empty());
            let expected = [flavour == NFT && !on, flavour == LEGACY && !on];
            assert_eq!((in_nftables, in_iptables), (on, expected), "{flavour} {on}");
        }
    }
}

/// As by `update-alternatives` on a host whose programs have no names with a flavour.
#[scenario]
fn rules_follow_iptables_to_the_other_flavour() {
    let mut cluster = super::Cluster::idle(1, V4);
    let host = cluster.host(1);
    let link = |flavour: &str| {
        format!(
            "for f in iptables ip6tables; do for p in '' -save -restore; do \
             ln -sf xtables-{flavour}-multi /run/sbin/$f$p; done; done"
        )
    };
    host.sh(&format!(
        "mkdir /run/sbin && cp -L $(command -v nft) /usr/sbin/xtables-*-multi /run/sbin && {} \
         && mount --bind /run/sbin /usr/sbin",
        link(NFT)
    ));
    cluster.start(1, &[super::RESYNC]);
    cluster.wait_ready(1);
    let host = cluster.host(1);
    let count = |flavour: &str| {
        let save = format!("xtables-{flavour}-multi iptables-save | grep -c FLANNEL || true");
        host.sh(&save).trim().parse::<usize>().expect("a number")
    };
    let of_nft = count(NFT);
    assert_eq!((of_nft > 0, count(LEGACY)), (true, 0));
    // chains of the legacy flavour stay where no name leads to its programs
    for (flavour, other, are_alone) in [(LEGACY, NFT, true), (NFT, LEGACY, false)] {
        host.sh(&link(flavour));
        // what is deleted there comes back here
        host.sh(&format!("xtables-{other}-multi iptables -t nat -F"));
        for change in ["true", "iptables -F; iptables -t nat -F"] {
            host.sh(change);
            let what = format!("the rules are in {flavour} after `{change}`");
            eventually(&what, TIMEOUT, || {
                let gone = !are_alone || count(other) == 0;
                (count(flavour) == of_nft && gone).then_some(())
            });
        }
    }
}
