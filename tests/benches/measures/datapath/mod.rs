//! Packets from pod to pod: throughput with one and with eight TCP streams, latency, and processor
//! time per gigabyte, beside the way between their hosts, the same devices made by hand, and the
//! programs of others. Each way has hosts of its own; all of them take turns in each round.

mod by_hand;
mod pair;
mod processors;
mod traffic;

use crate::{
    contender::{Contender, OURS, rotation},
    measure::{Measure, Unit},
};
pub(super) use pair::Pair;
use pair::{ByHand, Place};
use tests::{
    go_flanneld::without_etcd_and_go_flanneld,
    kernel::{without_ipip, without_wireguard},
    peers::{built_from_go, without_program},
};

const HOSTS: &str = "host to host";
const GO: &str = "go flanneld 0.28.10";
/// Samples of the other measures for each round of these, which take longer.
const SAMPLES_PER_ROUND: usize = 4;

/// A backend, and what is measured beside it.
struct Backend {
    name: &'static str,
    /// JSON of `Backend`.
    config: &'static str,
    /// The reason to leave it out.
    unless: fn() -> Option<String>,
    /// Ways that are made without flanneld, on other hosts: their names, and the reasons to leave
    /// them out.
    others: &'static [Other],
    /// The Go flanneld moves the packets itself.
    beside_go: bool,
}

struct Other {
    name: &'static str,
    unless: fn() -> Option<String>,
    make: ByHand,
}

/// The same devices, made by hand.
const fn by_hand(make: ByHand) -> Other {
    Other {
        name: "by hand",
        unless: || None,
        make,
    }
}

const VXLAN: Backend = Backend {
    name: "vxlan",
    config: r#"{"Type":"vxlan"}"#,
    unless: || None,
    others: &[by_hand(by_hand::vxlan)],
    beside_go: false,
};

const HOST_GW: Backend = Backend {
    name: "host-gw",
    config: r#"{"Type":"host-gw"}"#,
    unless: || None,
    others: &[by_hand(by_hand::host_gw)],
    beside_go: false,
};

const IPIP: Backend = Backend {
    name: "ipip",
    config: r#"{"Type":"ipip"}"#,
    unless: without_ipip,
    others: &[by_hand(by_hand::ipip)],
    beside_go: false,
};

const WIREGUARD: Backend = Backend {
    name: "wireguard",
    config: r#"{"Type":"wireguard"}"#,
    unless: without_wireguard,
    others: &[by_hand(by_hand::wireguard)],
    beside_go: false,
};

const WIREGUARD_IN_USER_SPACE: Backend = Backend {
    name: "wireguard in user space",
    config: r#"{"Type":"wireguard","Userspace":true}"#,
    unless: || None,
    others: &[Other {
        name: "wireguard-go",
        unless: || built_from_go("wireguard-go").err(),
        make: by_hand::wireguard_go,
    }],
    beside_go: false,
};

const UDP: Backend = Backend {
    name: "udp",
    config: r#"{"Type":"udp"}"#,
    unless: || None,
    others: &[],
    beside_go: true,
};

pub(super) fn vxlan(_contenders: &[Contender], rounds: usize) -> Vec<Measure> {
    VXLAN.run(rounds)
}

pub(super) fn host_gw(_contenders: &[Contender], rounds: usize) -> Vec<Measure> {
    HOST_GW.run(rounds)
}

pub(super) fn ipip(_contenders: &[Contender], rounds: usize) -> Vec<Measure> {
    IPIP.run(rounds)
}

pub(super) fn udp(_contenders: &[Contender], rounds: usize) -> Vec<Measure> {
    UDP.run(rounds)
}

/// In the kernel where it can, and in user space.
pub(super) fn wireguard(_contenders: &[Contender], rounds: usize) -> Vec<Measure> {
    let backends = [WIREGUARD, WIREGUARD_IN_USER_SPACE].into_iter();
    backends.flat_map(|backend| backend.run(rounds)).collect()
}

impl Backend {
    fn run(&self, rounds: usize) -> Vec<Measure> {
        let reason = without_program("iperf3", "iperf3").or_else(self.unless);
        if let Some(reason) = reason {
            println!("{} left out: {reason}", self.name);
            return Vec::new();
        }
        let ours = match Pair::ours(self.config) {
            Ok(ours) => ours,
            Err(reason) => {
                println!("{} left out: flanneld ended: {reason}", self.name);
                return Vec::new();
            }
        };
        let others = self.others.iter().filter(|other| other.is_possible());
        let others: Vec<_> = others
            .map(|other| (other.name, Pair::by_hand(&ours, other.make)))
            .collect();
        let go = self.go();
        let mut ways = vec![(OURS, ours.pods()), (HOSTS, ours.hosts())];
        ways.extend(others.iter().map(|(name, pair)| (*name, pair.pods())));
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
        for round in 0..rounds {
            for (name, [from, to]) in rotation(round, ways.len()).map(|way| &ways[way]) {
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

impl Other {
    fn is_possible(&self) -> bool {
        let reason = (self.unless)();
        if let Some(reason) = &reason {
            println!("{} left out: {reason}", self.name);
        }
        reason.is_none()
    }
}
