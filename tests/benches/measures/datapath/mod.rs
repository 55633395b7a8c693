//! Packets from pod to pod: throughput with one and with eight TCP streams, latency, and processor
//! time per gigabyte, beside the way between their hosts, the same devices made by hand, and the
//! programs of others. Each way has hosts of its own; all of them take turns in each round.

mod by_hand;
mod pair;
mod traffic;

use crate::{
    contender::{Contender, OURS},
    measure::{Measure, Unit},
};
use pair::{Pair, Place};
use tests::{go_flanneld::without_etcd_and_go_flanneld, peers::without_program};

const HOSTS: &str = "host to host";
const BY_HAND: &str = "by hand";
const GO: &str = "go flanneld 0.28.10";
/// Samples of the other measures for each round of these, which take longer.
const SAMPLES_PER_ROUND: usize = 8;

/// A backend, and what is measured beside it.
struct Backend {
    name: &'static str,
    /// JSON of `Backend`.
    config: &'static str,
    /// The reason to leave it out.
    unless: fn() -> Option<String>,
    /// Makes the devices of ours by hand, on other hosts.
    by_hand: Option<fn(&Pair)>,
    /// The Go flanneld moves the packets itself.
    beside_go: bool,
}

const VXLAN: Backend = Backend {
    name: "vxlan",
    config: r#"{"Type":"vxlan"}"#,
    unless: || None,
    by_hand: Some(by_hand::vxlan),
    beside_go: false,
};

const HOST_GW: Backend = Backend {
    name: "host-gw",
    config: r#"{"Type":"host-gw"}"#,
    unless: || None,
    by_hand: Some(by_hand::host_gw),
    beside_go: false,
};

pub(super) fn vxlan(_contenders: &[Contender], rounds: usize) -> Vec<Measure> {
    VXLAN.run(rounds)
}

pub(super) fn host_gw(_contenders: &[Contender], rounds: usize) -> Vec<Measure> {
    HOST_GW.run(rounds)
}

impl Backend {
    fn run(&self, rounds: usize) -> Vec<Measure> {
        let reason = without_program("iperf3", "iperf3").or_else(self.unless);
        if let Some(reason) = reason {
            println!("{} left out: {reason}", self.name);
            return Vec::new();
        }
        let ours = Pair::ours(self.config);
        let by_hand = self.by_hand.map(|devices| Pair::by_hand(&ours, devices));
        let go = self.go();
        let mut ways = vec![(OURS, ours.pods()), (HOSTS, ours.hosts())];
        ways.extend(by_hand.iter().map(|pair| (BY_HAND, pair.pods())));
        ways.extend(go.iter().map(|pair| (GO, pair.pods())));
        self.measure(&ways, rounds.div_ceil(SAMPLES_PER_ROUND))
    }

    fn go(&self) -> Option<Pair> {
        if !self.beside_go {
            return None;
        }
        match without_etcd_and_go_flanneld() {
            None => Some(Pair::go(self.config)),
            Some(reason) => {
                println!("{GO} left out: {reason}");
                None
            }
        }
    }

    fn measure(&self, ways: &[(&str, [Place<'_>; 2])], rounds: usize) -> Vec<Measure> {
        let measure = |what: &str, unit| Measure::new(format!("{}: {what}", self.name), unit);
        let mut one = measure("one TCP stream", Unit::MbitPerSecond);
        let mut eight = measure("eight TCP streams", Unit::MbitPerSecond);
        let mut cost = measure(
            "processor time per GB, eight TCP streams",
            Unit::SecondsPerGb,
        );
        let mut latency = measure("TCP request and answer", Unit::Us);
        for _ in 0..rounds {
            for (name, [from, to]) in ways {
                one.add(name, traffic::stream(from, to, 1).mbit_per_second);
                let streams = traffic::stream(from, to, 8);
                eight.add(name, streams.mbit_per_second);
                cost.add(name, streams.seconds_per_gb);
                for time in traffic::round_trips(from, to) {
                    latency.add(name, time.as_secs_f64() * 1e6);
                }
            }
        }
        vec![one, eight, cost, latency]
    }
}
