//! The test hosts themselves.

use tests::{Host, Underlay, scenario, underlay};

#[scenario]
fn hosts_and_pods_share_no_link_and_no_file() {
    let (a, b) = (Host::new("a"), Host::new("b"));
    a.sh("ip link add only-here type bridge && touch /run/only-here");
    assert!(!b.try_sh("ip link show only-here").status.success());
    assert!(!b.try_sh("ls /run/only-here").status.success());
    let pod = a.pod("p");
    assert!(!pod.try_sh("ip link show only-here").status.success());
    a.sh("ip netns list | grep -x p");
}

#[scenario]
fn hosts_reach_each_other_over_the_underlay() {
    let net = Underlay::new(2);
    net.hosts[0].sh(&format!("ping -c1 -W2 {}", underlay::ip(2)));
    net.hosts[1].sh(&format!("ping -c1 -W2 {}", underlay::ip6(1)));
}
