//! Healing: the time from a command that takes away what flanneld made until `ip` and `nft` show it
//! again, with what these take to start. Go flannel restores routes of host-gw and ipip after 10 s,
//! rules after 5 s, and nothing else.

use super::datapath::Pair;
use crate::{
    contender::Contender,
    measure::{Measure, Unit},
};
use std::{
    thread,
    time::{Duration, Instant},
};
use tests::{Host, process::eventually};

/// Samples of the other measures for each round of these.
const SAMPLES_PER_ROUND: usize = 4;
const LIMIT: Duration = Duration::from_secs(30);
/// A data path's process that ends again within this time is started later.
const PROVING_TIME: Duration = Duration::from_secs(6);

/// The name, the JSON of `Backend`, and the device that is there for IPv4.
type Network = (&'static str, &'static str, Option<&'static str>);

const NETWORKS: &[Network] = &[
    ("vxlan", r#"{"Type":"vxlan"}"#, Some("flannel.1")),
    ("host-gw", r#"{"Type":"host-gw"}"#, None),
    ("udp", r#"{"Type":"udp"}"#, Some("flannel0")),
    (
        "wireguard in user space",
        r#"{"Type":"wireguard","Userspace":true}"#,
        Some("flannel-wg"),
    ),
];

pub(super) fn run(_contenders: &[Contender], rounds: usize) -> Vec<Measure> {
    let rounds = rounds.div_ceil(SAMPLES_PER_ROUND);
    let measures = NETWORKS.iter().filter_map(|network| of(network, rounds));
    measures.collect()
}

fn of((name, config, device): &Network, rounds: usize) -> Option<Measure> {
    let pair = match Pair::ours(config) {
        Ok(pair) => pair,
        Err(reason) => {
            println!("{name} left out: flanneld ended: {reason}");
            return None;
        }
    };
    let mut measure = Measure::new(format!("healing: {name}"), Unit::Ms);
    let host = &pair.underlay.hosts[0];
    for _ in 0..rounds {
        measure.add_time("routes", healing(host, *device, "ip route flush proto 70"));
        measure.add_time(
            "nftables rules",
            healing(host, *device, "nft flush ruleset"),
        );
        let Some(name) = device else {
            continue;
        };
        let address = format!("ip -4 addr flush dev {name}");
        measure.add_time("address", healing(host, *device, &address));
        thread::sleep(PROVING_TIME);
        let link = format!("ip link delete {name}");
        measure.add_time("device", healing(host, *device, &link));
    }
    Some(measure)
}

fn healing(host: &Host, device: Option<&str>, fault: &str) -> Duration {
    // without the index and the state of the link, which a new device has of its own
    let addresses =
        device.map(|name| format!("ip -4 -br addr show dev {name} | awk '{{ print $1, $3 }}';"));
    let show = format!(
        "ip route show proto 70; {} nft list ruleset",
        addresses.unwrap_or_default()
    );
    let shown = || host.try_sh(&show).stdout;
    let before = shown();
    host.sh(fault);
    let start = Instant::now();
    eventually(fault, LIMIT, || (shown() == before).then_some(()));
    start.elapsed()
}
