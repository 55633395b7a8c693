//! The engine against itself.

use super::node::{
    NAME, SOON, Served, address, eventually_pings, inside, peer, pings, stream, two,
};
use std::time::{Duration, Instant};
use tests::{Underlay, process::deadline, scenario};
use wireguard::{DeviceConfig, PresharedKey};

#[scenario]
fn packets_of_both_families_pass_over_both_families() {
    for over_ipv6 in [false, true] {
        let (underlay, _served) = two(over_ipv6);
        let [one, two] = [&underlay.hosts[0], &underlay.hosts[1]];
        pings(one, 2, "");
        pings(two, 1, "");
        // as long as the MTU, and fragments
        pings(one, 2, "-s 1372");
        pings(one, 2, "-s 20000");
    }
}

#[scenario]
fn long_streams_pass_unchanged() {
    let (underlay, served) = two(false);
    let [one, two] = [&underlay.hosts[0], &underlay.hosts[1]];
    stream(one, two, 2, 50);
    stream(two, one, 1, 5);
    let status = &served[0].device.peers()[0];
    assert!(status.sent > 100 << 20, "{status:?}");
}

#[scenario]
fn a_device_that_is_served_again_works_within_a_second() {
    let (underlay, [first, _second]) = two(false);
    let [one, two] = [&underlay.hosts[0], &underlay.hosts[1]];
    pings(two, 1, "");
    drop(first);
    two.sh(&format!("! ping -n -c 1 -W 1 {}", inside(1)[0]));
    let start = Instant::now();
    let _again = Served::start(one, 1, vec![peer(2, false)]);
    eventually_pings(two, 1, SOON);
    let elapsed = start.elapsed();
    assert!(elapsed < deadline(Duration::from_secs(1)), "{elapsed:?}");
}

#[scenario]
fn a_secret_of_one_side_lets_nothing_pass_until_the_other_has_it() {
    let (underlay, served) = two(false);
    let one = &underlay.hosts[0];
    pings(one, 2, "");
    let configure = |number: u8, other: u8| {
        let mut peer = peer(other, false);
        peer.preshared_key = Some(PresharedKey([9; 32]));
        DeviceConfig {
            private_key: super::node::key(number),
            mtu: 1420,
            peers: vec![peer],
        }
    };
    let change = |index: usize, config| {
        let changed = served[index].device.configure(config, Instant::now());
        changed.expect("few peers");
    };
    change(0, configure(1, 2));
    one.sh(&format!("! ping -n -c 2 -i 0.3 -W 1 {}", inside(2)[0]));
    assert_eq!(served[0].device.peers()[0].latest_handshake, None);
    change(1, configure(2, 1));
    eventually_pings(one, 2, SOON);
}

#[scenario]
fn senders_learn_what_is_unreachable_or_too_long() {
    let (underlay, _served) = two(false);
    let one = &underlay.hosts[0];
    for (unknown, words) in [
        ("10.244.77.1", "Destination Host Unreachable"),
        (
            "fd00:10:244:77::1",
            "Destination unreachable: Address unreachable",
        ),
    ] {
        let ping = one.try_sh(&format!("ping -n -c 1 -W 2 {unknown}"));
        let text = String::from_utf8_lossy(&ping.stdout).into_owned();
        assert!(text.contains(words), "{text}");
    }
}

#[scenario]
fn a_smaller_path_is_found_and_streams_go_on() {
    let underlay = Underlay::new(2);
    let small = underlay.put_behind_small_link(2, 1400);
    let [one, two] = [&underlay.hosts[0], &underlay.hosts[1]];
    let mut behind = peer(2, false);
    let inside_nat = tests::underlay::INSIDE_NAT.parse().expect("address");
    behind.endpoint = Some((std::net::IpAddr::V4(inside_nat), 51820).into());
    let _first = Served::start(one, 1, vec![behind]);
    let _second = Served::start(two, 2, vec![peer(1, false)]);
    address(one, NAME, 1);
    address(two, NAME, 2);
    eventually_pings(one, 2, SOON);
    stream(one, two, 2, 3);
    drop(small);
}
