//! Peers that no host is, and what a host shows of them.

use crate::kubernetes::cluster::{Flanneld, TIMEOUT};
use std::{
    thread,
    time::{Duration, Instant},
};
use tests::{Host, kubernetes::Node};

pub(super) const ROUTES: &str = "ip route show dev flannel.1";
pub(super) const FDB: &str = "bridge fdb show dev flannel.1";
pub(super) const PREFIX: &str = "flannel.alpha.coreos.com";

/// Peer N (from 1), at 172.31.0.(100 + N).
pub(super) fn peer(number: usize) -> Node {
    Node::new(&format!("peer{number}"))
        .pod_cidrs(&[&subnet(number)])
        .vxlan_peer(&public_ip(number), &mac(number))
}

pub(super) fn subnet(number: usize) -> String {
    format!("10.244.{}.0/24", 100 + number)
}

pub(super) fn public_ip(number: usize) -> String {
    format!("172.31.0.{}", 100 + number)
}

pub(super) fn mac(number: usize) -> String {
    format!("0e:00:00:00:00:{number:02x}")
}

/// Waits until a command on a host shows each text that is to be shown, and none of the others.
#[track_caller]
pub(super) fn wait_shown(host: &Host, daemon: &Flanneld, command: &str, texts: &[(&str, bool)]) {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let output = host.sh(command);
        let wrong = texts
            .iter()
            .find(|(text, shown)| output.contains(text) != *shown);
        let Some((text, shown)) = wrong else {
            return;
        };
        assert!(
            Instant::now() < deadline,
            "{}: `{command}` shows {text}: not {shown}\n{output}\n{}",
            host.name,
            daemon.output()
        );
        thread::sleep(Duration::from_millis(20));
    }
}
