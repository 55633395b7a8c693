//! Pings between pods that run while something else happens.

use crate::{Host, Process, kernel::is_virtual_machine, process::eventually, subnet_env};
use jiff::Timestamp;
use nix::sys::signal::Signal;
use std::{collections::BTreeSet, process::Command, time::Duration};

/// Seconds between two pings.
const INTERVAL: &str = "0.02";
/// The same for pings among all pods in a virtual machine: its processors are emulated, and more
/// packets leave the programs under test no time.
const INTERVAL_OF_MANY_IN_EMULATION: &str = "0.1";

/// [`Pings::end`] waits for so many more answers from each address: those of a second, if one is
/// sent every [`INTERVAL`].
const MORE: usize = 50;

/// The last pings that count are older than so many answers: one may be overtaken by others.
const LATE: usize = 25;

const TIMEOUT: Duration = Duration::from_secs(30);

/// [`Pings`] run once each address has answered so many.
const FIRST: usize = 3;

/// Pings, one every [`INTERVAL`] to each address, that run until they are counted. The first ones
/// do not count: of two that pass a host's connection tracking on two processors before it knows
/// the connection, the kernel drops one (`nf_ct_resolve_clash`: ICMP allows no clash).
#[must_use]
pub struct Pings(Vec<Running>);

/// Pings to one address.
struct Running {
    path: String,
    process: Process,
    /// The number of the last one that does not count.
    uncounted: usize,
}

/// Starts pings from the pod of a host to each address. Returns each path with its program.
fn start(interval: &str, from: &Host, addresses: &[impl AsRef<str>]) -> Vec<(String, Process)> {
    let start = |address: &str| {
        let mut command = Command::new("ip");
        command.args([
            "netns", "exec", "pod", "ping", "-n", "-D", "-i", interval, address,
        ]);
        let path = format!("from the pod of {} to {address}", from.name);
        (path, from.spawn(command))
    };
    addresses.iter().map(AsRef::as_ref).map(start).collect()
}

impl Pings {
    /// From the pod of a host to each address of that of another.
    #[track_caller]
    pub fn start(from: &Host, to: &Host) -> Pings {
        Pings::to(from, &subnet_env::pod_addresses(to))
    }

    /// From the pod of each host to each address of those of the others.
    #[track_caller]
    pub fn among(hosts: &[Host]) -> Pings {
        let interval = match is_virtual_machine() {
            true => INTERVAL_OF_MANY_IN_EMULATION,
            false => INTERVAL,
        };
        let pairs = hosts.iter().flat_map(|from| {
            let others = hosts.iter().filter(|to| to.name != from.name);
            others.flat_map(|to| start(interval, from, &subnet_env::pod_addresses(to)))
        });
        Pings::running(pairs.collect())
    }

    /// From the pod of a host to each address.
    #[track_caller]
    pub fn to(from: &Host, addresses: &[impl AsRef<str>]) -> Pings {
        Pings::running(start(INTERVAL, from, addresses))
    }

    /// Waits for the first answers.
    #[track_caller]
    fn running(pings: Vec<(String, Process)>) -> Pings {
        let running = pings.into_iter().map(|(path, process)| {
            let what = format!("pings {path} are answered");
            let uncounted = eventually(&what, TIMEOUT, || {
                answers(&process.output()).into_iter().nth(FIRST - 1)
            });
            Running {
                path,
                process,
                uncounted,
            }
        });
        Pings(running.collect())
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
        self.wait_for(MORE);
        let answers = |running: &Running| answers(&running.process.output());
        let last = |running: &Running| answers(running).last().copied().unwrap_or_default();
        let last: Vec<_> = self.0.iter().map(last).collect();
        self.wait_for(LATE);
        let pings = self.0.into_iter().zip(last);
        pings
            .map(|(running, last)| Count::new(running, last))
            .collect()
    }

    /// Waits for so many more answers from each address.
    #[track_caller]
    fn wait_for(&self, more: usize) {
        let answered = |running: &Running| answers(&running.process.output()).len();
        let before: Vec<_> = self.0.iter().map(answered).collect();
        for (running, before) in self.0.iter().zip(before) {
            let what = format!("pings {} are answered", running.path);
            eventually(&what, TIMEOUT, || {
                (answered(running) >= before + more).then_some(())
            });
        }
    }
}

/// What became of the pings to an address.
#[derive(Debug)]
struct Count {
    #[expect(dead_code, reason = "shown by Debug")]
    path: String,
    sent: usize,
    /// Their numbers.
    missing: Vec<usize>,
    #[expect(dead_code, reason = "shown by Debug")]
    last_answer_before: Option<Timestamp>,
}

impl Count {
    #[track_caller]
    fn new(running: Running, last: usize) -> Count {
        let Running {
            path,
            mut process,
            uncounted,
        } = running;
        process.signal(Signal::SIGINT);
        process.wait(TIMEOUT);
        let log = process.output();
        let answers = answers(&log);
        let missing = (uncounted + 1..=last).filter(|number| !answers.contains(number));
        let missing: Vec<_> = missing.collect();
        let first = missing.first();
        Count {
            path,
            sent: last.saturating_sub(uncounted),
            last_answer_before: first.and_then(|first| last_answer_before(&log, *first)),
            missing,
        }
    }
}

/// The numbers of the answered pings.
fn answers(log: &str) -> BTreeSet<usize> {
    log.lines().filter_map(answer).collect()
}

/// The number of the ping that a line of `ping -D` shows the answer to.
fn answer(line: &str) -> Option<usize> {
    let (_, rest) = line.split_once(" bytes from ")?;
    let (_, rest) = rest.split_once("icmp_seq=")?;
    rest.split(' ').next()?.parse().ok()
}

/// When the last answer came to a ping that was sent before the one of this number.
fn last_answer_before(log: &str, number: usize) -> Option<Timestamp> {
    let is_before = |line: &&str| answer(line).is_some_and(|answered| answered < number);
    let line = log.lines().rfind(is_before)?;
    let (time, _) = line.strip_prefix('[')?.split_once(']')?;
    let time = Duration::try_from_secs_f64(time.parse().ok()?).ok()?;
    Timestamp::UNIX_EPOCH.checked_add(time).ok()
}
