//! The engine against WireGuard of other makes.

use super::node::{
    NAME, PORT, SOON, Served, address, eventually_pings, key, nets, peer, pings, stream, text,
};
use std::{process::Command, time::Duration};
use tests::{
    Host, Underlay, kernel::without_wireguard, peers::built_from_go, process::eventually, scenario,
    underlay::ip,
};

/// The device of the other make has another name: the engine's would be served by it, too.
const OTHER: &str = "wg-other";

/// Ours has a session that the other one has lost: it begins another one 15 s after a packet that
/// nothing answered (KEEPALIVE_TIMEOUT and REKEY_TIMEOUT of the WireGuard paper, 6.1).
const UNANSWERED: Duration = Duration::from_secs(30);

fn without_wireguard_go() -> Option<String> {
    let tool = tests::peers::without_program("wg", "wireguard-tools");
    tool.or_else(|| built_from_go("wireguard-go").err())
}

/// Configures the other make's device on host 2 by `wg`, with a preshared key.
fn configure(host: &Host, endpoint: bool) {
    let [v4, v6] = nets(1);
    let own = linux_net::wireguard::PrivateKey::new([2; 32]).text();
    host.write("/run/key", &own);
    host.write(
        "/run/psk",
        &linux_net::wireguard::PublicKey([7; 32]).to_string(),
    );
    let endpoint = match endpoint {
        true => format!("endpoint {}:{PORT}", ip(1)),
        false => String::new(),
    };
    host.sh(&format!(
        "wg set {OTHER} listen-port {PORT} private-key /run/key \
         peer {} preshared-key /run/psk {endpoint} allowed-ips {v4},{v6}",
        text(key(1).public())
    ));
    address(host, OTHER, 2);
}

fn ours(host: &Host) -> Served {
    let mut other = peer(2, false);
    other.preshared_key = Some(wireguard::PresharedKey([7; 32]));
    let served = Served::start(host, 1, vec![other]);
    address(host, NAME, 1);
    served
}

/// Pings and streams both ways; then ours starts again, and then the other one, as `again` does.
fn reach_each_other(underlay: &Underlay, again: impl FnOnce()) {
    let [one, two] = [&underlay.hosts[0], &underlay.hosts[1]];
    let served = ours(one);
    // the first packet is the other's: it begins a handshake, too, or uses ours
    eventually_pings(two, 1, SOON);
    pings(one, 2, "-s 1372");
    pings(two, 1, "-s 1372");
    pings(one, 2, "-s 9000");
    stream(one, two, 2, 10);
    stream(two, one, 1, 10);
    let shown = two.sh(&format!("wg show {OTHER} latest-handshakes"));
    assert!(!shown.trim_end().ends_with("\t0"), "{shown}");
    drop(served);
    let _served = ours_again(one);
    eventually_pings(two, 1, SOON);
    again();
    eventually_pings(one, 2, UNANSWERED);
}

fn ours_again(host: &Host) -> Served {
    let mut other = peer(2, false);
    other.preshared_key = Some(wireguard::PresharedKey([7; 32]));
    Served::start(host, 1, vec![other])
}

#[scenario(unless = without_wireguard_go)]
fn wireguard_go_is_reached_and_reaches() {
    let underlay = Underlay::new(2);
    let two = &underlay.hosts[1];
    let program = built_from_go("wireguard-go")
        .expect("built")
        .join("wireguard");
    let start = || {
        let mut command = Command::new(&program);
        command.args(["--foreground", OTHER]);
        let process = two.spawn(command);
        let socket = format!("test -S /var/run/wireguard/{OTHER}.sock");
        eventually("its socket", Duration::from_secs(10), || {
            two.try_sh(&socket).status.success().then_some(())
        });
        process
    };
    let process = start();
    configure(two, true);
    let mut restarted = None;
    reach_each_other(&underlay, || {
        drop(process);
        two.sh(&format!("rm -f /var/run/wireguard/{OTHER}.sock"));
        restarted = Some(start());
        // it does not know where ours is until ours speaks
        configure(two, false);
    });
    drop(restarted);
}

#[scenario(unless = without_wireguard)]
fn the_kernel_is_reached_and_reaches() {
    let underlay = Underlay::new(2);
    let two = &underlay.hosts[1];
    let make = || two.sh(&format!("ip link add {OTHER} type wireguard"));
    make();
    configure(two, true);
    reach_each_other(&underlay, || {
        two.sh(&format!("ip link del {OTHER}"));
        make();
        configure(two, false);
    });
}
