//! Pings between pods that run while something else happens.

use crate::{Host, Process, process::eventually, subnet_env};
use nix::sys::signal::Signal;
use std::{collections::BTreeSet, env, process::Command, time::Duration};

/// Seconds between two pings.
const INTERVAL: &str = "0.02";
/// The same for pings among all pods in a virtual machine: its processors are emulated, and more
/// packets leave the programs under test no time.
const INTERVAL_OF_MANY_IN_EMULATION: &str = "0.1";

/// [`Pings::end`] waits for so many more answers from each address: those of a second, if one is
/// sent every [`INTERVAL`].
const MORE: usize = 50;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Pings, one every [`INTERVAL`] to each address, that run until they are counted.
#[must_use]
pub struct Pings(Vec<(String, Process)>);

impl Pings {
    /// From the pod of a host to each address of that of another.
    pub fn start(from: &Host, to: &Host) -> Pings {
        Pings::to(from, &subnet_env::pod_addresses(to))
    }

    /// From the pod of each host to each address of those of the others.
    pub fn among(hosts: &[Host]) -> Pings {
        let interval = match env::var_os("IN_VIRTUAL_MACHINE") {
            Some(_) => INTERVAL_OF_MANY_IN_EMULATION,
            None => INTERVAL,
        };
        let pairs = hosts.iter().flat_map(|from| {
            let others = hosts.iter().filter(|to| to.name != from.name);
            others.flat_map(|to| Pings::every(interval, from, &subnet_env::pod_addresses(to)).0)
        });
        Pings(pairs.collect())
    }

    /// From the pod of a host to each address.
    pub fn to(from: &Host, addresses: &[impl AsRef<str>]) -> Pings {
        Pings::every(INTERVAL, from, addresses)
    }

    fn every(interval: &str, from: &Host, addresses: &[impl AsRef<str>]) -> Pings {
        let start = |address: &str| {
            let mut command = Command::new("ip");
            command.args([
                "netns", "exec", "pod", "ping", "-n", "-i", interval, address,
            ]);
            let path = format!("from the pod of {} to {address}", from.name);
            (path, from.spawn(command))
        };
        let addresses = addresses.iter().map(AsRef::as_ref);
        Pings(addresses.map(start).collect())
    }

    /// Ends them once each address has answered for another second. Returns how many were sent, and
    /// how many of these were not answered.
    #[track_caller]
    pub fn end(self) -> (usize, usize) {
        let counts = self.counts();
        let sum = |(sent, lost), count: &Count| (sent + count.sent, lost + count.missing.len());
        counts.iter().fold((0, 0), sum)
    }

    /// Ends them in the same way; fails if one was not answered.
    #[track_caller]
    pub fn lose_nothing(self) {
        self.lose_at_most(0);
    }

    /// Ends them in the same way; fails if more were not answered by one address.
    #[track_caller]
    pub fn lose_at_most(self, most: usize) {
        for count in self.counts() {
            assert!(count.missing.len() <= most, "{count:?}");
        }
    }

    #[track_caller]
    fn counts(self) -> Vec<Count> {
        let answered = |(_, ping): &(String, Process)| answers(&ping.output()).len();
        let before: Vec<_> = self.0.iter().map(answered).collect();
        for (running, before) in self.0.iter().zip(before) {
            eventually(
                &format!("pings {} are answered", running.0),
                TIMEOUT,
                || (answered(running) >= before + MORE).then_some(()),
            );
        }
        let pings = self.0.into_iter();
        pings.map(|(path, ping)| Count::new(path, ping)).collect()
    }
}

/// What became of the pings to an address. Those after the last answer do not count: an answer
/// may be on its way.
#[derive(Debug)]
struct Count {
    #[expect(dead_code, reason = "shown by Debug")]
    path: String,
    sent: usize,
    /// Their numbers.
    missing: Vec<usize>,
}

impl Count {
    #[track_caller]
    fn new(path: String, mut ping: Process) -> Count {
        ping.signal(Signal::SIGINT);
        ping.wait(TIMEOUT);
        let answers = answers(&ping.output());
        let sent = answers.last().copied().unwrap_or_default();
        let missing = (1..=sent).filter(|number| !answers.contains(number));
        Count {
            path,
            sent,
            missing: missing.collect(),
        }
    }
}

/// The numbers of the answered pings.
fn answers(log: &str) -> BTreeSet<usize> {
    let lines = log.lines().filter(|line| line.contains(" bytes from "));
    let number = |line: &str| {
        let (_, rest) = line.split_once("icmp_seq=")?;
        rest.split(' ').next()?.parse().ok()
    };
    lines.filter_map(number).collect()
}
